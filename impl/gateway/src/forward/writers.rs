//! Which instance writes, of this region or another one.

use crate::topology::{Epoch, Topology};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

/// A writer, as one that can be told from any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// The region, as the gateway counts them; 0 is its own.
    pub region: usize,
    /// Its volume epoch.
    pub epoch: Epoch,
}

/// A region that a writer may be in.
#[derive(Clone, Debug)]
pub struct Place {
    /// Who is where there.
    pub topology: watch::Receiver<Topology>,
    /// Where its writer is reached, where that is not at its own address.
    pub postgres: Option<SocketAddr>,
}

/// Why there is no writer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoWriter {
    /// Nobody says that he writes.
    Nobody,
    /// Two regions' instances do. One of them has been replaced, and may not know it yet.
    Several,
}

/// The regions that a writer may be in, this gateway's first.
#[derive(Clone, Debug)]
pub struct Writers {
    places: Vec<Place>,
}

impl Writers {
    /// Looks for the writer in these regions.
    pub fn new(places: Vec<Place>) -> Writers {
        Writers { places }
    }

    /// The one that writes.
    ///
    /// # Errors
    /// There is none, or more than one.
    pub fn now(&self) -> Result<(SocketAddr, Origin), NoWriter> {
        let mut found = self.places.iter().enumerate().filter_map(|(region, place)| {
            let topology = place.topology.borrow();
            let address = topology.writer?;
            Some((place.postgres.unwrap_or(address), Origin { region, epoch: topology.volume_epoch }))
        });
        let first = found.next().ok_or(NoWriter::Nobody)?;
        match found.next() {
            None => Ok(first),
            Some(_) => Err(NoWriter::Several),
        }
    }

    /// Whether another one than `origin` is known to have replaced it.
    pub fn has_replaced(&self, origin: Origin) -> bool {
        self.now().is_ok_and(|(_, writer)| writer != origin)
            || self.places.get(origin.region).is_some_and(|place| place.topology.borrow().volume_epoch > origin.epoch)
    }

    /// Waits until a writer is gone: it was replaced, or has not been seen to write for so long.
    pub async fn gone(&mut self, origin: Origin, patience: Duration) {
        let mut unseen_since = None;
        while !self.has_replaced(origin) {
            let place = self.places.get(origin.region);
            if place.is_some_and(|place| place.topology.borrow().writer.is_some()) {
                unseen_since = None;
                self.changed().await;
                continue;
            }
            let until = *unseen_since.get_or_insert_with(Instant::now) + patience;
            if timeout_at(until, self.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Waits until something may have changed.
    pub async fn changed(&mut self) {
        let all = self.places.iter_mut().map(|place| Box::pin(place.topology.changed()));
        let mut all: Vec<_> = all.collect();
        std::future::poll_fn(|context| {
            let any =
                all.iter_mut().any(|changed| matches!(changed.as_mut().poll(context), std::task::Poll::Ready(Ok(()))));
            if any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_is_not_seen_for_long_is_gone() {
        let at = SocketAddr::from(([127, 0, 0, 1], 5432));
        let writes = || Topology { writer: Some(at), volume_epoch: (5, 1), ..Topology::default() };
        let (own, topology) = watch::channel(writes());
        let mut writers = Writers::new(vec![Place { topology, postgres: None }]);
        let origin = Origin { region: 0, epoch: (5, 1) };
        let patience = Duration::from_secs(30);
        assert!(
            timeout_at(Instant::now() + patience * 4, writers.gone(origin, patience)).await.is_err(),
            "it is there"
        );
        own.send_replace(Topology { volume_epoch: (5, 1), ..Topology::default() });
        assert!(
            timeout_at(Instant::now() + patience / 2, writers.gone(origin, patience)).await.is_err(),
            "not for long"
        );
        own.send_replace(writes());
        assert!(timeout_at(Instant::now() + patience * 2, writers.gone(origin, patience)).await.is_err(), "it is back");
        own.send_replace(Topology { volume_epoch: (5, 1), ..Topology::default() });
        writers.gone(origin, patience).await;
        own.send_replace(Topology { volume_epoch: (6, 1), ..Topology::default() });
        writers.gone(origin, patience).await;
    }

    #[test]
    fn a_writer_is_the_only_one_that_says_so() {
        let at = |host: u8| SocketAddr::from(([127, 0, 0, host], 5432));
        let (own, own_topology) = watch::channel(Topology::default());
        let (other, other_topology) = watch::channel(Topology::default());
        let place = |topology, postgres| Place { topology, postgres };
        let writers = Writers::new(vec![place(own_topology, None), place(other_topology, Some(at(9)))]);
        assert_eq!(writers.now(), Err(NoWriter::Nobody));
        let writes = |host, epoch| Topology { writer: Some(at(host)), volume_epoch: (epoch, 1), ..Topology::default() };
        other.send_replace(writes(2, 5));
        let origin = Origin { region: 1, epoch: (5, 1) };
        assert_eq!(writers.now(), Ok((at(9), origin)));
        assert!(!writers.has_replaced(origin));
        own.send_replace(writes(1, 3));
        assert_eq!(writers.now(), Err(NoWriter::Several), "never one of two");
        assert!(!writers.has_replaced(origin), "it may be the one");
        other.send_replace(Topology { volume_epoch: (5, 1), ..Topology::default() });
        assert_eq!(writers.now(), Ok((at(1), Origin { region: 0, epoch: (3, 1) })));
        assert!(writers.has_replaced(origin));
        other.send_replace(Topology { volume_epoch: (6, 1), ..Topology::default() });
        own.send_replace(Topology::default());
        assert!(writers.has_replaced(origin), "a newer one was seen there");
    }
}
