//! A compute node: a mounted volume with stock PostgreSQL on it.
//!
//! An instance opens a volume (recovering it with a higher volume epoch, which fences the writer before it), mounts
//! it, creates or finds the database cluster there, and keeps `postgres` running on the mount until it is stopped or
//! fenced itself.
//!
//! **What it never does.** It keeps nothing that is needed on its own disk: deleting its local directory loses
//! nothing. It never decides who may write: the storage does, by volume epochs. It never patches PostgreSQL.
//!
//! Where to go next: [`node`] (all of it in order), [`postgres`] (finding, creating, running it), [`supervise`],
//! [`on_mount`] (what uses the mount, in processes of their own), [`sql`] (what clients of Aurora ask), [`health`],
//! [`admin`].

pub mod admin;
pub mod health;
pub mod node;
pub mod on_mount;
pub mod postgres;
pub mod sql;
pub mod supervise;
