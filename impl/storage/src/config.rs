//! What a storage node is told when it starts.

use auriga_audit::trace::Trace;
use auriga_net::admin::Access;
use auriga_net::listener::ListenLimits;
use auriga_net::{ClusterId, Credentials};
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
    /// What it shows to others; they must show the same authority's. In the clear where absent.
    pub credentials: Option<Credentials>,
    /// Whether it misbehaves when it is asked to ([`auriga_net::admin::AdminRequest::Inject`]).
    pub allow_fault_injection: bool,
    /// Limits on connections.
    pub limits: ListenLimits,
    /// Where notes go.
    pub trace: Trace,
}

impl StorageConfig {
    /// What it needs to ask its peers.
    pub(crate) fn access(&self) -> Access {
        Access { cluster: self.cluster, credentials: self.credentials.clone() }
    }

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
            credentials: None,
            allow_fault_injection: false,
            limits: ListenLimits::default(),
            trace: Trace::off(),
        }
    }
}
