//! A reader on another instance: what it shows, what is kept for it, and how it goes on with the next writer.
//!
//! The reader is the production machine, in the world of the other scopes (`volume/reader.rs`). What it says to whoever
//! writes reaches every writer. It crashes by another one being started. Names of segments are reduced where the reader
//! reads no page: then it names none.

use crate::reductions::Reductions;
use crate::registry::{Scope, Set};
use crate::volume::{Focus, Scale, Volume, page};
use crate::world::Budgets;
use auriga_protocol::Micros;
use auriga_protocol::writer::FollowersConfig;

/// A reader that follows from the beginning, and nothing else.
fn base() -> Scale {
    let followers = FollowersConfig { grace: Micros(0), lag_weight_max: usize::MAX, ..FollowersConfig::some() };
    Scale { begins_open: true, begins_followed: true, followers, ..Scale::of(Focus::Readers, 3, 1, 2, 2) }
}

/// Two mini-transactions, the first of two records, and a reader that goes on; it asks once more, so that an answer may
/// come late.
pub fn follows() -> Scale {
    let budgets = Budgets { writers: 1, submits: 2, advances: 2, reader_retries: 1, ..Budgets::default() };
    Scale { budgets, workload: vec![vec![page(0), page(0)], vec![page(0)]], ..base() }
}

/// A page is read while the volume is collected as far as the reader lets it.
pub fn collects() -> Scale {
    let budgets = Budgets {
        writers: 1,
        submits: 1,
        advances: 1,
        reader_reads: 1,
        retries: 1,
        coalesces: 1,
        ..Budgets::default()
    };
    Scale { budgets, reductions: Reductions::NAMED, ..base() }
}

/// A lease ends; the reader speaks again.
pub fn dropped() -> Scale {
    let budgets = Budgets {
        writers: 1,
        submits: 1,
        advances: 1,
        reader_retries: 1,
        retries: 1,
        coalesces: 1,
        leases: 1,
        ..Budgets::default()
    };
    Scale { budgets, ..base() }
}

/// The writer crashes, and the reader goes on with the next one.
pub fn failover() -> Scale {
    let budgets = Budgets { writers: 2, submits: 1, advances: 1, reader_retries: 1, ..Budgets::default() };
    Scale { budgets, ..base() }
}

/// The same where the first writer's record may be annulled, and the second one writes another.
pub fn failover_annuls() -> Scale {
    let budgets = Budgets { submits: 2, ..failover().budgets };
    Scale { budgets, ..failover() }
}

/// The next writer waits for the reader before it lets anything be collected.
pub fn grace() -> Scale {
    let followers = FollowersConfig { grace: Micros(1), ..base().followers };
    let budgets = Budgets {
        writers: 2,
        submits: 1,
        reader_retries: 1,
        retries: 1,
        coalesces: 1,
        leases: 1,
        ..Budgets::default()
    };
    Scale { budgets, followers, ..base() }
}

/// A reader crashes, and another one starts.
pub fn restarts() -> Scale {
    let budgets = Budgets { writers: 1, submits: 1, readers: 1, advances: 2, ..Budgets::default() };
    Scale { budgets, ..base() }
}

/// The scopes.
pub fn scopes() -> Vec<Scope> {
    let scope = |name, set, pinned, about, scale: fn() -> Scale| {
        Scope::new(name, set, pinned, about, move || Volume::new(scale()))
    };
    vec![
        scope("readers3", Set::Quick, Some(11_594), "2/3, 2 MTRs, a reader that asks twice", follows),
        scope(
            "readers3-collect",
            Set::Quick,
            Some(22_464),
            "2/3, 1 LSN, a reader reads a page, 1 coalescing",
            collects,
        ),
        scope("readers3-dropped", Set::Quick, Some(10_496), "2/3, 1 LSN, a reader's lease ends, 1 coalescing", dropped),
        scope("readers3-restart", Set::Quick, Some(104), "2/3, 1 LSN, a reader crashes, another starts", restarts),
        scope("readers3-failover", Set::Quick, Some(6_957), "2/3, two writers, 1 LSN, a reader goes on", failover),
        scope(
            "readers3-annulled",
            Set::Nightly,
            Some(702_097),
            "2/3, two writers, 2 LSNs, a reader goes on",
            failover_annuls,
        ),
        scope(
            "readers3-grace",
            Set::Unfinished,
            None,
            "2/3, two writers, 1 LSN, a reader, 1 coalescing, the grace ends",
            grace,
        ),
    ]
}
