//! Who writes and who reads, as far as a gateway has seen: decided without I/O.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A volume epoch: its number, and its writer. They are ordered like volume epochs.
pub type Epoch = (u64, u64);

/// An instance whose last answer is older than this, in milliseconds, gets no new connection.
pub const SILENT_MS: u64 = 2_000;

/// What an instance does, where clients may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Does {
    /// It writes, with this volume epoch.
    Writes(Epoch),
    /// It reads.
    Reads,
    /// Neither, or it lets nobody in.
    Neither,
}

/// What is known of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    does: Does,
    /// Where PostgreSQL listens.
    address: SocketAddr,
    /// When it answered last.
    at_ms: u64,
    /// Whether its host refuses connections since.
    is_down: bool,
}

/// The instances as they were seen last. The newest volume epoch never goes back.
#[derive(Debug, Default)]
pub struct Watched {
    known: BTreeMap<String, Known>,
    newest: Epoch,
}

/// Where new connections go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    /// The newest volume epoch that was seen.
    pub volume_epoch: Epoch,
    /// The newest writer, where it can be reached and lets clients in.
    pub writer: Option<SocketAddr>,
    /// The readers that can be reached and let clients in.
    pub readers: Vec<SocketAddr>,
    /// The address of each instance, whatever it does.
    pub instances: BTreeMap<String, SocketAddr>,
}

impl Watched {
    /// An instance has answered. `epoch` is the highest volume epoch that it knows of, whatever it does.
    pub fn answered(&mut self, now_ms: u64, name: &str, does: Does, epoch: Epoch, address: SocketAddr) {
        self.newest = self.newest.max(epoch);
        self.known.insert(name.to_owned(), Known { does, address, at_ms: now_ms, is_down: false });
    }

    /// Its host refuses connections.
    pub fn refused(&mut self, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.is_down = true;
        }
    }

    /// Where new connections go now.
    pub fn topology(&self, now_ms: u64) -> Topology {
        let usable = |known: &&Known| !known.is_down && now_ms.saturating_sub(known.at_ms) <= SILENT_MS;
        let of = |does: Does| self.known.values().filter(usable).filter(move |known| known.does == does);
        // One that writes with an older epoch has been replaced, and may not know it yet.
        let writer = of(Does::Writes(self.newest)).map(|known| known.address).next();
        Topology {
            volume_epoch: self.newest,
            writer,
            readers: of(Does::Reads).map(|known| known.address).collect(),
            instances: self.known.iter().map(|(name, known)| (name.clone(), known.address)).collect(),
        }
    }
}

impl Topology {
    /// Whether a connection to the writer endpoint that goes to `address` must end: another one is the newest writer.
    pub fn has_replaced(&self, address: SocketAddr) -> bool {
        self.writer.is_some_and(|writer| writer != address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, host], 5432))
    }

    #[test]
    fn only_the_newest_writer_gets_connections() {
        let mut watched = Watched::default();
        watched.answered(0, "w", Does::Writes((3, 1)), (3, 1), at(1));
        watched.answered(0, "r", Does::Reads, (3, 1), at(2));
        let first = watched.topology(100);
        assert_eq!((first.writer, &first.readers), (Some(at(1)), &vec![at(2)]));
        // A reader that was promoted and does not let clients in yet: the old writer is known not to be the newest one.
        watched.answered(200, "r", Does::Neither, (4, 1), at(2));
        let between = watched.topology(200);
        assert_eq!((between.writer, between.readers.len()), (None, 0));
        assert!(!between.has_replaced(at(1)), "nobody has, yet");
        watched.answered(300, "r", Does::Writes((4, 1)), (4, 1), at(2));
        let after = watched.topology(300);
        assert_eq!(after.writer, Some(at(2)));
        assert!(after.has_replaced(at(1)) && !after.has_replaced(at(2)));
        // The old one still believes that it writes.
        watched.answered(400, "w", Does::Writes((3, 1)), (3, 1), at(1));
        assert_eq!(watched.topology(400).writer, Some(at(2)));
        // When the new one is gone, the old one is not used again.
        watched.refused("r");
        assert_eq!(watched.topology(500).writer, None);
        assert_eq!(watched.topology(500).instances.len(), 2);
    }

    #[test]
    fn who_is_silent_or_down_gets_no_new_connection() {
        let mut watched = Watched::default();
        watched.answered(0, "r", Does::Reads, (1, 1), at(2));
        watched.answered(0, "w", Does::Writes((1, 1)), (1, 1), at(1));
        assert_eq!(
            watched.topology(SILENT_MS + 1),
            Topology { volume_epoch: (1, 1), instances: watched.topology(0).instances, ..Topology::default() }
        );
        watched.answered(5_000, "r", Does::Reads, (1, 1), at(2));
        assert_eq!(watched.topology(5_000).readers, [at(2)]);
        watched.refused("r");
        assert!(watched.topology(5_000).readers.is_empty());
    }
}
