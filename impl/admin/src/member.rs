//! A member of a cluster, as `status` and `inject` see it.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What a member does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Keeps segments.
    Storage,
    /// Runs PostgreSQL.
    Instance,
    /// Has another instance take over.
    Control,
    /// Takes clients' connections.
    Gateway,
    /// Ships the log between regions.
    Region,
}

/// What state its process is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Running.
    Up,
    /// Stopped by SIGSTOP.
    Frozen,
    /// Not running.
    Down,
}

/// One member of a demo, as `status` and `inject` see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// What it does.
    pub role: Role,
    /// Its Availability Zone; empty for an instance that writes.
    pub az: String,
    /// Where it listens: the storage port, or an instance's admin port.
    pub address: SocketAddr,
    /// Where PostgreSQL listens, for an instance.
    pub postgres: Option<SocketAddr>,
    /// Its process, where there is one.
    pub pid: Option<u32>,
    /// The state of its process.
    pub state: State,
    /// The faults that were injected and are in force, for a person.
    #[serde(default)]
    pub faults: Vec<String>,
}

/// What a region is called.
pub fn region_name(number: u16) -> String {
    format!("region-{number}")
}

/// Reads a region's name or number.
///
/// # Errors
/// It is neither.
pub fn parse_region(text: &str) -> Result<u16, String> {
    let number = text.strip_prefix("region-").unwrap_or(text);
    let number = number.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{text}: must be a region's number or name, such as 2 or region-2"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_has_a_name_and_a_number() {
        assert_eq!((parse_region("2"), parse_region("region-2")), (Ok(2), Ok(2)));
        assert_eq!(parse_region(&region_name(7)), Ok(7));
        for wrong in ["0", "region-", "region-0", "b", ""] {
            assert!(parse_region(wrong).is_err(), "{wrong}");
        }
    }
}
