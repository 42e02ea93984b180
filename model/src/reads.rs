//! Reads and collection: a page served is the page as of its read point, from one segment; what a read may still need is
//! not collected; users' operations are linearizable.
//!
//! Names of segments are not reduced here, because a writer chooses which segment to ask by name among equals. A reader
//! that knows less of the segments' chains than the writer does is modelled by a question that reaches another member
//! (`Step::Misroute`); its answer is judged by the observer like any other.

use crate::reductions::Reductions;
use crate::registry::{Scope, Set};
use crate::volume::{Focus, Scale, Volume, page};
use crate::world::Budgets;

/// V=3 with a submission, a read and a coalescing.
pub fn three() -> Scale {
    Scale {
        begins_open: true,
        reductions: Reductions::NAMED,
        budgets: Budgets { writers: 1, submits: 1, reads: 1, retries: 1, coalesces: 1, ..Budgets::default() },
        ..Scale::of(Focus::Reads, 3, 1, 2, 2)
    }
}

/// A read that is held up while the volume moves on. Names are reduced, so it hunts; it does not prove.
pub fn held() -> Scale {
    let budgets = Budgets { submits: 2, ..three().budgets };
    Scale { budgets, reductions: Reductions::ON, ..three() }
}

/// Two groups, one of them idle.
pub fn two_groups() -> Scale {
    let budgets = Budgets { writers: 1, submits: 2, reads: 1, ..Budgets::default() };
    Scale { groups: 2, workload: vec![vec![page(0)], vec![page(1)]], budgets, ..three() }
}

/// The same without collection.
pub fn plain() -> Scale {
    let budgets = Budgets { writers: 1, submits: 1, reads: 1, ..Budgets::default() };
    Scale { budgets, ..three() }
}

/// Two writers one after the other, and users whose operations must be linearizable.
pub fn linearizable() -> Scale {
    let budgets = Budgets { writers: 2, submits: 1, reads: 1, ..Budgets::default() };
    Scale { budgets, linearizable: true, ..three() }
}

/// The scopes.
pub fn scopes() -> Vec<Scope> {
    use Set::Quick;
    let scope = |name, set, pinned, about, scale: fn() -> Scale| {
        Scope::new(name, set, pinned, about, move || Volume::new(scale()))
    };
    vec![
        scope("reads3", Quick, Some(489), "2/3, 1 LSN, 1 read", plain),
        scope(
            "linear3",
            Quick,
            Some(91_592),
            "2/3, two writers, 1 LSN, 1 read, linearizability of users' operations",
            linearizable,
        ),
        scope("reads3-collect", Quick, Some(15_874), "2/3, 1 LSN, 1 read, 1 coalescing, 1 retry", three),
        scope("reads3-2pg", Quick, Some(19_100), "2/3, two groups, 2 LSNs, 1 read", two_groups),
    ]
}
