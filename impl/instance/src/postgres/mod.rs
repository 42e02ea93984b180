//! Stock PostgreSQL: finding it, creating its database cluster, running it.
//!
//! Nothing here knows what a volume is: PGDATA is a directory, and the same code is tested on a plain one.
//!
//! - [`find`]: which installations are on this machine.
//! - [`user`]: whom PostgreSQL runs as (never root).
//! - [`cluster`]: `initdb`, and the settings that our storage makes safe.
//! - [`control`]: what a standby needs at least.
//! - [`session`]: asking the local server.
//! - [`progress`]: how far its recovery is.
//! - [`settings`]: whether PostgreSQL takes the settings that it is to have.
//! - [`server`]: one run of `postgres`, from start to exit.

pub mod cluster;
pub mod control;
pub mod find;
pub mod progress;
pub mod server;
pub mod session;
pub mod settings;
pub mod user;
