//! Every command that the documents tell a reader to type is understood by the binary.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = [root.clone(), root.join("docs"), root.join("specs")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap().flatten());
    files.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ext| ext == "md")).collect()
}

/// Arguments of `auriga` in a line of a code block, if the line is such a command.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.trim().trim_start_matches("$ ");
    let line = line.split(" #").next()?.trim();
    let (program, rest) = line.split_once(' ').unwrap_or((line, ""));
    let before: &[&str] = match program {
        "auriga" | "target/release/auriga" | "./target/release/auriga" => &[],
        "./demo.sh" => &["demo"],
        _ => return None,
    };
    Some(before.iter().copied().chain(rest.split_whitespace()).map(str::to_owned).collect())
}

fn commands(text: &str) -> Vec<Vec<String>> {
    let blocks = text.split("\n```").skip(1).step_by(2);
    blocks.flat_map(|block| block.lines().skip(1).filter_map(arguments)).collect()
}

/// With `--help` at its end a command line is read up to there, and nothing is done.
fn is_understood(arguments: &[String]) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auriga"));
    let output = command.args(arguments).arg("--help").stdin(Stdio::null()).output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(format!("auriga {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn every_command_in_the_documents_is_understood() {
    let mut found = 0;
    let mut wrong = Vec::new();
    for document in documents() {
        for arguments in commands(&std::fs::read_to_string(&document).unwrap()) {
            found += 1;
            wrong.extend(is_understood(&arguments).err().map(|why| format!("{}: {why}", document.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(found >= 12, "only {found} commands: does this test still find them?");
}

#[test]
fn a_command_that_does_not_exist_is_noticed() {
    assert!(is_understood(&["rehearse".to_owned(), "earthquakes".to_owned()]).is_err());
    assert!(is_understood(&["status".to_owned(), "--wacth".to_owned()]).is_err());
}
