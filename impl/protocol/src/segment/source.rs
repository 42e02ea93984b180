//! The durable log, for processes that ship it elsewhere.
//!
//! A segment hands its chain out only as far as a VDL that an open writer told it: no recovery annuls that, so it is
//! the same in every segment and for good (R-GLOBAL-11). The segment keeps nothing back for the asker: the writer does,
//! which holds PGMRPL down for followers.

use super::{Out, Segment};
use crate::ids::{Lsn, Party};
use crate::machine::Token;
use crate::message::{Message, Refusal};
use crate::record::{Payload, take_weight};

impl<P: Payload> Segment<P> {
    pub(super) fn on_log_pull(&self, from: Party, pull: Token, above: Lsn, out: &mut Out<P>) {
        if !self.counts() {
            return out.send(from, Message::ReadRefused { read: pull, refusal: Refusal::Rejoining });
        }
        let floor = self.log.floor();
        if above < floor {
            return out.send(from, Message::ReadRefused { read: pull, refusal: Refusal::BelowFloor { floor } });
        }
        let base = self.log.last_at_or_below(above);
        let through = self.log.last_at_or_below(self.vdl);
        let durable = self.log.chain_above(above).take_while(|record| record.lsn <= through);
        let records = take_weight(durable.cloned(), self.config.push_weight_max);
        let (installed, vdl) = (self.install.volume_epoch, self.vdl);
        out.send(from, Message::LogPush { pull, installed, base, records, through, vdl });
    }
}
