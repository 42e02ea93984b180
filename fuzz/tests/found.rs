//! Every target for a moment, and again what once failed.

use auriga_fuzz::{Hunt, targets, unhex};
use std::path::Path;

#[test]
fn a_few_inputs_of_every_target() {
    for (name, make) in targets::all() {
        let mut hunt = Hunt::new(make(), 1);
        let ended = hunt.run(|inputs| inputs < 300);
        assert_eq!(ended, Ok(()), "{name}");
        assert!(hunt.outcomes() > 1, "{name}: nothing comes of anything");
    }
}

/// `fuzz/found/TARGET.txt`: an input a line, in hexadecimal, after a word that says what was wrong.
#[test]
fn what_was_found_stays_mended() {
    for (name, make) in targets::all() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("found/{name}.txt"));
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let mut hunt = Hunt::new(make(), 1);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (why, hex) = line.split_once(' ').expect("a word and an input");
            assert_eq!(hunt.feed(&unhex(hex).expect("hexadecimal")), Ok(()), "{name}: {why}");
        }
    }
}
