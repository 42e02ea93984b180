//! How far readers have replayed. Whoever waits first asks, over its own connection; the others wait for what it learns.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::{Mutex as Turn, watch};

/// What is known of one life of a reader's PostgreSQL.
#[derive(Debug)]
pub struct Board {
    replayed: watch::Sender<u64>,
    /// Whoever has this asks.
    pub asking: Turn<()>,
}

impl Board {
    /// The highest position that the reader has told.
    pub fn replayed(&self) -> u64 {
        *self.replayed.borrow()
    }

    /// The reader has told this.
    pub fn told(&self, lsn: u64) {
        self.replayed.send_if_modified(|known| {
            let is_news = lsn > *known;
            *known = lsn.max(*known);
            is_news
        });
    }

    /// Waits until the reader has told a position of at least `lsn`.
    pub async fn reached(&self, lsn: u64) {
        // The sender lives as long as this.
        let _ = self.replayed.subscribe().wait_for(|known| *known >= lsn).await;
    }
}

/// The boards of all readers. A server that was started again has another one: it may have less than before.
#[derive(Debug, Default)]
pub struct Boards {
    known: Mutex<HashMap<(SocketAddr, String), Weak<Board>>>,
}

impl Boards {
    /// The board of the server at `address` that was started at `life`.
    pub fn of(&self, address: SocketAddr, life: String) -> Arc<Board> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, board| board.strong_count() > 0);
        let entry = known.entry((address, life)).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let board = Arc::new(Board { replayed: watch::channel(0).0, asking: Turn::new(()) });
            *entry = Arc::downgrade(&board);
            board
        })
    }
}
