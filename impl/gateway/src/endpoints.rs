//! The listeners of a gateway, and how connections are spread.

use crate::session;
use crate::topology::Topology;
use crate::wire::TOO_MANY_CONNECTIONS;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Clients at one time that are told that there are too many; further ones are closed at once.
const TURNED_AWAY_MAX: usize = 64;

/// What a client has connected to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// To the writer.
    Writer,
    /// To one of the readers; to the writer where there is none.
    Reader,
}

impl Endpoint {
    /// What a client is told that has waited in vain.
    pub fn nobody(self) -> &'static str {
        match self {
            Endpoint::Writer => "no instance writes just now: try again",
            Endpoint::Reader => "no instance lets clients in just now: try again",
        }
    }
}

/// How many connections each instance has.
#[derive(Debug, Default)]
pub struct Places {
    open: Mutex<BTreeMap<SocketAddr, usize>>,
}

/// A connection that is counted as long as this lives.
#[derive(Debug)]
pub struct Counted<'a> {
    places: &'a Places,
    address: SocketAddr,
}

impl Places {
    /// Chooses an instance for a new connection: of the readers the one with the fewest, and any one of several such.
    /// Those that have just failed come last.
    pub fn choose(&self, endpoint: Endpoint, topology: &Topology, failed: &[SocketAddr]) -> Option<SocketAddr> {
        let readers: &[SocketAddr] = if endpoint == Endpoint::Reader { &topology.readers } else { &[] };
        let open = self.lock();
        let rank = |address: &&SocketAddr| {
            let failures = failed.iter().filter(|failed| failed == address).count();
            (failures, open.get(*address).copied().unwrap_or(0), fastrand::u32(..))
        };
        readers.iter().min_by_key(rank).copied().or(topology.writer)
    }

    /// Counts a connection.
    pub fn count(&self, address: SocketAddr) -> Counted<'_> {
        *self.lock().entry(address).or_default() += 1;
        Counted { places: self, address }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut open = self.places.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// Serves one endpoint until the future is dropped, which ends every connection. `free` is shared by all endpoints.
pub async fn serve(
    listener: TcpListener,
    endpoint: Endpoint,
    topology: watch::Receiver<Topology>,
    free: Arc<Semaphore>,
    wait: Duration,
) {
    let places = Arc::new(Places::default());
    accept(listener, free, |client, from| {
        let (topology, places) = (topology.clone(), places.clone());
        async move {
            if let Err(error) = session::serve(client, endpoint, &places, topology, wait).await {
                tracing::debug!(%from, ?endpoint, %error, "a connection has ended");
            }
        }
    })
    .await;
}

/// Accepts connections and serves each by `serve`, until the future is dropped, which ends every session. Where no place
/// is `free` a client is told so.
pub(crate) async fn accept<S: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    free: Arc<Semaphore>,
    serve: impl Fn(TcpStream, SocketAddr) -> S,
) {
    let turning_away = Arc::new(Semaphore::new(TURNED_AWAY_MAX));
    let mut sessions = JoinSet::new();
    loop {
        let (client, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely.
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        while sessions.try_join_next().is_some() {}
        if let Ok(place) = free.clone().try_acquire_owned() {
            let session = serve(client, from);
            sessions.spawn(async move {
                let _place = place;
                session.await;
            });
        } else if let Ok(place) = turning_away.clone().try_acquire_owned() {
            sessions.spawn(async move {
                let _place = place;
                let _ = session::turn_away(client, TOO_MANY_CONNECTIONS, "the gateway has too many connections").await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_over_readers_and_go_to_the_writer_only_without_any() {
        let at = |host: u8| SocketAddr::from(([127, 0, 0, host], 5432));
        let mut topology = Topology { writer: Some(at(1)), readers: vec![at(2), at(3)], ..Topology::default() };
        let places = Places::default();
        let choose = |topology: &Topology, failed: &[SocketAddr]| places.choose(Endpoint::Reader, topology, failed);
        let first = choose(&topology, &[]).expect("a reader");
        let counted = places.count(first);
        let second = choose(&topology, &[]).expect("a reader");
        assert_ne!(first, second);
        assert_eq!(choose(&topology, &[second]), Some(first), "the other one has just failed");
        drop(counted);
        assert!(places.lock().is_empty());
        assert_eq!(places.choose(Endpoint::Writer, &topology, &[]), Some(at(1)));
        topology.readers.clear();
        assert_eq!(choose(&topology, &[]), Some(at(1)));
        topology.writer = None;
        assert_eq!(choose(&topology, &[]), None);
    }
}
