//! Log and recovery: writes at the write quorum, recovery at the read quorum, seal and install, fencing, tails,
//! truncation, gossip, several protection groups; segments and whole zones crash, disks lose what was pending.
//!
//! Beyond what every model of a volume abstracts (`volume.rs`), these scopes read no pages and collect nothing.

use crate::registry::{Scope, Set};
use crate::volume::{Focus, Scale, Volume, page};
use crate::world::Budgets;

/// V=3: three zones of one, write 2/3, read 2/3.
pub fn three() -> Scale {
    Scale::of(Focus::Recovery, 3, 1, 2, 2)
}

/// V=4: two zones of two, write 3/4, read 2/4.
pub fn four() -> Scale {
    Scale::of(Focus::Recovery, 2, 2, 3, 2)
}

/// V=6: three zones of two, write 4/6, read 3/6: Aurora's quorum.
pub fn six() -> Scale {
    Scale::of(Focus::Recovery, 3, 2, 4, 3)
}

/// Two writers, one mini-transaction, a crash.
pub fn crash(scale: Scale) -> Scale {
    Scale { budgets: Budgets { writers: 2, submits: 1, crashes: 1, ..Budgets::default() }, ..scale }
}

/// The scopes.
pub fn scopes() -> Vec<Scope> {
    let scope = |name, set, pinned, about, scale: fn() -> Scale| {
        Scope::new(name, set, pinned, about, move || Volume::new(scale()))
    };
    vec![
        scope("log3", Set::Quick, None, "2/3, two epochs, 1 LSN, 1 crash, synchronous disk", || crash(three())),
        scope("log3-async", Set::Quick, None, "2/3, two epochs, 1 LSN, 1 crash, asynchronous disk", || Scale {
            synchronous: false,
            ..crash(three())
        }),
        scope("log3-2pg", Set::Quick, None, "2/3, two groups, one MTR over both", || Scale {
            groups: 2,
            begins_open: true,
            workload: vec![vec![page(0), page(1)]],
            ..crash(three())
        }),
    ]
}
