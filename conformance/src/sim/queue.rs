//! What will happen, in order of virtual time; what is due at one time happens in the order in which it was asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The event queue.
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    serial: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), serial: 0 }
    }
}

impl<E> Queue<E> {
    /// Adds an event; answers its number, which no other event has.
    pub fn push(&mut self, at: u64, event: E) -> u64 {
        self.serial += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[slot] = Some(event);
        self.heap.push(Reverse((at, self.serial, slot)));
        self.serial
    }

    /// Takes the next event: its time, number and content.
    pub fn pop(&mut self) -> Option<(u64, u64, E)> {
        let Reverse((at, serial, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let event = self.events[slot].take().expect("a queued slot holds its event");
        Some((at, serial, event))
    }

    /// When the next event is due.
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_first_then_order_of_asking() {
        let mut queue = Queue::default();
        for (at, event) in [(5, "c"), (1, "a"), (5, "d"), (2, "b")] {
            queue.push(at, event);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, _, event)| event).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
