//! Changing one protection group's members while it goes on taking writes (18 §4.1).
//!
//! [`Arrangement`] is a group's base members and the replacements under way; its quorum set follows from it:
//!
//! | | write | read |
//! |---|---|---|
//! | steady | 4/6 ABCDEF | 3/6 ABCDEF |
//! | F→G under way | 4/6 ABCDEF **and** 4/6 ABCDEG | 3/6 ABCDEF |
//! | F→G and E→H under way | 4/6 of ABCDEF, ABCDEG, ABCDHF and ABCDHG | 3/6 ABCDEF |
//! | done | 4/6 ABCDEG | 3/6 ABCDEG |
//!
//! The paper also reads from `3/6 ABCDEG` while the change is under way. But a record that was written to ABCF before the
//! change is not on DEG: so a new member is read only after the change, and the change waits until it is hydrated.
//!
//! [`Changer`] takes a group from one arrangement to the next. Each step is a new membership epoch, and counts only once
//! it is durable on a write quorum of the old *and* of the new quorum set: so a read by the old one meets the new
//! one. Until the last step a replacement can be taken back.
//!
//! **What is never here.** Choosing whom to replace; copying data (that is the segments', see `segment/hydrate.rs`).

mod arrangement;
mod changer;
mod step;

pub use arrangement::{Arrangement, REPLACEMENTS_MAX, Replacement};
pub use changer::{
    Changer, ChangerAnswer, ChangerConfig, ChangerEntry, ChangerMessage, ChangerRequest, ChangerTimer, MembershipNote,
};
pub use step::{Membership, ReplaceRefused, Step, admits, as_first, in_force};
