//! Random histories, checked against the rules of the module `controller`; and planted defects, which the checks notice.

use super::Defect;
use super::world::World;

const NAMES: [&str; 4] = ["w", "r1", "r2", "r3"];

/// Breaks and mends things at random for a while, then mends everything.
fn history(seed: u64, defect: Option<Defect>) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let count = random.usize(1..=NAMES.len());
    let azs = ["a", "b", "c"];
    let instances: Vec<(&str, &str, u8)> =
        NAMES[..count].iter().map(|name| (*name, azs[random.usize(..3)], random.u8(..3))).collect();
    let mut world = World::serving(&instances);
    if let Some(defect) = defect {
        world = world.with_defect(defect);
    }
    for _ in 0..random.usize(1..25) {
        let name = NAMES[random.usize(..count)];
        match random.u8(..16) {
            0..4 => world.kill(name),
            4..7 => world.start(name),
            7 => world.at(name).is_frozen = true,
            8 => world.at(name).is_frozen = false,
            9 => world.at(name).is_cut_from_control = true,
            10 => world.at(name).is_cut_from_control = false,
            11 => world.at(name).is_cut_from_storage ^= true,
            12 => {
                let up = random.bool();
                world.set_storage(up);
            }
            13 => world.restart_control(),
            14 => drop(world.request(Some(name))),
            _ => drop(world.request(None)),
        }
        world.run(random.u64(20..4_000));
    }
    world.set_storage(true);
    for name in &NAMES[..count] {
        let instance = world.at(name);
        (instance.is_cut_from_control, instance.is_cut_from_storage) = (false, false);
        instance.is_frozen = false;
        if !instance.is_up && random.bool() {
            world.start(name);
        }
    }
    if world.instances.iter().all(|instance| !instance.is_up) {
        world.start(NAMES[0]);
    }
    // The longest of: a promotion's limit, a demotion's, the longest pause.
    if world.until_served(60_000).is_none() {
        world.violations.push(format!("no writer in the end: {:?}", world.controller));
    }
    world.run(20_000);
    if let Some(to) = world.controller.under_way() {
        let to = to.to_owned();
        world.violations.push(format!("the failover to {to} does not end"));
    }
    world.violations
}

#[test]
fn the_rules_hold_over_random_histories() {
    for seed in 0..1_000 {
        let violations = history(seed, None);
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    }
}

#[test]
fn each_planted_defect_is_noticed() {
    let defects = [
        (Defect::IgnoreReaders, "a reader that answered heard the writer"),
        (Defect::ForgetPromotions, "another promotion was under way"),
        (Defect::TryOnce, "no writer in the end"),
        (Defect::Impatient, "was promoted"),
    ];
    for (defect, what) in defects {
        let found = (0..3_000).find(|&seed| history(seed, Some(defect)).iter().any(|text| text.contains(what)));
        assert!(found.is_some(), "{defect:?}: nothing was noticed");
    }
}
