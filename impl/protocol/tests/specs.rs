//! Keeps `specs/` and the code true to each other: a rule that is named anywhere exists, a planted defect has an
//! invariant that rests on its rule, and a row of `specs/invariants.md` names only defects that exist.

use auriga_protocol::Defect;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every rule number in `text`: `R`, a name (of one part or more), a number.
fn rules_named(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
    let whole = |candidate: &&str| {
        let name_and_number = candidate.strip_prefix("R-").and_then(|rest| rest.rsplit_once('-'));
        name_and_number.is_some_and(|(name, number)| name.len() > 2 && number.parse::<u8>().is_ok())
    };
    text.split(|c| !word(c)).filter(whole).map(str::to_owned).collect()
}

/// Rules that `specs/rules.md` and the pages beside it state, each in bold at the start of a line.
fn rules_stated() -> BTreeSet<String> {
    let starts = |line: &&str| line.starts_with("**R-");
    ["specs/rules.md", "specs/rules-global-membership.md", "specs/rules-reader-files.md"]
        .map(read)
        .iter()
        .flat_map(|text| text.lines())
        .filter(starts)
        .flat_map(|line| rules_named(line.split(['.', ' ']).next().unwrap_or_default()))
        .collect()
}

/// Rows of the table of invariants, by id.
fn rows() -> BTreeMap<String, Vec<String>> {
    let text = read("specs/invariants.md");
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    text.lines().filter(|line| line.starts_with("| I-")).map(cells).map(|row| (row[1].clone(), row)).collect()
}

fn slugs(cell: &str) -> BTreeSet<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let skipped = path.ends_with("target") || path.ends_with(".git");
        if path.is_dir() && !skipped {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs" || ext == "md" || ext == "tla") {
            found.push(path);
        }
    }
}

#[test]
fn every_rule_that_is_named_is_stated() {
    let stated = rules_stated();
    assert!(stated.len() > 40, "only {} rules found in specs/rules.md", stated.len());
    let mut files = Vec::new();
    ["specs", "impl", "model", "conformance"].iter().for_each(|folder| sources(&root().join(folder), &mut files));
    for file in files {
        let unknown: Vec<String> =
            rules_named(&fs::read_to_string(&file).unwrap_or_default()).difference(&stated).cloned().collect();
        assert!(unknown.is_empty(), "{} names rules that specs/rules.md lacks: {unknown:?}", file.display());
    }
}

#[test]
fn every_planted_defect_has_an_invariant_that_rests_on_its_rule() {
    let rows = rows();
    for defect in Defect::ALL {
        let caught = |row: &&Vec<String>| slugs(&row[7]).contains(defect.slug());
        let row = rows.values().find(|row| caught(row) && rules_named(&row[3]).contains(defect.rule()));
        assert!(row.is_some(), "no row of specs/invariants.md has `{}` and rests on {}", defect.slug(), defect.rule());
    }
}

#[test]
fn the_table_names_only_defects_that_exist() {
    let known: BTreeSet<String> = Defect::ALL.iter().map(|defect| defect.slug().to_owned()).collect();
    for (id, row) in rows() {
        let unknown: Vec<String> = slugs(&row[7]).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{id} names defects that impl/protocol/src/defect.rs lacks: {unknown:?}");
    }
}
