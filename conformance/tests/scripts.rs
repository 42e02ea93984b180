//! The golden scripts: each must have exactly the effects that its file shows.

use auriga_conformance::script::{judge, replay};
use auriga_protocol::Defect;
use std::fs;
use std::path::{Path, PathBuf};

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let files = fs::read_dir(&folder).expect("the folder of scripts").map(|file| file.expect("a file").path());
    let mut scripts: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|ext| ext == "txt")).collect();
    scripts.sort();
    scripts
}

#[test]
fn every_script_has_the_effects_that_it_shows() {
    let rewrite = std::env::var("GOLDEN").is_ok_and(|mode| mode == "rewrite");
    let mut wrong = Vec::new();
    for path in scripts() {
        let text = fs::read_to_string(&path).expect("readable");
        let replayed = replay(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(!replayed.contains("BROKEN"), "{} breaks a rule:\n{replayed}", path.display());
        if replayed != text && rewrite {
            fs::write(&path, &replayed).expect("written");
        } else if replayed != text {
            let lines = replayed.lines().zip(text.lines());
            let first = lines.enumerate().find(|(_, (one, other))| one != other);
            wrong.push(format!("{}: first difference (line from 0; is, was): {first:?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "GOLDEN=rewrite writes them anew:\n{}", wrong.join("\n"));
}

#[test]
fn there_are_enough_and_each_says_something() {
    let scripts = scripts();
    assert!(scripts.len() >= 25, "only {} scripts", scripts.len());
    for path in scripts {
        let text = fs::read_to_string(&path).expect("readable");
        assert!(text.starts_with("# "), "{} does not say what it shows", path.display());
        assert!(text.contains("R-"), "{} names no rule", path.display());
        assert!(text.lines().any(|line| line.starts_with('>')), "{} has no commands", path.display());
    }
}

/// A script whose title says `Falls with` breaks a rule once that defect is planted.
#[test]
fn scripts_fall_with_the_defects_that_they_name() {
    let mut fallen = 0;
    for path in scripts() {
        let text = fs::read_to_string(&path).expect("readable");
        for slug in text.lines().filter_map(|line| line.strip_prefix("# Falls with ")) {
            let defect = Defect::ALL.iter().copied().find(|defect| defect.slug() == slug.trim_end_matches('.'));
            let defect = defect.unwrap_or_else(|| panic!("{slug}: no such defect"));
            let judged = judge(&text, Some(Some(defect))).expect("a script");
            assert!(judged.broken.is_some(), "{} holds with {slug}", path.display());
            fallen += 1;
        }
    }
    assert!(fallen >= 2, "only {fallen} scripts name a defect");
}
