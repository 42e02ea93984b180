//! Reads that wait for their pages: those of a writer and of a reader alike.

use crate::{Callback, PageRead, VolumeError};
use auriga_driver::lock;
use auriga_protocol::Token;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

/// Reads under way, each with what is wanted (`W`). Callbacks are called without the lock.
pub(crate) struct PendingReads<W>(Mutex<HashMap<Token, Reading<W>>>);

/// A read that waits for its page.
struct Reading<W> {
    wanted: W,
    deadline: Instant,
    callback: Callback<PageRead>,
    /// The machine had too many: to be asked again.
    postponed: bool,
}

impl<W> Default for PendingReads<W> {
    fn default() -> Self {
        PendingReads(Mutex::default())
    }
}

impl<W: Copy> PendingReads<W> {
    /// Keeps a read until its page arrives, or `deadline` passes.
    pub fn begin(&self, token: Token, wanted: W, deadline: Instant, callback: Callback<PageRead>) {
        lock(&self.0).insert(token, Reading { wanted, deadline, callback, postponed: false });
    }

    /// Answers a read. Without an entry its deadline has passed.
    pub fn finish(&self, token: Token, result: Result<PageRead, VolumeError>) {
        let read = lock(&self.0).remove(&token);
        if let Some(read) = read {
            (read.callback)(result);
        }
    }

    /// Keeps a read to be asked for again.
    pub fn postpone(&self, token: Token) {
        if let Some(read) = lock(&self.0).get_mut(&token) {
            read.postponed = true;
        }
    }

    /// Returns the reads to ask for again.
    pub fn take_postponed(&self) -> Vec<(Token, W)> {
        let mut reads = lock(&self.0);
        let postponed = reads.iter_mut().filter(|(_, read)| read.postponed);
        let again = |(token, read): (&Token, &mut Reading<W>)| {
            read.postponed = false;
            (*token, read.wanted)
        };
        postponed.map(again).collect()
    }

    /// Answers the reads whose deadline has passed. Returns their tokens, so that the machine can forget them, too.
    pub fn expire(&self, now: Instant) -> Vec<Token> {
        let mut reads = lock(&self.0);
        let expired: Vec<_> = reads.iter().filter(|(_, read)| read.deadline <= now).map(|(token, _)| *token).collect();
        let taken: Vec<_> = expired.iter().filter_map(|token| reads.remove(token)).collect();
        drop(reads);
        taken.into_iter().for_each(|read| (read.callback)(Err(VolumeError::TimedOut)));
        expired
    }

    /// Answers every read.
    pub fn end(&self, error: VolumeError) {
        let reads = std::mem::take(&mut *lock(&self.0));
        reads.into_values().for_each(|read| (read.callback)(Err(error)));
    }
}
