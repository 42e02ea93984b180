//! One copy of one protection group.

mod interface;
pub use interface::*;

use crate::ids::{Micros, SegmentId};
use crate::machine::{Effects, Input, Machine};
use crate::message::Message;
use crate::record::Payload;

/// One copy of one protection group.
pub struct Segment<P: Payload> {
    id: SegmentId,
    marker: core::marker::PhantomData<P>,
}

impl<P: Payload> Segment<P> {
    /// Numbers for `auriga status`.
    pub fn status(&self) -> SegmentStatus {
        let _ = self.id;
        SegmentStatus::default()
    }
}

impl<P: Payload> Machine for Segment<P> {
    type Id = SegmentId;
    type Config = SegmentConfig;
    type Survived = Survived<P>;
    type Message = Message<P>;
    type Entry = Entry<P>;
    type Task = Task<P>;
    type Outcome = Outcome<P>;
    type Timer = Timer;
    type Request = Request;
    type Answer = core::convert::Infallible;

    fn boot(_: &SegmentConfig, id: SegmentId, _: Survived<P>, _: Micros, _: &mut Effects<Self>) -> Self {
        Segment { id, marker: core::marker::PhantomData }
    }

    fn step(&mut self, _: Micros, _: Input<Self>, _: &mut Effects<Self>) {}
}
