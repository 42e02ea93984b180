//! Scopes hold with their pinned counts, and every planted defect is found.

use super::defects::planted;
use super::model::GlobalModel;
use super::scopes::{self, Bounds};
use crate::checking::{self, CheckOptions};
use auriga_protocol::{Defect, Defects};
use std::collections::BTreeSet;
use std::time::Duration;

const OPTIONS: CheckOptions = CheckOptions { threads: 1, progress: false };

#[test]
fn small_scopes_hold_with_exactly_the_pinned_states() {
    for scope in scopes::scopes().into_iter().filter(|scope| scope.pinned.is_some_and(|states| states < 60_000)) {
        let verdict = scope.check(&OPTIONS);
        scope.judge(&verdict).unwrap_or_else(|wrong| panic!("{}: {wrong}", scope.name));
    }
}

#[test]
fn every_planted_defect_falls() {
    for planted in planted() {
        let verdict = checking::check(&|| planted.model(), planted.scope, &OPTIONS);
        let slug = planted.defect.slug();
        let failure = verdict.failure.unwrap_or_else(|| panic!("{slug} passes {}", planted.scope));
        println!(
            "{slug:<32} {:<24} {:>3} steps {:?} {}",
            planted.scope,
            failure.trace.lines.len(),
            verdict.elapsed,
            failure.property
        );
        assert!(verdict.elapsed < Duration::from_secs(60), "{slug} took {:?}", verdict.elapsed);
    }
}

#[test]
fn every_defect_of_these_rules_has_a_scope() {
    let planted: BTreeSet<Defect> = planted().into_iter().map(|planted| planted.defect).collect();
    let ours = Defect::ALL.iter().copied().filter(|defect| defect.rule().starts_with("R-GLOBAL-"));
    assert_eq!(planted, ours.collect());
}

#[test]
fn reductions_change_no_verdict() {
    let small = || Bounds { commits: 1, shows: &[], ..scopes::switchover_crash() };
    for defect in [None, Some(Defect::SwitchoverFenceNotDurable), Some(Defect::SwitchoverBeforeDrain)] {
        let defects = defect.map_or(Defects::NONE, Defects::plant);
        let falls = |whole_stream| {
            let make = || GlobalModel::new(Bounds { whole_stream, ..small() }, defects);
            checking::check(&make, "reductions", &OPTIONS).failure.is_some()
        };
        assert_eq!((falls(false), falls(true)), (defect.is_some(), defect.is_some()), "{defect:?}");
    }
}
