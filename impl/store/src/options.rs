//! A store's fixed configuration.

use std::time::Duration;

/// A store's fixed configuration.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Whose store this is: written at the first start, verified afterwards.
    pub cluster: u128,
    /// The node's name, likewise.
    pub node: String,
    /// Bytes of a journal file; a multiple of 4096, at least 64 KiB. An entry must fit into half a file.
    pub journal_file_bytes: u64,
    /// Bytes that one segment may have queued for the journal. Must exceed what the segment lets be outstanding
    /// ([`SegmentConfig::log_weight_max`](auriga_protocol::SegmentConfig)): more is a broken invariant.
    pub queue_bytes: usize,
    /// When less than this is left, segments are told that the disk is full. In bytes.
    pub reserve_bytes: u64,
    /// Most bytes that the store's files may take; `None`: as many as there are.
    pub capacity_bytes: Option<u64>,
    /// How often to look at the room left, and to make an empty journal file where there is none.
    pub watch_every: Duration,
    /// How often to give back the room of pages that were forgotten or replaced, and was not needed since the last time.
    /// Zero: never.
    pub give_back_every: Duration,
    /// How often to verify a complete journal file. Zero: never.
    pub scrub_journal_every: Duration,
    /// Threads that read pages.
    pub readers: usize,
}

impl StoreOptions {
    /// The usual, for this node.
    pub fn new(cluster: u128, node: impl Into<String>) -> StoreOptions {
        StoreOptions {
            cluster,
            node: node.into(),
            journal_file_bytes: 16 << 20,
            queue_bytes: 128 << 20,
            reserve_bytes: 256 << 20,
            capacity_bytes: None,
            watch_every: Duration::from_millis(500),
            give_back_every: Duration::from_secs(10),
            scrub_journal_every: Duration::from_secs(60),
            readers: 1,
        }
    }
}
