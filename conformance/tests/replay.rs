//! Counterexamples of the model, replayed over the real state machines, with real entries on a disk that forgets.
//!
//! Each file of `conformance/counterexamples/` was written by `auriga-model defects NAME --save FILE`. Its first line says
//! which defect is planted, and which rule the model saw broken: the replay must see the same, and without the defect
//! nothing.

use auriga_conformance::script::{Judged, judge};
use auriga_protocol::Defect;
use std::path::Path;

/// Defect, rule and text of each file.
fn counterexamples() -> Vec<(Defect, String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("counterexamples");
    let files = std::fs::read_dir(&folder).expect("the folder").map(|file| file.expect("a file").path());
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).expect("readable");
        let title = text.lines().next().and_then(|line| line.strip_prefix("# ")?.split_once(": "));
        let (slug, rule) = title.unwrap_or_else(|| panic!("{}: no title", path.display()));
        let defect = Defect::ALL.iter().find(|defect| defect.slug() == slug);
        (*defect.unwrap_or_else(|| panic!("{slug}: no such defect")), rule.to_owned(), text)
    };
    let mut all: Vec<_> = files.map(read).collect();
    all.sort();
    all
}

fn broken(judged: &Judged) -> Option<&str> {
    judged.broken.as_ref().map(|broken| broken.rule.as_str())
}

#[test]
fn what_the_model_found_is_found_again_by_replay() {
    let mut wrong = Vec::new();
    let all = counterexamples();
    assert!(all.len() >= 19, "only {} counterexamples", all.len());
    for (defect, rule, text) in all {
        let judged = judge(&text, None).expect("a script");
        if broken(&judged) != Some(&rule) || !judged.idle.is_empty() {
            wrong.push(format!("{}: the model saw {rule}, the replay {judged:?}", defect.slug()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_its_defect_each_counterexample_holds() {
    for (defect, _, text) in counterexamples() {
        let judged = judge(&text, Some(None)).expect("a script");
        assert_eq!(judged.broken, None, "{}", defect.slug());
    }
}

/// A defect that has nothing to do with a script leaves it alone; the right one, named from outside, is found.
#[test]
fn a_defect_may_be_planted_from_outside() {
    let (defect, rule, text) =
        counterexamples().into_iter().find(|(defect, ..)| *defect == Defect::NoFence).expect("it");
    let text = text.replace(" defects=no-fence", "");
    assert_eq!(broken(&judge(&text, None).expect("a script")), None);
    assert_eq!(broken(&judge(&text, Some(Some(defect))).expect("a script")), Some(rule.as_str()));
    assert_eq!(broken(&judge(&text, Some(Some(Defect::LsnReused))).expect("a script")), None);
}

#[test]
fn a_broken_rule_is_told_with_its_line() {
    let (_, _, text) = counterexamples().into_iter().find(|(defect, ..)| *defect == Defect::NoFence).expect("it");
    let broken = judge(&text, None).expect("a script").broken.expect("it breaks");
    assert_eq!(text.lines().nth(broken.line - 1), Some(format!("> {}", broken.command).as_str()));
    assert!(judge("> nonsense", None).is_err() && judge("> cluster 1 members=99", None).is_err());
}
