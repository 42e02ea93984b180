//! What a controller keeps: the last events, and who wrote last.
//!
//! An embedded store (redb: one file, no process of its own). Losing it loses the history, and nothing else: a controller
//! without it learns from the instances who writes.

use crate::controller::{Event, Kept};
use crate::fleet;
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");
const KEPT: &str = "kept";
const HEALING: &str = "healing";
/// Events that are kept.
pub const EVENTS_MAX: u64 = 10_000;

/// An event that was kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredEvent {
    /// Counts from 1.
    pub number: u64,
    /// When, in milliseconds of Unix time.
    pub at_ms: u64,
    /// Aurora's number of such an event.
    pub id: String,
    /// Aurora's text.
    pub message: String,
    /// What has happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Why something is not kept, or not read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Its directory.
    #[error("{}: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// How it failed.
        source: std::io::Error,
    },
    /// The file.
    #[error("the controller's store: {0}")]
    Database(#[from] redb::Error),
    /// What is in it was not written by this build.
    #[error("the controller's store holds something else: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// See the [module](self).
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the store in `directory`, or makes it.
    ///
    /// # Errors
    /// It can't be opened; another process has it open, for example.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        std::fs::create_dir_all(directory).map_err(|source| StoreError::Io { path: directory.to_owned(), source })?;
        let database = Database::create(directory.join("control.redb")).map_err(redb::Error::from)?;
        let store = Store { database };
        let write = store.database.begin_write().map_err(redb::Error::from)?;
        write.open_table(EVENTS).map_err(redb::Error::from)?;
        write.open_table(STATE).map_err(redb::Error::from)?;
        write.commit().map_err(redb::Error::from)?;
        Ok(store)
    }

    /// Keeps an event of now; forgets the oldest one where there are too many.
    ///
    /// # Errors
    /// It can't be written.
    pub fn append(&self, event: &Event) -> Result<StoredEvent, StoreError> {
        let write = self.database.begin_write().map_err(redb::Error::from)?;
        let stored = {
            let mut events = write.open_table(EVENTS).map_err(redb::Error::from)?;
            let last = events.last().map_err(redb::Error::from)?.map_or(0, |(number, _)| number.value());
            let stored = StoredEvent {
                number: last + 1,
                at_ms: now_ms(),
                id: event.id().to_owned(),
                message: event.message(),
                event: event.clone(),
            };
            let bytes = serde_json::to_vec(&stored)?;
            events.insert(stored.number, bytes.as_slice()).map_err(redb::Error::from)?;
            while events.len().map_err(redb::Error::from)? > EVENTS_MAX {
                events.pop_first().map_err(redb::Error::from)?;
            }
            stored
        };
        write.commit().map_err(redb::Error::from)?;
        Ok(stored)
    }

    /// The last `count` events with a number above `after`, the oldest first.
    ///
    /// # Errors
    /// They can't be read.
    pub fn events(&self, after: u64, count: usize) -> Result<Vec<StoredEvent>, StoreError> {
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let events = read.open_table(EVENTS).map_err(redb::Error::from)?;
        let mut found = Vec::new();
        for entry in events.range(after.saturating_add(1)..).map_err(redb::Error::from)?.rev().take(count) {
            let (_, bytes) = entry.map_err(redb::Error::from)?;
            found.push(serde_json::from_slice(bytes.value())?);
        }
        found.reverse();
        Ok(found)
    }

    /// Keeps who writes.
    ///
    /// # Errors
    /// It can't be written.
    pub fn persist(&self, kept: &Kept) -> Result<(), StoreError> {
        self.put(KEPT, kept)
    }

    /// Who wrote last; nobody in a store that was just made.
    ///
    /// # Errors
    /// It can't be read.
    pub fn kept(&self) -> Result<Kept, StoreError> {
        self.get(KEPT)
    }

    /// Keeps which replacements were begun here.
    ///
    /// # Errors
    /// It can't be written.
    pub fn persist_healing(&self, kept: &fleet::Kept) -> Result<(), StoreError> {
        self.put(HEALING, kept)
    }

    /// Which replacements were begun here; none in a store that was just made.
    ///
    /// # Errors
    /// It can't be read.
    pub fn healing(&self) -> Result<fleet::Kept, StoreError> {
        self.get(HEALING)
    }

    fn put(&self, key: &str, value: &impl Serialize) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(redb::Error::from)?;
        {
            let mut state = write.open_table(STATE).map_err(redb::Error::from)?;
            let bytes = serde_json::to_vec(value)?;
            state.insert(key, bytes.as_slice()).map_err(redb::Error::from)?;
        }
        Ok(write.commit().map_err(redb::Error::from)?)
    }

    fn get<T: serde::de::DeserializeOwned + Default>(&self, key: &str) -> Result<T, StoreError> {
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let state = read.open_table(STATE).map_err(redb::Error::from)?;
        match state.get(key).map_err(redb::Error::from)? {
            Some(bytes) => Ok(serde_json::from_slice(bytes.value())?),
            None => Ok(T::default()),
        }
    }
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::EventKind;

    #[test]
    fn what_is_kept_outlives_the_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let event = |name: &str| Event { kind: EventKind::Completed(name.to_owned()), reason: "why".to_owned() };
        let kept = Kept { writer: Some("w".to_owned()), volume_epoch: (7, 1), az: "a".to_owned() };
        {
            let store = Store::open(dir.path()).expect("opened");
            assert_eq!(store.kept().expect("read"), Kept::default());
            store.persist(&kept).expect("kept");
            store.persist_healing(&fleet::Kept { begun: [(3, 6)].into() }).expect("kept");
            for name in ["a", "b", "c"] {
                store.append(&event(name)).expect("kept");
            }
            assert!(Store::open(dir.path()).is_err(), "one process at a time");
        }
        let store = Store::open(dir.path()).expect("opened again");
        assert_eq!(store.kept().expect("read"), kept);
        assert_eq!(store.healing().expect("read").begun, [(3, 6)].into());
        assert_eq!(store.append(&event("d")).expect("kept").number, 4);
        let names = |after, count| -> Vec<String> {
            store.events(after, count).expect("read").into_iter().map(|event| event.message).collect()
        };
        assert_eq!(names(0, 2), ["Completed failover to DB instance: c.", "Completed failover to DB instance: d."]);
        assert_eq!((names(3, 9).len(), names(4, 9).len(), names(u64::MAX, 9).len()), (1, 0, 0));
    }
}
