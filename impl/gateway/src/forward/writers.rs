//! Which instance writes, of this region or another one.

use crate::topology::{Epoch, Topology};
use std::net::SocketAddr;
use tokio::sync::watch;

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
