//! A whole cluster on one machine, broken on purpose, with every acknowledged commit checked.
//!
//! | module | what it is |
//! |---|---|
//! | [`demo`] | six storage processes and instances, each a real process on a loopback address of its own |
//! | [`bank`] | the load, and its judge: clients that write down outside the database what was acknowledged |
//! | [`instances`] | who writes, where several instances may, and whether all is whole |
//! | `members` | who is in the volume's groups, and whether all of them are there |
//! | [`tour`] | a fixed walk through failures |
//! | [`regions`] | several such clusters, one database over them, and the network between |
//! | [`rehearse`] | long runs of one kind of failure |
//! | [`standbys`] | what readers show, compared with plain streaming standbys |
//! | [`volatile_disk`] | a disk that forgets what was not synchronised when its power is cut |
//! | [`cli`] | the commands |
//! | [`process`] | child processes that never outlive their parent |
//!
//! **What it never does.** No role that a user runs depends on it: only the binary links it, by a feature that a package
//! may leave out.

/// The standard library's, except that nothing comes of an output that is closed or full: a demo whose reader has gone
/// goes on.
macro_rules! println {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}

/// As above, on standard error.
macro_rules! eprintln {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}

pub mod bank;
pub mod cli;
pub mod demo;
mod fuse;
pub mod instances;
mod members;
pub mod process;
pub mod regions;
pub mod rehearse;
pub mod standbys;
pub mod tour;
pub mod volatile_disk;
