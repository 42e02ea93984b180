//! Keeps `docs/architecture.md` true: which crate depends on which, and what no crate may depend on. Also checks that every
//! file that a document names exists.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What each package of the workspace depends on, as Cargo sees it.
struct Package {
    /// The folder, from the root of the repository.
    folder: PathBuf,
    /// Packages that the shipped code needs.
    normal: BTreeSet<String>,
    /// Packages that it needs in any way: also for tests, examples and build scripts.
    any: BTreeSet<String>,
    /// Features of `auriga-protocol` that it switches on by itself.
    protocol_features: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent").to_owned()
}

fn texts(value: &Value) -> impl Iterator<Item = String> {
    value.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned))
}

fn packages() -> BTreeMap<String, Package> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--no-deps", "--offline", "--format-version", "1"];
    let output = Command::new(cargo).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let listed = metadata["packages"].as_array().expect("a list of packages");
    listed.iter().map(|package| (package["name"].as_str().expect("a name").to_owned(), read_package(package))).collect()
}

fn read_package(package: &Value) -> Package {
    let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
    let folder = manifest.parent().and_then(|folder| folder.strip_prefix(root()).ok()).expect("in this repository");
    let mut read = Package {
        folder: folder.to_owned(),
        normal: BTreeSet::new(),
        any: BTreeSet::new(),
        protocol_features: BTreeSet::new(),
    };
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let name = dependency["name"].as_str().expect("a name").to_owned();
        if name == "auriga-protocol" {
            read.protocol_features.extend(texts(&dependency["features"]));
        }
        if dependency["kind"].is_null() {
            read.normal.insert(name.clone());
        }
        read.any.insert(name);
    }
    read
}

/// The table in `docs/architecture.md`: crate, and the crates of ours that it depends on, most fundamental first.
fn documented() -> Vec<(String, BTreeSet<String>)> {
    let text = fs::read_to_string(root().join("docs/architecture.md")).expect("docs/architecture.md");
    let (_, table) = text.split_once("| crate | depends on |").expect("the table of dependencies");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').collect();
        (names(cells[1]).remove(0), names(cells[2]).into_iter().collect())
    })
    .collect()
}

#[test]
fn crates_depend_on_each_other_as_documented() {
    let packages = packages();
    let documented = documented();
    let ours = |names: &BTreeSet<String>| names.iter().filter(|name| packages.contains_key(*name)).cloned().collect();
    let true_rows: BTreeMap<String, BTreeSet<String>> =
        packages.iter().map(|(name, package)| (name.clone(), ours(&package.normal))).collect();
    assert_eq!(documented.iter().cloned().collect::<BTreeMap<_, _>>(), true_rows, "docs/architecture.md");
    let mut above = BTreeSet::new();
    for (name, depends_on) in &documented {
        assert!(depends_on.is_subset(&above), "{name} depends on a crate that is listed below it");
        above.insert(name.clone());
    }
}

#[test]
fn the_protocol_depends_on_nothing_that_does_io() {
    let protocol = &packages()["auriga-protocol"];
    assert_eq!(protocol.normal, BTreeSet::from(["serde".to_owned()]), "serde, without its `std`, and nothing else");
    let source = fs::read_to_string(root().join("impl/protocol/src/lib.rs")).expect("readable");
    assert!(source.contains("#![no_std]") && source.contains("#![forbid(unsafe_code)]"));
    assert!(!source.contains("extern crate std"));
}

#[test]
fn nothing_that_ships_depends_on_what_judges_it() {
    for (name, package) in packages().iter().filter(|(_, package)| package.folder.starts_with("impl")) {
        for judge in ["auriga-model", "auriga-conformance", "auriga-fuzz"] {
            assert!(!package.any.contains(judge), "{name} depends on {judge}");
        }
    }
}

#[test]
fn planted_defects_are_compiled_only_into_what_judges() {
    let judges = ["auriga-model", "auriga-conformance"];
    for (name, package) in packages() {
        let planted = package.protocol_features.contains("defects");
        assert_eq!(planted, judges.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn only_the_binary_links_rehearsals() {
    let links = |package: &Package| package.any.contains("auriga-rehearsal");
    let linkers: Vec<String> = packages().into_iter().filter(|(_, p)| links(p)).map(|(name, _)| name).collect();
    assert_eq!(linkers, ["auriga"]);
    let manifest = fs::read_to_string(root().join("impl/auriga/Cargo.toml")).expect("readable");
    assert!(manifest.contains(r#"rehearsal = ["dep:auriga-rehearsal"]"#), "a package may leave them out");
}

#[test]
fn pages_and_deltas_know_no_disk_and_no_network() {
    let allowed = ["auriga-protocol", "bytes", "lz4_flex", "serde", "thiserror"].map(str::to_owned);
    let page = &packages()["auriga-page"];
    assert!(page.normal.is_subset(&BTreeSet::from(allowed)), "{:?}", page.normal);
    let source = fs::read_to_string(root().join("impl/page/src/lib.rs")).expect("readable");
    assert!(source.contains("#![no_std]"));
}

#[test]
fn the_store_is_linked_by_the_storage_process_and_its_judges_only() {
    let linked = |package: &Package| package.normal.contains("auriga-store");
    let linkers: BTreeSet<String> = packages().into_iter().filter(|(_, p)| linked(p)).map(|(name, _)| name).collect();
    let named = ["auriga", "auriga-conformance", "auriga-fuzz", "auriga-storage"];
    assert_eq!(linkers, BTreeSet::from(named.map(str::to_owned)), "docs/architecture.md says why these do");
}

/// Every document of the repository that people read.
fn documents() -> Vec<PathBuf> {
    let folders = ["", "docs", "specs", "specs/decisions", "specs/tla", "packaging"];
    let files = folders.iter().flat_map(|folder| fs::read_dir(root().join(folder)).into_iter().flatten().flatten());
    files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ext| ext == "md")).collect()
}

/// Targets of Markdown links that lead to files, with their fragments.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets.filter(|target| !target.contains("://") && !target.is_empty())
}

/// Paths in backticks that begin with a folder of the repository. A pattern (`*`) or a placeholder (`NNNN`) is none.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    const FOLDERS: [&str; 9] =
        ["impl/", "model/", "specs/", "conformance/", "docs/", "bench/", "examples/", "packaging/", ".ci/"];
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|span| FOLDERS.iter().any(|folder| span.starts_with(folder))).filter_map(|span| {
        let path = span.split([' ', ':']).next()?;
        (!path.contains(['*', '{', '<', '…']) && !path.contains("NNNN")).then_some(path)
    })
}

/// GitHub's anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_file_that_a_document_names_exists() {
    let mut missing = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).expect("readable");
        let folder = document.parent().expect("a folder");
        let shown = document.strip_prefix(root()).expect("in this repository").display().to_string();
        for target in links(&text) {
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { document.clone() } else { folder.join(file) };
            let Ok(found) = fs::metadata(&file) else {
                missing.push(format!("{shown}: {target}"));
                continue;
            };
            if !fragment.is_empty() && found.is_file() {
                let text = fs::read_to_string(&file).expect("readable");
                if !text.lines().any(|line| line.starts_with('#') && anchor(line) == fragment) {
                    missing.push(format!("{shown}: no heading for {target}"));
                }
            }
        }
        missing.extend(paths(&text).filter(|path| !root().join(path).exists()).map(|path| format!("{shown}: {path}")));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_readme_is_short() {
    let length = fs::metadata(root().join("README.md")).expect("README.md").len();
    assert!(length <= 9 * 1024, "{length} bytes: move what is not for a newcomer to docs/");
}
