//! HTTP ports, for processes that people and programs ask about themselves: JSON in, JSON out.
//!
//! With certificates, both sides show one (the same as on the storage ports), and a [`Peer`] says who asks. Without,
//! anybody who reaches the port may ask everything: whether that is allowed is decided where the configuration is read.
//!
//! **What it never does.** It decides nothing that safety rests on, and knows no question: each process has its own
//! [`axum::Router`].
//!
//! **Where to go next.** [`server`] (bounded in connections, time and bytes), [`client`], [`peer`] (who may change
//! something).

pub mod client;
pub mod peer;
pub mod server;

pub use client::{Client, HttpError, ask};
pub use peer::{Peer, Refused};
pub use server::{Limits, serve};

/// The library in which routes are written.
pub use axum;
/// The method of a request.
pub use hyper::{Method, StatusCode};
