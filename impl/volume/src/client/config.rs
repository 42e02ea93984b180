//! What a volume's user says to open it.

use auriga_audit::trace::Trace;
use auriga_net::admin::Access;
use auriga_net::{ClusterId, Credentials};
use auriga_protocol::{Charter, MemberId, VolumeId, WriterConfig};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How to reach a volume.
#[derive(Clone)]
pub struct VolumeConfig {
    /// This node's name: 1 to 63 bytes, unique in the cluster.
    pub name: String,
    /// Which cluster the storage belongs to.
    pub cluster: ClusterId,
    /// What it shows to storage; both must have certificates of one authority. In the clear where absent.
    pub credentials: Option<Credentials>,
    /// Which volume: its identity, which is chosen at random when it is made.
    pub volume: VolumeId,
    /// The number by which people name it.
    pub label: u64,
    /// Where each member's node listens.
    pub members: BTreeMap<MemberId, SocketAddr>,
    /// The writer's limits, and the volume's geometry and first membership: the same for every writer of a volume.
    pub writer: WriterConfig,
    /// Where notes go.
    pub trace: Trace,
}

impl VolumeConfig {
    /// What is needed to ask storage processes.
    pub(super) fn access(&self) -> Access {
        Access { cluster: self.cluster, credentials: self.credentials.clone() }
    }

    /// What the volume is made as, or must have been made as.
    pub fn charter(&self) -> Charter {
        Charter { label: self.label, shape: self.writer.shape() }
    }

    /// A volume with the usual limits and one protection group, without a trace. Its label is its identity.
    pub fn new(name: &str, cluster: ClusterId, volume: VolumeId, members: BTreeMap<MemberId, SocketAddr>) -> Self {
        let (writer, trace) = (WriterConfig::default(), Trace::off());
        let (name, label) = (name.to_owned(), volume.0);
        VolumeConfig { name, cluster, credentials: None, volume, label, members, writer, trace }
    }
}
