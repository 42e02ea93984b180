//! Keeps true what `specs/` says of the model. The cells are written by `auriga-model defects --write`.

use auriga_model::registry;
use auriga_model::specs::{CHECKS, cells, invariants_page, path};
use auriga_protocol::Defect;
use std::collections::BTreeSet;

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_invariant_names_properties_that_its_scope_checks() {
    let text = read("invariants.md");
    let rows =
        text.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next()).filter(|id| id.starts_with("I-"));
    let (rows, listed): (BTreeSet<&str>, BTreeSet<&str>) =
        (rows.collect(), CHECKS.iter().map(|(id, ..)| *id).collect());
    assert_eq!(rows, listed);
    for (id, properties, name) in CHECKS.iter().filter(|(_, properties, _)| !properties.is_empty()) {
        let scope = registry::all().into_iter().find(|scope| scope.name == *name);
        let checked = scope.unwrap_or_else(|| panic!("{id}: no scope {name}")).always();
        properties.iter().for_each(|property| assert!(checked.contains(property), "{id}: {name} lacks {property}"));
    }
    assert!(text == invariants_page(&text), "specs/invariants.md: run `auriga-model defects --write`");
}

/// A recovery after segments coalesced beyond an annulled range, two losses, a disk that is made again or put back, pages
/// on their way to another segment, and members that are changed by one writer after the other: the model has none of these.
const NOT_IN_THE_MODEL: [Defect; 21] = [
    Defect::ForgetsAboveFloors,
    Defect::LossesForgotten,
    Defect::StaleAnswerCounts,
    Defect::RecoveryDoesNotWait,
    Defect::BlankCounts,
    Defect::FoundsOnFive,
    Defect::LossAcceptedWithoutFence,
    Defect::LifeNotRegistered,
    Defect::UnregisteredLifeNotContinued,
    Defect::LifeWithoutNonce,
    Defect::LifeRegisteredWithTooFew,
    Defect::LivesNotMerged,
    Defect::HydrationAdoptsLast,
    Defect::HydrationSkipsLog,
    Defect::HydrationKeepsForgotten,
    Defect::HydrationGoesBack,
    Defect::HydrationServesMixed,
    Defect::StepIgnoresVolumeEpoch,
    Defect::MemberIdUsedAgain,
    Defect::SegmentMadeBeforeInForce,
    Defect::RetiredMemberAnswers,
];

/// What `defects.md` says was found, the other table says too; that it is found is what `defects` checks.
#[test]
fn both_tables_of_defects_say_the_same() {
    let (found, techniques) = (read("defects.md"), read("defects-by-technique.md"));
    for defect in Defect::ALL {
        let slug = defect.slug();
        if NOT_IN_THE_MODEL.contains(defect) {
            assert!(hunt_is_elsewhere(&techniques, slug), "{slug} is found by no technique");
            continue;
        }
        let row = found.lines().find(|line| line.starts_with(&format!("| `{slug}` |")));
        let row = row.unwrap_or_else(|| panic!("specs/defects.md lacks {slug}"));
        let [_, _, rule, scope, property, steps, _] = row.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        assert_eq!(rule, defect.rule());
        let cell = cells::cell(&techniques, "model", slug);
        assert_eq!(cell, Some(&*format!("{scope}: {property}, {steps} steps")), "{slug}");
    }
}

/// Returns whether the simulation, a golden script or the test of healing finds a defect that the model has no scope for.
fn hunt_is_elsewhere(techniques: &str, slug: &str) -> bool {
    let simulated = cells::cell(techniques, "simulation", slug).is_some_and(|cell| cell.contains("seed"));
    let scripts = std::fs::read_dir(path("../conformance/scripts")).expect("the scripts").flatten();
    let named = |text: String| text.contains(&format!("# Falls with {slug}."));
    let healing = slug == Defect::HydrationServesMixed.slug()
        && std::fs::read_to_string(path("../conformance/tests/healing.rs"))
            .is_ok_and(|test| test.contains("Defect::HydrationServesMixed"));
    simulated || healing || scripts.filter_map(|file| std::fs::read_to_string(file.path()).ok()).any(named)
}
