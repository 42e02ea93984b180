//! Stock PostgreSQL: finding it, creating its database cluster, running it.
//!
//! Nothing here knows what a volume is: PGDATA is a directory, and the same code is tested on a plain one.
//!
//! - [`find`]: which installations are on this machine.
//! - [`user`]: whom PostgreSQL runs as (never root).
//! - [`cluster`]: `initdb`, and the settings that our storage makes safe.
//! - [`server`]: one run of `postgres`, from start to exit.

pub mod cluster;
pub mod find;
pub mod server;
pub mod user;
