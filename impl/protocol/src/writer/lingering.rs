//! Whom a recovery waits for beyond a read quorum, and how long (R-RECOVER-6).
//!
//! A read quorum is enough where no store forgot anything. A store that went back in time, and is not found out
//! (`segment/lives.rs` says when), may answer first, together with two that were away: then what the others hold is
//! annulled. They are up, and would say so a moment later. So all are heard, within a bounded time.
//!
//! ```text
//!                 a read quorum of each group, not all          the timer, or the last promise
//!     Whole ────────────────────────────────────────► Waiting ─────────────────────────────────► Spent, and Collecting
//!       └──────────────────────── all have promised: at once ─────────────────────────────────────┘
//! ```
//!
//! The machine waits for every member, not for those that its driver calls connected: a member that answers needs no
//! wait, and a silent one costs the wait once. So no driver can make a recovery unsafe by being wrong about
//! connections.

use super::{Out, Timer, Writer, WriterRole};
use crate::defect::Defect;
use crate::ids::Micros;
use crate::record::Payload;
use serde::Serialize;

/// Whether promises beyond a read quorum are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize)]
pub(super) enum Patience {
    /// They will be, once there is a read quorum of every group.
    #[default]
    Whole,
    /// The timer runs.
    Waiting,
    /// Not any more.
    Spent,
}

impl<P: Payload> Writer<P> {
    /// Whether it has a read quorum, and waits for more promises (R-RECOVER-6).
    pub fn is_lingering(&self) -> bool {
        self.role == WriterRole::Sealing && self.recovery.patience == Patience::Waiting
    }

    /// A promise came.
    pub(super) fn collect_or_linger(&mut self, out: &mut Out<P>) {
        if !self.all_are_sealed() {
            return;
        }
        if self.recovery.patience == Patience::Spent || !self.lingers() || self.all_have_promised() {
            return self.collect_now(out);
        }
        if self.recovery.patience == Patience::Whole {
            self.recovery.patience = Patience::Waiting;
            out.set_timer(Timer::Linger, self.config.linger);
        }
    }

    /// Who is late is not waited for. A promise may have been dropped since the timer was set, because its segment lost
    /// what it had promised: then a read quorum is waited for, and all others anew.
    pub(super) fn on_linger_timer(&mut self, out: &mut Out<P>) {
        if !self.is_lingering() {
            return;
        }
        if self.all_are_sealed() {
            self.collect_now(out);
        } else {
            self.recovery.patience = Patience::Whole;
        }
    }

    /// A source was given up: goes on without it where that is possible, as it may be that no promise comes any more.
    pub(super) fn collect_if_patience_is_spent(&mut self, out: &mut Out<P>) {
        if self.recovery.patience == Patience::Spent && self.all_are_sealed() {
            self.collect_now(out);
        }
    }

    fn collect_now(&mut self, out: &mut Out<P>) {
        if self.lingers() {
            self.recovery.patience = Patience::Spent;
        }
        self.collect(out);
    }

    fn lingers(&self) -> bool {
        self.config.linger > Micros(0) && !self.config.defects.has(Defect::RecoveryDoesNotWait)
    }

    fn all_have_promised(&self) -> bool {
        self.groups.iter().all(|group| {
            let mut members = group.membership.members().iter();
            let promised = self.sealed(group.pg);
            members.all(|member| promised.contains(member))
        })
    }
}
