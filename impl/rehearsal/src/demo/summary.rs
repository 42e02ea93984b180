//! What a person sees when a demo is up.

use super::layout::Layout;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Columns that the frame takes.
const FRAME: usize = 4;

/// What to try: arguments, and what one sees.
pub type ToTry = (&'static str, &'static str);

/// What to try where there are readers, a controller and a gateway.
pub const WATCHED: [ToTry; 4] = [
    ("inject kill writer", "a reader takes over by itself: sessions at `connect` go on after one error"),
    ("inject restart writer", "it comes back on an empty disk, as a reader"),
    ("failover --to writer", "a planned failover"),
    ("events", "what has happened, with times"),
];

/// What to try in any demo.
pub const STORAGE_LOST: [ToTry; 3] = [
    ("inject kill az-b", "an AZ is lost: commits go on"),
    ("inject kill c1", "AZ + 1: commits wait, reads go on, nothing is lost"),
    ("inject restart c1", "a fourth copy: commits go on by themselves"),
];

/// What to try where the writer is alone.
pub const ALONE: [ToTry; 1] = [("inject restart writer", "SIGKILL, empty disk, higher volume epoch")];

/// What to try first.
pub const FIRST: [ToTry; 1] = [("status --watch", "who is where, and how far")];

/// What to try in this demo.
fn to_try(layout: &Layout) -> Vec<ToTry> {
    let (before, after) = if layout.watched { (&WATCHED[..], &[][..]) } else { (&[][..], &ALONE[..]) };
    [&FIRST, before, &STORAGE_LOST, after].concat()
}

/// A box with the line to paste, where the logs are, and what to try; without its frame where the terminal, `columns`
/// wide, is too narrow for it.
pub fn boxed(layout: &Layout, is_kept: bool, columns: Option<usize>) -> String {
    let storage: Vec<String> = ["a", "b", "c"]
        .map(|az| {
            let names = layout.storage_names().into_iter().filter(|name| Layout::az(name) == az);
            format!("AZ {az}: {}", names.collect::<Vec<_>>().join(" "))
        })
        .into();
    let [a, b, c] = layout.network;
    let spares = if layout.spares > 0 { ", spares .61 and on" } else { "" };
    let mut lines = vec![
        "Auriga: PostgreSQL on six copies in three Availability Zones".to_owned(),
        String::new(),
        format!("connect   psql -h {} -p {} -U postgres", layout.instance_host(0), layout.port),
        format!("storage   {}   ({a}.{b}.{c}.1 to .6{spares})", storage.join(" · ")),
        format!("logs      {}", layout.dir.join("logs").display()),
        String::new(),
        "try, in another terminal:".to_owned(),
    ];
    let readers = layout.readers().map(|number| {
        let (host, az) = (layout.instance_host(number), Layout::instance_az(number));
        format!("{:<9} psql -h {host} -p {} -U postgres   (AZ {az})", Layout::reader_name(number), layout.port)
    });
    lines.splice(3..3, readers);
    if layout.watched {
        lines[2] =
            format!("{:<9} psql -h {} -p {} -U postgres   (AZ a)", super::WRITER, layout.instance_host(0), layout.port);
        let endpoint = |name: &str, address: SocketAddr, what: &str| {
            format!("{name:<9} psql -h {} -p {} -U postgres   ({what})", address.ip(), address.port())
        };
        lines.splice(
            2..2,
            [
                endpoint("connect", layout.writer_endpoint(), "to whoever writes"),
                endpoint("read", layout.reader_endpoint(), "to one of the readers"),
                endpoint("forward", layout.forwarding_endpoint(), "reads there, writes at the writer"),
            ],
        );
    }
    finished(lines, &to_try(layout), (&layout.dir, is_kept), columns)
}

/// The box of these lines, of what to try, and of how it ends: whether a directory is kept.
pub(crate) fn finished(
    mut lines: Vec<String>,
    to_try: &[ToTry],
    (dir, is_kept): (&Path, bool),
    columns: Option<usize>,
) -> String {
    let program = callable();
    let longest = to_try.iter().map(|(command, _)| command.len()).max().unwrap_or(0).max(24);
    let widest =
        to_try.iter().map(|(_, effect)| program.len() + effect.chars().count() + longest + 4).max().unwrap_or(0);
    let narrow = columns.is_some_and(|columns| columns < widest);
    lines.extend(to_try.iter().map(|(command, effect)| match narrow {
        true => format!("  {program} {command}\n      {effect}"),
        false => format!("  {program} {command:<longest$} {effect}"),
    }));
    let end = match is_kept {
        true => format!("Ctrl-C stops everything, and keeps {}.", dir.display()),
        false => "Ctrl-C stops everything and leaves nothing behind.".to_owned(),
    };
    lines.extend([String::new(), end]);
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    if narrow || columns.is_some_and(|columns| columns < width + FRAME) {
        return lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n");
    }
    let mut text = format!("╭{}╮\n", "─".repeat(width + 2));
    for line in lines {
        text.push_str(&format!("│ {line}{} │\n", " ".repeat(width - line.chars().count())));
    }
    text.push_str(&format!("╰{}╯", "─".repeat(width + 2)));
    text
}

/// This program as one can call it from here: by name where the shell finds it, by a path otherwise.
fn callable() -> String {
    let Ok(program) = std::env::current_exe() else { return "auriga".to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    as_called(&program, std::env::split_paths(&path), &here)
}

fn as_called(program: &Path, mut folders: impl Iterator<Item = PathBuf>, here: &Path) -> String {
    let name = program.file_name().unwrap_or_default();
    if folders.any(|folder| folder.join(name) == program) {
        return name.display().to_string();
    }
    match program.strip_prefix(here) {
        Ok(below) if below == name => format!("./{}", below.display()),
        Ok(below) => below.display().to_string(),
        Err(_) => program.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn called(program: &str, here: &str) -> String {
        as_called(Path::new(program), ["/usr/bin", "/opt/auriga/bin"].map(PathBuf::from).into_iter(), Path::new(here))
    }

    #[test]
    fn what_the_box_says_can_be_pasted() {
        assert_eq!(called("/src/auriga/target/release/auriga", "/src/auriga"), "target/release/auriga");
        assert_eq!(called("/src/auriga/target/release/auriga", "/home"), "/src/auriga/target/release/auriga");
        assert_eq!(called("/src/auriga", "/src"), "./auriga");
        assert_eq!(called("/opt/auriga/bin/auriga", "/opt"), "auriga");
    }
}
