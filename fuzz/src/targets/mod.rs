//! What is fed.

mod backup;
mod config;
mod frames;
mod handshake;
mod layout;
mod pages;
mod segment;
mod store;
mod trace;

use std::path::{Path, PathBuf};

/// One reader of bytes from outside.
pub trait Target {
    /// Sound inputs, one of each kind.
    fn corpus(&self) -> Vec<Vec<u8>>;

    /// Reads `input`. Says in a few words what came of it; digits do not count.
    fn run(&mut self, input: &[u8]) -> String;
}

/// Makes a target.
pub type Make = fn() -> Box<dyn Target>;

/// All of them, by name.
pub fn all() -> Vec<(&'static str, Make)> {
    vec![
        ("backup", || Box::new(backup::Backup)),
        ("config", || Box::new(config::Config)),
        ("frames", || Box::new(frames::Frames)),
        ("handshake", || Box::new(handshake::Handshake::new())),
        ("layout", || Box::new(layout::Layout)),
        ("pages", || Box::new(pages::Pages)),
        ("segment", || Box::new(segment::Alone)),
        ("store", || Box::new(store::Directory::new())),
        ("trace", || Box::new(trace::Folder::new())),
    ]
}

/// A file of the repository.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The kind of a value: what its `Debug` begins with.
fn kind(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
