//! The small scopes, complete, with their exact numbers of states. `check --scope quick` does the same for all.

use auriga_model::checking::CheckOptions;
use auriga_model::defects::hunt;
use auriga_model::registry;
use auriga_protocol::Defect;

const QUIET: CheckOptions = CheckOptions { threads: 2, progress: false };

#[test]
fn small_scopes_hold_and_have_the_pinned_number_of_states() {
    for name in ["first3", "log3-2pg", "fenced3"] {
        for scope in registry::select(name).expect("the scope exists") {
            let verdict = scope.check(&QUIET);
            assert_eq!(scope.judge(&verdict), Ok("holds"), "{name}: {} states", verdict.unique);
        }
    }
}

#[test]
fn an_acknowledgement_before_fsync_is_told_in_three_steps() {
    let hunt = hunt(Defect::AckBeforeDurable, &QUIET).expect("it has a scope");
    let failure = hunt.failure.expect("it is caught");
    assert_eq!(failure.property, "I-COPIES");
    assert_eq!(failure.trace.lines.len(), 3, "{:#?}", failure.trace.lines);
    assert!(failure.trace.lines[1].starts_with("w1@e1 → "), "{:#?}", failure.trace.lines);
}
