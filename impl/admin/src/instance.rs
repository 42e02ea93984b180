//! Asking instances.

use auriga_instance::admin::{self, Question};
use auriga_instance::node::InstanceStatus;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long an instance may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// An instance's numbers.
///
/// # Errors
/// Not reached.
pub fn status(address: SocketAddr) -> io::Result<InstanceStatus> {
    admin::ask(address, Question::Status, PATIENCE)
}

/// Empties the instance's page cache, but for pages that are not durable yet.
///
/// # Errors
/// Not reached.
pub fn drop_caches(address: SocketAddr) -> io::Result<InstanceStatus> {
    admin::ask(address, Question::DropCaches, PATIENCE)
}
