//! Promotion: several writers compete. At most one can acknowledge in a volume epoch; what was acknowledged in any is in
//! every later one; an overtaken writer is fenced.
//!
//! Refusals that only stop their writer are kept here (they are dropped elsewhere), so that fencing is seen to happen.

use crate::reductions::Reductions;
use crate::registry::{Scope, Set};
use crate::volume::{Focus, Scale, Volume};
use crate::world::Budgets;

/// Three writers, two numbers of volume epochs: the second and the third compete with one.
pub fn compete() -> Scale {
    Scale {
        begins_open: true,
        budgets: Budgets { writers: 3, submits: 1, ..Budgets::default() },
        ..Scale::of(Focus::Promotion, 3, 1, 2, 2)
    }
}

/// Two writers without reduction 3: the first learns that it was overtaken.
pub fn fenced() -> Scale {
    let reductions = Reductions { drop_spent: false, ..Reductions::ON };
    Scale { reductions, budgets: Budgets { writers: 2, submits: 1, ..Budgets::default() }, ..compete() }
}

/// The scopes.
pub fn scopes() -> Vec<Scope> {
    let scope = |name, pinned, about, scale: fn() -> Scale| {
        Scope::new(name, Set::Quick, pinned, about, move || Volume::new(scale()))
    };
    vec![
        scope("compete3", Some(11_022), "2/3, three writers with two numbers, 1 LSN", compete),
        scope("fenced3", Some(992), "2/3, two writers, 1 LSN, refusals kept", fenced),
    ]
}
