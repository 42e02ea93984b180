//! Scenarios, and random histories, against a writer and storage processes that are played.

use super::*;

const AFTER: u64 = 5_000;
const TICK: u64 = 250;

/// A storage process as it is.
struct Played {
    process: Process,
    is_up: bool,
    is_cut_from_control: bool,
    is_cut_from_writer: bool,
}

/// A group as the writer has it.
struct Group {
    /// Member, home; a joiner also has a time at which it is hydrated.
    members: Vec<(u8, SocketAddr)>,
    under_way: Vec<(u8, u8, u64)>,
    next: u8,
}

struct World {
    now: u64,
    processes: Vec<Played>,
    groups: Vec<Group>,
    healer: Healer,
    kept: Kept,
    limits: Limits,
    writer_is_up: bool,
    /// Since when each member has owed an answer.
    owed: BTreeMap<(u16, u8), u64>,
    events: Vec<Event>,
    asked: Vec<Asked>,
    violations: Vec<String>,
    /// Since when a process has been away from both.
    away: BTreeMap<String, u64>,
    hydration_ms: u64,
}

fn address(name: &str) -> SocketAddr {
    let zone = u16::from(name.as_bytes()[0] - b'a') * 10;
    let number = u16::from(name.as_bytes()[1] - b'0');
    SocketAddr::from(([127, 0, 0, 1], 1000 + zone + number))
}

impl World {
    /// The first two of each zone hold members; more are spares.
    fn new(names: &[&str], groups: u16) -> World {
        let process =
            |name: &&str| Process { name: (*name).to_owned(), az: name[..1].to_owned(), address: address(name) };
        let processes: Vec<Process> = names.iter().map(process).collect();
        let limits = Limits { enabled: true, replace_after_ms: AFTER, returned_ms: 1_000, still_ms: 2_000 };
        let homes = ["a1", "a2", "b1", "b2", "c1", "c2"];
        let members = || homes.iter().zip(0..).map(|(name, member)| (member, address(name))).collect();
        let groups = (0..groups).map(|_| Group { members: members(), under_way: Vec::new(), next: 6 }).collect();
        let played = |process| Played { process, is_up: true, is_cut_from_control: false, is_cut_from_writer: false };
        World {
            now: 0,
            healer: Healer::new(processes.clone(), limits, Kept::default()),
            processes: processes.into_iter().map(played).collect(),
            groups,
            kept: Kept::default(),
            limits,
            writer_is_up: true,
            owed: BTreeMap::new(),
            events: Vec::new(),
            asked: Vec::new(),
            violations: Vec::new(),
            away: BTreeMap::new(),
            hydration_ms: 3_000,
        }
    }

    fn at(&mut self, name: &str) -> &mut Played {
        self.processes.iter_mut().find(|played| played.process.name == name).expect("a process")
    }

    fn restart_control(&mut self) {
        let processes = self.processes.iter().map(|played| played.process.clone()).collect();
        self.healer = Healer::new(processes, self.limits, self.kept.clone());
    }

    fn run(&mut self, ms: u64) {
        let until = self.now + ms;
        while self.now < until {
            self.now += TICK;
            self.writer_goes_on();
            for index in 0..self.processes.len() {
                let played = &self.processes[index];
                let (name, address) = (played.process.name.clone(), played.process.address);
                let lives = |group: &Group| group.members.iter().filter(|(_, home)| *home == address).count();
                let segments = self.groups.iter().map(lives).sum();
                let look = match played.is_up && !played.is_cut_from_control {
                    true => Look::Serves { segments, used_bytes: 0 },
                    false => Look::Silent,
                };
                let away = !played.is_up || (played.is_cut_from_control && played.is_cut_from_writer);
                match away {
                    true => drop(self.away.entry(name.clone()).or_insert(self.now)),
                    false => drop(self.away.remove(&name)),
                }
                self.take(Input::Looked { name, look });
            }
            if self.writer_is_up {
                let view = self.view();
                self.take(Input::Viewed(view));
            }
            self.take(Input::Tick);
        }
    }

    /// Who answers the writer, and which joiners are hydrated.
    fn writer_goes_on(&mut self) {
        let now = self.now;
        let reached: BTreeSet<SocketAddr> = self
            .processes
            .iter()
            .filter(|played| played.is_up && !played.is_cut_from_writer)
            .map(|played| played.process.address)
            .collect();
        for (group, pg) in self.groups.iter_mut().zip(0..) {
            for (member, home) in &group.members {
                match reached.contains(home) {
                    true => drop(self.owed.remove(&(pg, *member))),
                    false => drop(self.owed.entry((pg, *member)).or_insert(now)),
                }
            }
            let ended: Vec<(u8, u8, u64)> = group.under_way.iter().copied().filter(|(.., at)| *at <= now).collect();
            for (old, new, _) in ended {
                let home = group.members.iter().find(|(member, _)| *member == new).expect("it joins").1;
                if reached.contains(&home) {
                    group.members.retain(|(member, _)| *member != old);
                    group.under_way.retain(|(_, joiner, _)| *joiner != new);
                }
            }
        }
    }

