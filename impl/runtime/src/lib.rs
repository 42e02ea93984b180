//! Runs the protocol's state machines over sockets, disks and clocks.

pub mod volume;
