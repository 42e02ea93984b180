//! What a volume's user says to open it.

use auriga_audit::trace::Trace;
use auriga_net::ClusterId;
use auriga_protocol::{MemberId, VolumeId, WriterConfig};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How to reach a volume.
#[derive(Clone)]
pub struct VolumeConfig {
    /// This node's name: 1 to 63 bytes, unique in the cluster.
    pub name: String,
    /// Which cluster the storage belongs to.
    pub cluster: ClusterId,
    /// Which volume.
    pub volume: VolumeId,
    /// Where each member's node listens.
    pub members: BTreeMap<MemberId, SocketAddr>,
    /// The writer's limits, and the volume's geometry and first membership: the same for every writer of a volume.
    pub writer: WriterConfig,
    /// Where notes go.
    pub trace: Trace,
}

impl VolumeConfig {
    /// A volume with the usual limits and one protection group, without a trace.
    pub fn new(name: &str, cluster: ClusterId, volume: VolumeId, members: BTreeMap<MemberId, SocketAddr>) -> Self {
        let (writer, trace) = (WriterConfig::default(), Trace::off());
        VolumeConfig { name: name.to_owned(), cluster, volume, members, writer, trace }
    }
}
