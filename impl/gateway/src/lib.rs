//! `auriga gateway`: addresses of a cluster that stay the same when the writer changes.
//!
//! Clients connect to its *writer* endpoint or its *reader* endpoint; bytes are copied to an instance and back. It
//! learns from the instances themselves who writes, and needs no controller: a cluster goes on serving when every
//! controller is dead.
//!
//! **What it never does.** It sends no new connection of the writer endpoint to an instance that it knows not to be the
//! newest writer. It moves no connection: one to a writer that was replaced is closed. At these two endpoints it reads no
//! statement, and holds no password. A third one, where it is wanted, forwards writes: see [`forward`].
//!
//! **Where to go next.** [`topology`] (who is where, decided without I/O), [`watching`] (how it is learnt),
//! [`endpoints`] (the listeners), [`names`] and [`dns`] (the same by name), [`session`] (one connection), [`wire`] (the
//! little of PostgreSQL's protocol that is needed), [`config`], [`run`].

pub mod config;
pub mod dns;
pub mod endpoints;
pub mod forward;
pub mod names;
pub mod run;
pub mod session;
pub mod topology;
pub mod watching;
pub mod wire;
