//! `auriga control`: sees that the writer of a cluster is gone, and has another instance take over.
//!
//! **What it never does.** It decides nothing that safety rests on: storage refuses every writer but the newest one. A cluster
//! goes on serving when no such process runs; only nobody takes over then. It starts no process, and moves no connection.
//!
//! **Where to go next.** [`controller`] decides who writes, and [`fleet`] which storage process is replaced, both without I/O. [`driver`] looks at the instances and does what was decided; [`healing`] does the same for storage.
//! [`store`] keeps events, [`serve`] answers people, [`client`] asks a process of this kind, [`config`] is its TOML file.

pub mod client;
pub mod config;
pub mod controller;
pub mod driver;
pub mod fleet;
pub mod healing;
pub mod serve;
pub mod store;
