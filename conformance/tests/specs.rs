//! Keeps the column `conformance` of `specs/invariants.md` true: each row says what observes it from outside, no row that
//! one region can break is without a live check, and no check names an invariant or a rule that isn't there.
//! `GOLDEN=rewrite` writes the column.

use auriga_conformance::{suite, table};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// What the simulation judges: by the observer, which the trace check shares, and by its own reference and finale
/// (`sim/judge.rs`, `sim/finale.rs`).
const SIMULATED: [&str; 14] = [
    "I-COPIES",
    "I-KEPT",
    "I-BACK",
    "I-LINEAGE",
    "I-ONE-WRITER",
    "I-LSN",
    "I-CPL",
    "I-PROGRESS",
    "I-PAGE",
    "I-READ-POINT",
    "I-FLOOR",
    "I-PROMISE",
    "I-ANNULLED",
    "I-AMNESIA",
];

/// A trace shows what happened, not what should have.
const ONLY_SIMULATED: [&str; 1] = ["I-PROGRESS"];

/// Checked by `tests/pure.rs` over all quorum sets.
const PROPERTIES: [&str; 1] = ["I-OVERLAP"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn rules_in(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
    text.split(|c| !word(c)).filter(|name| name.starts_with("R-")).map(str::to_owned).collect()
}

/// Scripts by the rules that their first line names.
fn scripts() -> BTreeMap<String, BTreeSet<String>> {
    let files = fs::read_dir(root().join("conformance/scripts")).expect("the scripts").flatten();
    let of = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("readable");
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        (name, rules_in(text.lines().next().unwrap_or_default()))
    };
    files.map(|file| of(file.path())).collect()
}

/// What a row's cell must say.
fn observed(id: &str, rules: &BTreeSet<String>) -> String {
    let scenarios = suite::statements().filter(|(invariant, _)| *invariant == id).count();
    let scripts = scripts().values().filter(|named| !named.is_disjoint(rules)).count();
    let mut parts = Vec::new();
    if scenarios > 0 {
        parts.push(format!("suite: {scenarios}"));
    }
    if scripts > 0 {
        parts.push(format!("scripts: {scripts}"));
    }
    if SIMULATED.contains(&id) {
        parts.push(if ONLY_SIMULATED.contains(&id) { "simulation" } else { "simulation, trace check" }.to_owned());
    }
    if PROPERTIES.contains(&id) {
        parts.push("properties".to_owned());
    }
    if parts.is_empty() { "—".to_owned() } else { parts.join("; ") }
}

#[test]
fn the_column_says_what_observes_each_invariant() {
    let path = root().join("specs/invariants.md");
    let text = fs::read_to_string(&path).expect("readable");
    let mut expected = text.clone();
    let mut rows = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| I-")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let (id, rules) = (cells[1], rules_in(cells[3]));
        rows.insert(id.to_owned());
        let says = observed(id, &rules);
        let elsewhere = rules.iter().all(|rule| rule.starts_with("R-GLOBAL") || rule.starts_with("R-MEMBER"));
        assert!(says != "—" || elsewhere, "nothing observes {id} from outside");
        expected = table::fill(&expected, "conformance", id, &says);
    }
    if std::env::var("GOLDEN").is_ok_and(|mode| mode == "rewrite") {
        fs::write(&path, &expected).expect("written");
    } else {
        assert!(text == expected, "GOLDEN=rewrite cargo test -p auriga-conformance --test specs");
    }
    let named = suite::statements().map(|(invariant, _)| invariant).chain(SIMULATED).chain(PROPERTIES);
    let unknown: Vec<&str> = named.filter(|id| !rows.contains(*id)).collect();
    assert!(unknown.is_empty(), "no row for {unknown:?}");
}

#[test]
fn scripts_and_scenarios_name_rules_that_exist() {
    let pages = ["specs/rules.md", "specs/rules-global-membership.md"];
    let stated = pages
        .iter()
        .flat_map(|page| rules_in(&fs::read_to_string(root().join(page)).expect("readable")))
        .collect::<BTreeSet<String>>();
    let named = scripts().into_values().flatten().chain(suite::statements().flat_map(|(_, rules)| rules_in(rules)));
    let unknown: BTreeSet<String> = named.filter(|rule| !stated.contains(rule)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// A decision's row in the index: its number, title, status and date, as the record itself states them.
fn row_of(file: &str, text: &str) -> String {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let title = lines.next().unwrap_or_default().trim_start_matches('#').trim();
    let (number, title) = title.split_at_checked(4).unwrap_or_else(|| panic!("{file}: the title is `# NNNN: Title`"));
    assert!(file.starts_with(&format!("{number}-")), "{file}: the title says {number}");
    let title = title.trim_start_matches([':', '.', ' ']);
    let status = lines.next().and_then(|line| line.strip_prefix('*')?.strip_suffix(".*"));
    let (status, date) = status.and_then(|status| status.rsplit_once(' ')).unwrap_or(("Accepted", "—"));
    format!("| [{number}]({file}) | {title} | {} | {date} |\n", status.to_lowercase())
}

#[test]
fn the_index_of_decisions_is_complete() {
    let folder = root().join("specs/decisions");
    let index = folder.join("README.md");
    let names = fs::read_dir(&folder).expect("readable").flatten().map(|entry| entry.file_name());
    let names: BTreeSet<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    let records = names.iter().filter(|name| *name != "README.md");
    let rows = records.map(|name| row_of(name, &fs::read_to_string(folder.join(name)).expect("readable")));
    let text = fs::read_to_string(&index).expect("readable");
    let head: String = text.split_inclusive('\n').take_while(|line| !line.starts_with("| [")).collect();
    let expected: String = std::iter::once(head).chain(rows).collect();
    if std::env::var("GOLDEN").is_ok_and(|mode| mode == "rewrite") {
        fs::write(&index, &expected).expect("written");
    } else {
        assert!(text == expected, "GOLDEN=rewrite cargo test -p auriga-conformance --test specs");
    }
}
