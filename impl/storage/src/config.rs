//! What a storage node is told when it starts.

use auriga_audit::trace::Trace;
use auriga_net::ClusterId;
use auriga_net::listener::ListenLimits;
use auriga_protocol::{MemberId, SegmentConfig};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The usual [`StorageConfig::segments_max`]: each segment has up to 64 MiB of records in memory, and two files open.
pub const SEGMENTS_MAX: usize = 1024;

/// A storage node's configuration.
#[derive(Clone)]
pub struct StorageConfig {
    /// Its name: 1 to 63 bytes, unique in the cluster.
    pub name: String,
    /// Its Availability Zone.
    pub az: String,
    /// Which cluster it belongs to.
    pub cluster: ClusterId,
    /// Where it listens. Port 0 picks one.
    pub listen: SocketAddr,
    /// Where each member's node listens, its own included or not.
    pub members: BTreeMap<MemberId, SocketAddr>,
    /// Limits of each segment.
    pub segment: SegmentConfig,
    /// Segments that it hosts at most.
    pub segments_max: usize,
    /// Limits on connections.
    pub limits: ListenLimits,
    /// Where notes go.
    pub trace: Trace,
}

impl StorageConfig {
    /// A node with the usual limits, without a trace.
    pub fn new(name: &str, az: &str, cluster: ClusterId, listen: SocketAddr) -> StorageConfig {
        StorageConfig {
            name: name.to_owned(),
            az: az.to_owned(),
            cluster,
            listen,
            members: BTreeMap::new(),
            segment: SegmentConfig::default(),
            segments_max: SEGMENTS_MAX,
            limits: ListenLimits::default(),
            trace: Trace::off(),
        }
    }
}
