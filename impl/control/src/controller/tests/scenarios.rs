//! One thing after another goes wrong, and the outcome is known beforehand.

use super::super::{EventKind, RoleSeen};
use super::world::World;

const THREE: [(&str, &str, u8); 3] = [("w", "a", 1), ("r1", "b", 1), ("r2", "c", 1)];

#[test]
fn a_new_cluster_gets_its_first_writer_and_tells_of_no_failover() {
    let mut world = World::new(&[("w", "a", 0), ("r1", "b", 1), ("r2", "c", 1)]);
    assert!(world.until_served(3_000).is_some());
    assert_eq!((world.promoted(), world.ids()), (vec!["w"], vec![]));
}

#[test]
fn a_killed_writer_is_replaced_within_half_a_second_of_detection() {
    let mut world = World::serving(&THREE);
    world.kill("w");
    let took = world.until_served(5_000).expect("a writer");
    assert!(took <= 1_000, "{took} ms, of which 400 are the promotion's");
    world.run(500);
    assert_eq!((world.promoted(), world.ids()), (vec!["r1"], vec!["0073", "0071"]));
    assert!(world.events[0].reason.contains("w: its host refuses connections"), "{:?}", world.events);
    world.start("w");
    world.run(5_000);
    assert_eq!((world.at("w").role, world.promoted().len()), (RoleSeen::Reader, 1));
}

#[test]
fn a_frozen_writer_is_replaced_and_becomes_a_reader_when_it_wakes_up() {
    let mut world = World::serving(&THREE);
    world.at("w").is_frozen = true;
    world.run(600);
    assert!(world.promotions.is_empty(), "too early to tell");
    assert!(world.until_served(5_000).is_some());
    world.run(500);
    world.at("w").is_frozen = false;
    world.run(5_000);
    assert_eq!((world.at("w").role, world.promoted()), (RoleSeen::Reader, vec!["r1"]));
}

#[test]
fn a_writer_that_only_control_does_not_reach_is_left_alone() {
    let mut world = World::serving(&THREE);
    world.at("w").is_cut_from_control = true;
    world.run(60_000);
    assert_eq!((world.promotions.len(), world.events.len()), (0, 0));
    // When it dies for good, its readers are the ones to notice.
    world.kill("w");
    assert!(world.until_served(5_000).is_some());
    assert_eq!(world.promoted(), ["r1"]);
}

#[test]
fn a_reader_that_has_never_heard_a_writer_takes_over_last() {
    let mut world = World::serving(&THREE);
    world.kill("r1");
    world.run(1_000);
    world.kill("w");
    world.start("r1");
    assert!(world.until_served(5_000).is_some());
    assert_eq!(world.promoted(), ["r2"]);
    world.kill("r1");
    world.kill("r2");
    world.run(1_000);
    world.start("r1");
    assert!(world.until_served(10_000).is_some(), "rather than nobody");
}

#[test]
fn the_lowest_tier_then_the_largest_then_the_furthest_takes_over() {
    let mut world = World::serving(&[("w", "a", 0), ("r1", "b", 2), ("r2", "c", 1), ("r3", "c", 1)]);
    world.kill("w");
    world.until_served(5_000).expect("a writer");
    assert_eq!(world.promoted(), ["r2"], "by its name, as all else is the same");
    let mut world = World::serving(&[("w", "a", 0), ("r1", "b", 1), ("r2", "c", 1)]);
    world.at("r1").is_frozen = true;
    world.run(300);
    world.at("r1").is_frozen = false;
    world.run(300);
    world.at("r2").size = 2;
    world.restart_control();
    world.run(1_000);
    world.kill("w");
    world.until_served(5_000).expect("a writer");
    assert_eq!(world.promoted(), ["r2"], "the larger");
}

#[test]
fn a_loss_of_the_writers_zone_with_a_reader_in_it_goes_to_another_zone() {
    let mut world = World::serving(&[("w", "a", 0), ("r1", "a", 0), ("r2", "c", 5)]);
    world.kill("w");
    world.kill("r1");
    let took = world.until_served(5_000).expect("a writer");
    assert!(took <= 1_200, "{took} ms");
    world.run(200);
    assert_eq!((world.promoted(), world.ids()), (vec!["r2"], vec!["0073", "0071"]));
}

#[test]
fn who_cannot_reach_storage_is_passed_over() {
    let mut world = World::serving(&[("w", "a", 1), ("r1", "a", 1), ("r2", "c", 2)]);
    world.at("r1").is_cut_from_storage = true;
    world.kill("w");
    assert!(world.until_served(6_000).is_some());
    world.run(200);
    assert_eq!((world.promoted(), world.ids()), (vec!["r1", "r2"], vec!["0072", "0073", "0071"]));
}

