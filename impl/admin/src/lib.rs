//! What a person or a program uses to run a cluster: the roles' configuration files, and questions to running processes.
//!
//! `auriga status`, `auriga create-volume`, the demo and the rehearsals ask through this crate.
//!
//! **What it never does.** It decides nothing that safety rests on: the processes that it asks may refuse.
//!
//! **Where to go next.** [`config`] (the TOML files), [`trust`] (certificates, and what may go without), [`storage`] (questions to storage processes), [`instance`]
//! (questions to instances), [`looking`] and [`others`] (the same, again and again), [`postgres`] (connections to the database),
//! [`member`] (how a member is shown),
//! [`terminal`] (how wide what is shown may be).

pub mod backup;
pub mod config;
pub mod instance;
pub mod looking;
pub mod member;
pub mod others;
pub mod postgres;
pub mod storage;
pub mod terminal;
pub mod trust;
