//! Whole clusters, as a person would start them and harm them: with the program's own commands, PostgreSQL and its clients.
//!
//! They need root, /dev/fuse and PostgreSQL, and say so where one is missing. Most of their time is waiting, so they are
//! one test program, whose tests run beside each other. Each test has a loopback network of its own, which no other test
//! names: `127.0.NNN`.
//!
//! Never here: what can be shown without processes. That is in the crates' own tests.

mod common;

mod accept_loss;
mod backup;
mod demo;
mod failover;
mod fenced;
mod global;
mod global_demo;
mod global_readers;
mod operators;
mod outside;
mod readers;
mod repair;
mod sql;
mod stuck;
mod stumbles;
mod watched;
