//! Log and recovery: writes at the write quorum, recovery at the read quorum, seal and install, fencing, tails,
//! truncation, gossip, several protection groups; segments and whole zones crash, disks lose what was pending.
//!
//! Beyond what every model of a volume abstracts (`volume.rs`), these scopes read no pages and collect nothing. Most
//! begin with the first writer open on an empty volume; `first3` covers how it came to be.

use crate::reductions::Reductions;
use crate::registry::{Scope, Set};
use crate::volume::{Focus, Scale, Volume, page};
use crate::world::Budgets;

/// V=3: three zones of one, write 2/3, read 2/3; two writers, one mini-transaction.
pub fn three() -> Scale {
    two_writers(Scale::of(Focus::Recovery, 3, 1, 2, 2))
}

/// V=4: two zones of two, write 3/4, read 2/4.
pub fn four() -> Scale {
    two_writers(Scale::of(Focus::Recovery, 2, 2, 3, 2))
}

/// V=6: three zones of two, write 4/6, read 3/6: Aurora's quorum.
pub fn six() -> Scale {
    two_writers(Scale::of(Focus::Recovery, 3, 2, 4, 3))
}

fn two_writers(scale: Scale) -> Scale {
    Scale { begins_open: true, budgets: Budgets { writers: 2, submits: 1, ..Budgets::default() }, ..scale }
}

/// With an asynchronous disk, and one node that crashes.
pub fn node_crash(scale: Scale) -> Scale {
    Scale { synchronous: false, budgets: Budgets { crashes: 1, ..scale.budgets }, ..scale }
}

/// With an asynchronous disk, and one zone that crashes.
pub fn zone_crash(scale: Scale) -> Scale {
    Scale { synchronous: false, budgets: Budgets { zone_crashes: 1, ..scale.budgets }, ..scale }
}

/// Sets the number of mini-transactions.
pub fn submits(scale: Scale, submits: u8) -> Scale {
    Scale { budgets: Budgets { submits, ..scale.budgets }, ..scale }
}

/// With one more writer and volume epoch.
pub fn three_epochs(scale: Scale) -> Scale {
    Scale { epochs: 3, budgets: Budgets { writers: 3, ..scale.budgets }, ..scale }
}

/// With two protection groups, and mini-transactions over both.
pub fn two_groups(scale: Scale) -> Scale {
    Scale { groups: 2, workload: vec![vec![page(0), page(1)]], ..scale }
}

/// With gossip.
pub fn gossip(scale: Scale) -> Scale {
    Scale { budgets: Budgets { gossips: 1, ..scale.budgets }, ..scale }
}

/// With one node whose journal loses its last entries.
pub fn loss(scale: Scale) -> Scale {
    // A question to each peer for its incarnation and one for what it knows; the second is asked by itself.
    Scale { budgets: Budgets { losses: 1, gossips: 1, ..scale.budgets }, ..scale }
}

/// As [`loss`], with every name and every moment of an answer: answers carry incarnations, and a candidate may choose by
/// name between chains, so reductions 1 and 2 are not sound where a journal is lost.
pub fn loss_unreduced(scale: Scale) -> Scale {
    let reductions = Reductions { symmetry: false, answers_at_once: false, ..Reductions::ON };
    Scale { reductions, ..loss(scale) }
}

/// With a third writer that competes with the second for the same number of a volume epoch.
pub fn rivals(scale: Scale) -> Scale {
    Scale { budgets: Budgets { writers: 3, ..scale.budgets }, ..scale }
}

/// With this many losses, of any nodes, and as many questions.
pub fn losses(scale: Scale, losses: u8) -> Scale {
    Scale { budgets: Budgets { losses, gossips: losses, ..scale.budgets }, ..scale }
}

/// With one journal that is cleaned, and whose node crashes.
pub fn cleaned(scale: Scale) -> Scale {
    Scale { budgets: Budgets { crashes: 1, cleans: 1, ..scale.budgets }, synchronous: false, ..scale }
}

/// The scopes.
pub fn scopes() -> Vec<Scope> {
    use Set::{Nightly, Quick};
    let scope = |name, set, pinned, about, scale: fn() -> Scale| {
        Scope::new(name, set, pinned, about, move || Volume::new(scale()))
    };
    let first = || Scale { begins_open: false, ..three() };
    vec![
        scope("first3", Quick, Some(4_343), "2/3, the first writer's recovery too, 1 LSN", first),
        scope("log3", Quick, Some(41_616), "2/3, asynchronous disk, 2 LSNs, 1 node crash", || {
            node_crash(submits(three(), 2))
        }),
        scope("log3-e3", Quick, Some(19_184), "2/3, three volume epochs, 1 LSN", || three_epochs(three())),
        scope(
            "log3-linger",
            Quick,
            Some(2_850),
            "2/3, 2 LSNs, recoveries that wait for more promises than they need",
            || Scale { lingers: true, ..submits(three(), 2) },
        ),
        scope("log3-gossip", Quick, Some(18_258), "2/3, 2 LSNs, gossip", || gossip(submits(three(), 2))),
        scope("log3-2pg", Quick, Some(29_402), "2/3, two groups, 1 MTR over both", || two_groups(three())),
        scope("log4-az", Quick, Some(23_674), "3/4 in 2 AZs, asynchronous disk, 1 AZ crash", || zone_crash(four())),
        scope("log6", Quick, Some(12_221), "4/6 in 3 AZs, synchronous disk, 1 AZ crash", || Scale {
            synchronous: true,
            ..zone_crash(six())
        }),
        scope("log6-az", Quick, Some(262_300), "4/6 in 3 AZs, asynchronous disk, 1 AZ crash", || zone_crash(six())),
        scope(
            "log3-clean",
            Quick,
            Some(34_824),
            "2/3, 1 LSN, 1 node whose journal is cleaned and that crashes, gossip",
            || cleaned(gossip(three())),
        ),
        scope(
            "log3-loss",
            Quick,
            Some(44_991),
            "2/3, 1 LSN, 1 node whose journal loses its end, and that rejoins",
            || loss(three()),
        ),
        scope("log3-loss-rivals", Set::Unfinished, None, "2/3, 1 LSN, rivals of one number, 1 loss", || {
            loss(rivals(three()))
        }),
        scope("log3-loss-crash", Set::Unfinished, None, "2/3, 1 LSN, 1 loss, 1 crash", || loss(node_crash(three()))),
        scope("log3-losses", Set::Unfinished, None, "2/3, 1 LSN, 2 losses", || losses(three(), 2)),
        scope(
            "log3-loss-unreduced",
            Set::Unfinished,
            None,
            "2/3, 1 LSN, 1 loss, unreduced",
            || loss_unreduced(three()),
        ),
        scope("log3-e3-crash", Nightly, Some(551_956), "2/3, three volume epochs, 1 LSN, 1 node crash", || {
            node_crash(three_epochs(three()))
        }),
    ]
}
