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

/// What `defects.md` says was found, the other table says too; that it is found is what `defects` checks.
#[test]
fn both_tables_of_defects_say_the_same() {
    let (found, techniques) = (read("defects.md"), read("defects-by-technique.md"));
    for defect in Defect::ALL {
        let slug = defect.slug();
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