#[test]
fn a_writer_that_storage_stalls_for_is_replaced_only_if_others_reach_storage() {
    let mut world = World::serving(&THREE);
    world.set_storage(false);
    world.run(30_000);
    assert!(world.promotions.is_empty(), "nobody could do better");
    world.set_storage(true);
    world.run(1_000);
    world.at("w").is_cut_from_storage = true;
    assert!(world.until_served(10_000).is_some());
    assert_eq!(world.promoted(), ["r1"]);
}

#[test]
fn a_writer_that_storage_has_come_back_for_has_a_moment_to_go_on() {
    let mut world = World::serving(&THREE);
    world.set_storage(false);
    world.run(30_000);
    world.at("w").is_cut_from_storage = true;
    world.set_storage(true);
    world.run(1_500);
    world.at("w").is_cut_from_storage = false;
    world.run(20_000);
    assert!(world.promotions.is_empty(), "it went on by itself");
}

#[test]
fn without_a_candidate_people_are_told_once_and_whoever_comes_back_is_promoted() {
    let mut world = World::serving(&THREE[..1]);
    world.kill("w");
    world.run(20_000);
    assert_eq!(world.ids(), ["0069"]);
    world.start("w");
    assert!(world.until_served(3_000).is_some());
    world.run(200);
    assert_eq!(world.ids(), ["0069", "0070", "0071"]);
}

#[test]
fn storage_that_comes_back_late_finds_somebody_who_tries() {
    let mut world = World::serving(&THREE);
    world.set_storage(false);
    world.kill("w");
    world.run(60_000);
    assert!(world.promotions.len() < 30, "{:?}", world.promotions);
    world.set_storage(true);
    assert!(world.until_served(20_000).is_some());
    world.run(200);
    assert_eq!(world.ids().last(), Some(&"0071"));
    assert_eq!(world.ids().iter().filter(|id| **id == "0069").count(), 1);
}

#[test]
fn a_planned_failover_goes_where_it_was_asked_to() {
    let mut world = World::serving(&THREE);
    assert_eq!(world.request(Some("r2")), Ok("r2".to_owned()));
    assert!(world.request(None).expect_err("one at a time").contains("under way, to r2"));
    world.run(2_000);
    assert_eq!((world.promoted(), world.ids()), (vec!["r2"], vec!["0073", "0071"]));
    assert_eq!(world.at("w").role, RoleSeen::Reader);
    let refused = |world: &mut World, to| world.request(Some(to)).expect_err("refused");
    assert_eq!(refused(&mut world, "r2"), "r2 is the writer already");
    assert!(refused(&mut world, "r9").contains("there are: w, r1, r2"));
    world.kill("r1");
    world.run(1_000);
    assert!(refused(&mut world, "r1").contains("can't take over"));
    assert_eq!(world.request(None), Ok("w".to_owned()));
    world.run(2_000);
    assert_eq!(world.at("w").role, RoleSeen::Writer);
}

#[test]
fn a_planned_failover_to_one_that_dies_is_done_by_another_or_undone() {
    let mut world = World::serving(&THREE[..2]);
    world.request(Some("r1")).expect("begun");
    world.run(100);
    world.kill("r1");
    world.run(3_000);
    assert!(world.serving_now().is_some());
    assert_eq!((world.promoted(), world.ids()), (vec!["r1", "w"], vec!["0073", "0070", "0071"]));
    let mut world = World::serving(&THREE);
    world.request(None).expect("begun");
    world.at("w").is_cut_from_control = true;
    world.run(10_000);
    assert!(world.controller.under_way().is_none() && world.serving_now().is_some());
}

#[test]
fn who_was_promoted_by_somebody_else_is_the_writer() {
    let mut world = World::serving(&THREE);
    world.kill("w");
    let events: Vec<_> = world.events.iter().map(|event| event.kind.clone()).collect();
    assert_eq!(events, Vec::<EventKind>::new());
    world.until_served(5_000).expect("a writer");
    world.restart_control();
    world.start("w");
    world.run(5_000);
    assert_eq!((world.promoted(), world.controller.kept().writer.as_deref()), (vec!["r1"], Some("r1")));
}

#[test]
fn nobody_is_promoted_while_the_region_is_a_secondary_and_somebody_once_it_is_the_primary() {
    let mut world = World::new(&THREE);
    world.instances.iter_mut().for_each(|instance| instance.is_of_secondary = true);
    world.run(60_000);
    assert_eq!((world.promotions.len(), world.ids().len()), (0, 0));
    world.instances.iter_mut().for_each(|instance| instance.is_of_secondary = false);
    assert!(world.until_served(5_000).is_some());
    // The role goes to another region: the writer is fenced, and reads.
    let promoted = world.promotions.len();
    world.instances.iter_mut().for_each(|instance| {
        (instance.is_of_secondary, instance.role) = (true, RoleSeen::Reader);
    });
    world.run(60_000);
    assert_eq!((world.promotions.len(), world.ids().len()), (promoted, 0));
}