    fn view(&self) -> View {
        let seen = |(group, pg): (&Group, u16)| GroupSeen {
            pg,
            members: group
                .members
                .iter()
                .map(|(member, home)| MemberSeen {
                    member: *member,
                    home: *home,
                    silent_ms: self.owed.get(&(pg, *member)).map_or(0, |since| self.now - since),
                    hydrated: false,
                })
                .collect(),
            under_way: group.under_way.iter().map(|(old, new, _)| (*old, *new)).collect(),
        };
        View { asked: Millis(self.now), groups: self.groups.iter().zip(0..).map(seen).collect() }
    }

    fn take(&mut self, input: Input) {
        for action in self.healer.step(Millis(self.now), input) {
            match action {
                Action::Persist(kept) => self.kept = kept,
                Action::Log(event) => self.events.push(event),
                Action::Ask { asked, attempt } => {
                    self.asked.push(asked.clone());
                    let outcome = self.writer_does(&asked);
                    self.take(Input::Ended { attempt, outcome });
                }
            }
        }
    }

    fn writer_does(&mut self, asked: &Asked) -> Result<Option<u8>, String> {
        if !self.writer_is_up {
            return Err("not open".to_owned());
        }
        match asked {
            Asked::Replace { pg, old, home } => {
                self.judge(*pg, *old, *home);
                let group = &mut self.groups[usize::from(*pg)];
                if group.members.iter().any(|(_, other)| other == home) {
                    return Err("another member lives there".to_owned());
                }
                let new = group.next;
                group.next += 1;
                group.members.push((new, *home));
                group.under_way.push((*old, new, self.now + self.hydration_ms));
                Ok(Some(new))
            }
            Asked::Undo { pg, new } => {
                let group = &mut self.groups[usize::from(*pg)];
                group.members.retain(|(member, _)| member != new);
                group.under_way.retain(|(_, joiner, _)| joiner != new);
                Ok(None)
            }
        }
    }

    /// What the module's header promises.
    fn judge(&mut self, pg: u16, old: u8, home: SocketAddr) {
        let group = &self.groups[usize::from(pg)];
        let of = |home: SocketAddr| self.processes.iter().find(|played| played.process.address == home);
        let lives = group.members.iter().find(|(member, _)| *member == old).map(|(_, home)| *home);
        let Some(lost) = lives.and_then(of) else {
            return self.violations.push(format!("{old} is no member of group {pg}"));
        };
        let away = self.away.get(&lost.process.name).is_some_and(|since| self.now - since >= AFTER);
        // Both have been away for long enough, each from one of the two who look.
        let owed = self.owed.get(&(pg, old)).is_some_and(|since| self.now - since >= AFTER);
        if !(away || owed && lost.is_cut_from_control) {
            self.violations.push(format!("{} was replaced though it was not lost", lost.process.name));
        }
        if of(home).is_none_or(|to| to.process.az != lost.process.az) {
            self.violations.push("a member left its zone".to_owned());
        }
        if group.members.iter().any(|(_, other)| *other == home) {
            self.violations.push("two members of a group on one process".to_owned());
        }
        if group.under_way.len() >= UNDER_WAY_MAX {
            self.violations.push("three replacements at one time".to_owned());
        }
    }

    /// Whether each group has six members, each on a process that is up.
    fn is_whole(&self) -> bool {
        let up =
            |home: &SocketAddr| self.processes.iter().any(|played| played.process.address == *home && played.is_up);
        self.groups.iter().all(|group| {
            group.under_way.is_empty() && group.members.len() == 6 && group.members.iter().all(|(_, home)| up(home))
        })
    }
}

const NINE: [&str; 9] = ["a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2", "c3"];

#[test]
fn a_process_that_is_lost_is_replaced_in_its_zone_and_not_before_its_time() {
    let mut world = World::new(&NINE, 2);
    world.run(10_000);
    world.at("b1").is_up = false;
    world.run(AFTER - 500);
    assert_eq!(world.asked, []);
    world.run(10_000);
    let home = address("b3");
    let asked = [0, 1].map(|pg| Asked::Replace { pg, old: 2, home });
    assert_eq!(world.asked, asked);
    assert!(world.is_whole() && world.violations.is_empty(), "{:?}", world.violations);
    let ids: Vec<&str> = world.events.iter().map(Event::id).collect();
    assert_eq!(ids[2..], ["AURIGA-EVENT-0002"; 2]);
    assert!(world.kept.begun.is_empty());
    // The old one comes back: it has no member any more, and nothing is to be done.
    world.at("b1").is_up = true;
    world.run(10_000);
    assert_eq!(world.asked.len(), 2);
}

