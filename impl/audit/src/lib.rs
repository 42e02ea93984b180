//! What a run of real processes did, written down and judged.
//!
//! A process writes its observable facts as a [`trace`], and, when it is asked to, every input of its state machines as
//! a [`recording`]. [`trace_check`] reads the traces of all processes of a run, checks them against the rules of
//! `specs/rules.md`, and runs recorded machines again: the same inputs must have the same effects.
//!
//! **What it never does.** It never changes what a process does. What it reads from a file is checked, not trusted.
//!
//! **Where to go next.** `trace.rs`, `recording.rs`, then `trace_check/` and `trace_check/replay/`.

pub mod recording;
pub mod trace;
pub mod trace_check;
