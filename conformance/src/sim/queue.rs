//! What will happen, in order of virtual time; what is due at one time happens in the order in which it was asked for.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The event queue.
pub struct Queue<E> {
    heap: BinaryHeap<Reverse<Due>>,
    events: Vec<Option<E>>,
    free: Vec<u32>,
    serial: u32,
}

/// When, number and slot of an event, as one integer, so that two compare in one step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due(u128);

impl Due {
    fn new(at: u64, serial: u32, slot: u32) -> Due {
        Due(u128::from(at) << 64 | u128::from(serial) << 32 | u128::from(slot))
    }

    fn at(self) -> u64 {
        (self.0 >> 64) as u64
    }

    fn serial(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn slot(self) -> u32 {
        self.0 as u32
    }
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), serial: 0 }
    }
}

impl<E> Queue<E> {
    /// Adds an event; answers its number, which no other event has.
    pub fn push(&mut self, at: u64, event: E) -> u32 {
        self.serial = self.serial.checked_add(1).expect("no run has so many events");
        let slot = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() as u32 - 1
        });
        self.events[slot as usize] = Some(event);
        self.heap.push(Reverse(Due::new(at, self.serial, slot)));
        self.serial
    }

    /// Takes the next event: its time, number and content.
    pub fn pop(&mut self) -> Option<(u64, u32, E)> {
        let Reverse(due) = self.heap.pop()?;
        self.free.push(due.slot());
        let event = self.events[due.slot() as usize].take().expect("a queued slot holds its event");
        Some((due.at(), due.serial(), event))
    }

    /// When the next event is due.
    pub fn next_at(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse(due)| due.at())
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
