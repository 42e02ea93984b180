//! Which blocks of a file to read before anyone asks for them.
//!
//! A reader that goes on where it stopped is *sequential*. PostgreSQL has several at once in one file: its redo reads old
//! and new versions of rows in turn, and backends share the scan of a table. So a file remembers the last few readers,
//! each by the block where it would go on. Once one does, blocks ahead of it are fetched: first few, then twice as many
//! each time, and the next ones while it is still in the middle of the last, so that it never waits for more than
//! the first. A random reader hits such a block only by chance, and costs nothing.

use std::ops::Range;

/// Readers remembered for one file.
const STREAMS: usize = 8;
/// Blocks that a reader may leave out and still be sequential: PostgreSQL has some in its own buffers.
const GAP_MAX: u64 = 4;
/// Blocks fetched ahead of a reader at first.
const FIRST: u64 = 8;
/// Most blocks fetched ahead of a reader: 2 MiB, so that several segments are busy with them.
pub(crate) const AHEAD_MAX: u64 = 256;

/// The readers of one file.
#[derive(Default)]
pub(crate) struct ReadAhead {
    streams: [Stream; STREAMS],
    reads: u64,
}

/// One reader.
#[derive(Clone, Copy, Default)]
struct Stream {
    /// Where it would go on; zero: no reader.
    next: u64,
    /// Everything below was read, or asked for.
    asked: u64,
    /// How far ahead to ask; zero: it has not been sequential yet.
    window: u64,
    last_used: u64,
}

impl ReadAhead {
    /// Notes that `wanted` is read. Returns what to fetch besides, at most `most` blocks.
    pub fn read(&mut self, wanted: &Range<u64>, most: u64) -> Range<u64> {
        self.reads += 1;
        let goes_on =
            |stream: &&mut Stream| stream.next != 0 && (stream.next..=stream.next + GAP_MAX).contains(&wanted.start);
        if let Some(stream) = self.streams.iter_mut().find(goes_on) {
            stream.last_used = self.reads;
            return stream.go_on(wanted.end, most);
        }
        let new = Stream { next: wanted.end, asked: wanted.end, window: 0, last_used: self.reads };
        if let Some(oldest) = self.streams.iter_mut().min_by_key(|stream| stream.last_used) {
            *oldest = new;
        }
        0..0
    }
}

impl Stream {
    fn go_on(&mut self, next: u64, most: u64) -> Range<u64> {
        self.next = next;
        if self.asked >= next + self.window / 2 && self.window > 0 {
            return 0..0;
        }
        self.window = (self.window * 2).clamp(FIRST, AHEAD_MAX).min(most);
        let start = self.asked.max(next);
        self.asked = start.max(next + self.window);
        start..self.asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads block by block; answers how many blocks were asked for when each was read.
    fn lead(readers: &mut ReadAhead, blocks: Range<u64>, step: usize) -> Vec<u64> {
        let mut asked = blocks.start;
        let mut lead = Vec::new();
        for block in blocks.step_by(step) {
            let ahead = readers.read(&(block..block + 1), AHEAD_MAX);
            assert!(ahead.is_empty() || ahead.start >= asked, "{ahead:?} was asked for before, up to {asked}");
            assert!(ahead.is_empty() || ahead.start <= asked.max(block + 1), "{ahead:?} leaves a hole behind {asked}");
            asked = asked.max(ahead.end);
            lead.push(asked.saturating_sub(block + 1));
        }
        lead
    }

    #[test]
    fn a_sequential_reader_is_led_further_and_further_up_to_the_limit() {
        let lead = lead(&mut ReadAhead::default(), 100..3000, 1);
        assert_eq!(lead[0], 0, "one read is no sequence");
        assert_eq!(lead[1], FIRST);
        assert!(lead[800..].iter().all(|lead| (AHEAD_MAX / 2 - 1..=AHEAD_MAX).contains(lead)), "{lead:?}");
    }

    #[test]
    fn small_gaps_do_not_end_a_sequence() {
        let lead = lead(&mut ReadAhead::default(), 100..1000, GAP_MAX as usize);
        assert!(lead[1..].iter().all(|lead| *lead > 0), "{lead:?}");
    }

    #[test]
    fn readers_in_turn_are_led_each() {
        let mut readers = ReadAhead::default();
        for block in 10..500 {
            for reader in 0..STREAMS as u64 {
                let ahead = readers.read(&(reader * 10_000 + block..reader * 10_000 + block + 1), AHEAD_MAX);
                assert!(ahead.is_empty() || ahead.start / 10_000 == reader);
                assert_eq!(block == 11, ahead.end - ahead.start == FIRST && ahead.start % 10_000 == 12);
            }
        }
    }

    #[test]
    fn a_random_reader_costs_nothing_and_the_limit_holds() {
        let mut readers = ReadAhead::default();
        assert!((0..10_000).all(|turn| readers.read(&(turn * 7919 % 65_536..turn * 7919 % 65_536 + 1), 64).is_empty()));
        let mut small = ReadAhead::default();
        assert!((0..1000).all(|block| small.read(&(block..block + 1), 3).count() <= 3));
    }
}
