//! The volume driver.

mod interface;
pub use interface::*;

use crate::ids::{Lsn, Micros};
use crate::machine::{Effects, Input, Machine};
use crate::message::Message;
use crate::record::{Change, Payload};
use alloc::vec::Vec;
use core::convert::Infallible;

/// The volume driver.
pub struct Writer<P: Payload> {
    id: WriterIdentity,
    marker: core::marker::PhantomData<P>,
}

impl<P: Payload> Writer<P> {
    /// Numbers for `auriga status`.
    pub fn status(&self) -> WriterStatus {
        unimplemented!("{:?}", self.id)
    }

    /// Where in its life the writer is.
    pub fn role(&self) -> Role {
        Role::Sealing
    }

    /// Volume Durable LSN: everything through it survives any fault that leaves a read quorum.
    pub fn vdl(&self) -> Lsn {
        Lsn::ZERO
    }

    /// Allocates one mini-transaction; the same as `Request::Submit` without the detour over an answer.
    ///
    /// # Errors
    /// When nothing was allocated, and why.
    pub fn submit(&mut self, changes: Vec<Change<P>>, effects: &mut Effects<Self>) -> Result<Lsn, SubmitRefused> {
        let _ = (changes, effects);
        Err(SubmitRefused::NotOpen)
    }
}

impl<P: Payload> Machine for Writer<P> {
    type Id = WriterIdentity;
    type Config = WriterConfig;
    type Survived = ();
    type Message = Message<P>;
    type Entry = Infallible;
    type Task = Infallible;
    type Outcome = Infallible;
    type Timer = Timer;
    type Request = Request<P>;
    type Answer = Answer<P>;

    fn boot(_: &WriterConfig, id: WriterIdentity, (): (), _: Micros, _: &mut Effects<Self>) -> Self {
        Writer { id, marker: core::marker::PhantomData }
    }

    fn step(&mut self, _: Micros, _: Input<Self>, _: &mut Effects<Self>) {}
}
