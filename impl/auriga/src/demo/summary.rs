//! What a person sees when a demo is up.

use super::layout::{Layout, STORAGE};

/// A box with the line to paste, where the logs are, and what to try.
pub fn boxed(layout: &Layout) -> String {
    let storage: Vec<String> = ["a", "b", "c"]
        .map(|az| {
            let names = STORAGE.iter().filter(|name| Layout::az(name) == az);
            format!("AZ {az}: {}", names.copied().collect::<Vec<_>>().join(" "))
        })
        .into();
    let [a, b, c] = layout.network;
    let lines = [
        "Auriga: PostgreSQL on six copies in three Availability Zones".to_owned(),
        String::new(),
        format!("connect   psql -h {} -p {} -U postgres", layout.instance_host(0), layout.port),
        format!("storage   {}   ({a}.{b}.{c}.1 to .6)", storage.join(" · ")),
        format!("logs      {}", layout.dir.join("logs").display()),
        String::new(),
        "try, in another terminal:".to_owned(),
        "  auriga status --watch                 who is where, and how far".to_owned(),
        "  auriga inject kill az-b               an AZ is lost: commits go on".to_owned(),
        "  auriga inject kill c1                 AZ + 1: commits wait, reads go on, nothing is lost".to_owned(),
        "  auriga inject restart c1              a fourth copy: commits go on by themselves".to_owned(),
        "  auriga inject restart writer          SIGKILL, empty disk, higher volume epoch".to_owned(),
        String::new(),
        "Ctrl-C stops everything and leaves nothing behind.".to_owned(),
    ];
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let mut text = format!("╭{}╮\n", "─".repeat(width + 2));
    for line in lines {
        text.push_str(&format!("│ {line}{} │\n", " ".repeat(width - line.chars().count())));
    }
    text.push_str(&format!("╰{}╯", "─".repeat(width + 2)));
    text
}