#[test]
fn one_view_alone_never_replaces() {
    let mut world = World::new(&NINE, 1);
    world.run(2_000);
    world.at("a1").is_cut_from_control = true;
    world.at("b1").is_cut_from_writer = true;
    world.run(60_000);
    assert_eq!(world.asked, []);
}

#[test]
fn what_was_begun_is_undone_when_the_old_one_comes_back_first_also_after_a_restart() {
    let mut world = World::new(&NINE, 1);
    world.hydration_ms = 1_000_000;
    world.run(2_000);
    world.at("c2").is_up = false;
    world.run(10_000);
    assert_eq!(world.groups[0].under_way.len(), 1);
    world.restart_control();
    world.run(5_000);
    world.at("c2").is_up = true;
    world.run(5_000);
    assert_eq!(world.asked.last(), Some(&Asked::Undo { pg: 0, new: 6 }));
    assert!(world.is_whole());
    assert_eq!(world.events.last().map(Event::id), Some("AURIGA-EVENT-0003"));
}

#[test]
fn what_a_person_began_is_left_alone() {
    let mut world = World::new(&NINE, 1);
    world.hydration_ms = 60_000;
    world.run(2_000);
    world.groups[0].members.push((6, address("a3")));
    world.groups[0].under_way.push((0, 6, 60_000));
    world.groups[0].next = 7;
    world.run(50_000);
    assert_eq!(world.asked, []);
}

#[test]
fn a_joiner_that_is_lost_too_gives_way_to_another() {
    let mut world = World::new(&["a1", "a2", "a3", "a4", "b1", "b2", "c1", "c2"], 1);
    world.hydration_ms = 8_000;
    world.run(2_000);
    world.at("a1").is_up = false;
    world.run(AFTER + 2_000);
    world.at("a3").is_up = false;
    world.run(30_000);
    assert!(world.is_whole() && world.violations.is_empty(), "{:?}", world.asked);
    assert!(world.groups[0].members.iter().any(|(_, home)| *home == address("a4")));
}

#[test]
fn a_zone_without_a_free_process_is_told_of_once_and_waits() {
    let mut world = World::new(&["a1", "a2", "b1", "b2", "c1", "c2", "c3"], 1);
    world.run(2_000);
    world.at("a1").is_up = false;
    world.run(30_000);
    assert_eq!((world.asked.len(), world.events.len()), (0, 1));
    assert_eq!(world.events[0].kind, EventKind::StorageNotReplaced("a1".to_owned()));
}

#[test]
fn an_operator_can_switch_it_off() {
    let mut world = World::new(&NINE, 1);
    world.limits.enabled = false;
    world.restart_control();
    world.at("a1").is_up = false;
    world.run(60_000);
    assert_eq!(world.asked, []);
}

#[test]
fn the_emptiest_process_takes_over() {
    let mut world = World::new(&["a1", "a2", "a3", "a4", "b1", "b2", "c1", "c2"], 3);
    world.run(2_000);
    // Of the spares, one has a member of another group.
    world.groups[2].members[1].1 = address("a3");
    world.at("a1").is_up = false;
    world.run(30_000);
    let homes: Vec<SocketAddr> = world
        .asked
        .iter()
        .filter_map(|asked| if let Asked::Replace { home, .. } = asked { Some(*home) } else { None })
        .collect();
    assert_eq!(homes[0], address("a4"));
    assert!(world.is_whole() && world.violations.is_empty(), "{:?}", world.violations);
}

/// Whatever happens, nothing is replaced without need; and once it is quiet, every group is whole.
#[test]
fn random_histories_keep_the_promises() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(&NINE, 2);
        world.hydration_ms = random.u64(500..20_000);
        for _ in 0..random.usize(1..25) {
            let name = NINE[random.usize(..NINE.len())];
            match random.u8(..10) {
                // At most one of a zone is away for good, so that there is always one to take over.
                0..3 if NINE.iter().all(|other| other[..1] != name[..1] || world.at(other).is_up) => {
                    world.at(name).is_up = false;
                }
                3..5 => world.at(name).is_up = true,
                5 => world.at(name).is_cut_from_control ^= true,
                6 => world.at(name).is_cut_from_writer ^= true,
                7 => world.writer_is_up ^= true,
                8 => world.restart_control(),
                _ => {}
            }
            world.run(random.u64(100..12_000));
        }
        world.writer_is_up = true;
        for name in NINE {
            let played = world.at(name);
            (played.is_cut_from_control, played.is_cut_from_writer) = (false, false);
        }
        world.hydration_ms = 1_000;
        world.run(120_000);
        assert_eq!(world.violations, Vec::<String>::new(), "seed {seed}");
        assert!(world.is_whole(), "seed {seed}: {:?}", world.asked);
    }
}
