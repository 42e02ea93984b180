//! The users of a writer: they submit mini-transactions, read pages, and compare what they get with what must be there.

use super::coverage::Counted;
use super::node::AskedRead;
use super::payload::{Mark, Marked};
use super::world::{Event, World};
use auriga_protocol::writer::{Answer, Request, SubmitRefused};
use auriga_protocol::{Change, Input, Lsn, PageId, Token};

impl World<'_> {
    /// A writer's users do something, and will again after a while.
    pub(super) fn users(&mut self, writer: usize) {
        if self.healed || self.writers[writer].machine.is_none() {
            return;
        }
        let frozen = self.writers[writer].frozen_until;
        if frozen > self.now {
            self.queue.push(frozen, Event::Users { writer });
            return;
        }
        let settings = &self.plan.settings;
        let (think, reads) = (settings.think, settings.reads_percent);
        if self.rng.u8(..100) < reads {
            let page = self.any_page();
            self.read(writer, page, false);
        } else {
            for _ in 0..self.rng.usize(1..4) {
                self.submit(writer);
            }
            // A driver flushes when nothing more waits; sometimes a little late.
            if self.rng.u8(..10) < 9 {
                self.flush(writer);
            }
        }
        let pause = self.rng.u64(1..=2 * think);
        self.queue.push(self.now + pause, Event::Users { writer });
    }

    fn any_page(&mut self) -> PageId {
        PageId { inode: 1, block: self.rng.u64(..self.plan.settings.pages) }
    }

    fn token(&mut self, writer: usize) -> Token {
        let next = &mut self.writers[writer].next_token;
        *next += 1;
        Token(*next)
    }

    /// One mini-transaction of one to three changes.
    pub(super) fn submit(&mut self, writer: usize) {
        let count = self.rng.usize(1..4).min(self.plan.settings.allocation_limit as usize);
        let changes: Vec<_> = (0..count)
            .map(|_| {
                self.mark += 1;
                Change { page: self.any_page(), payload: Mark(self.mark) }
            })
            .collect();
        let token = self.token(writer);
        self.submitting = changes.iter().cloned().collect();
        self.step_writer(writer, Input::Request { token, request: Request::Submit(changes) });
        self.submitting.clear();
    }

    pub(super) fn flush(&mut self, writer: usize) {
        let token = self.token(writer);
        self.step_writer(writer, Input::Request { token, request: Request::Flush });
    }

    pub(super) fn read(&mut self, writer: usize, page: PageId, finale: bool) {
        let token = self.token(writer);
        let it = &mut self.writers[writer];
        let Some(machine) = &it.machine else { return };
        it.reads.insert(token, AskedRead { page, durable: machine.vdl(), finale });
        self.step_writer(writer, Input::Request { token, request: Request::Read(page) });
    }

    pub(super) fn answered(&mut self, writer: usize, token: Token, answer: Answer<Mark>) {
        match answer {
            Answer::Submitted(cpl) => {
                if let Some(machine) = &self.writers[writer].machine {
                    self.judge.submitted(machine.volume_epoch(), cpl);
                }
            }
            Answer::NotSubmitted(SubmitRefused::BackPressure) => self.coverage.count(Counted::BackPressure),
            Answer::NotSubmitted(SubmitRefused::NotOpen) => self.coverage.count(Counted::NotOpen),
            Answer::NotSubmitted(SubmitRefused::Fenced { .. }) | Answer::Published => {}
            Answer::Replacing { .. } | Answer::Undoing | Answer::NotReplaced(_) => {}
            Answer::Page { read_point, version, page } => {
                if let Some(asked) = self.writers[writer].reads.remove(&token) {
                    self.check_page(writer, asked, read_point, (version, page));
                }
            }
            Answer::NotRead(_) => {
                self.coverage.count(Counted::NotRead);
                self.writers[writer].reads.remove(&token);
            }
        }
    }

    /// What a user got must be the page as of the read point, and the read point no older than what it knew.
    fn check_page(&mut self, writer: usize, asked: AskedRead, read_point: Lsn, got: (Lsn, Marked)) {
        let Some(machine) = &self.writers[writer].machine else { return };
        let epoch = machine.volume_epoch();
        if asked.finale {
            self.coverage.count(Counted::ReadBack);
            self.unread -= 1;
        }
        if read_point < asked.durable {
            let what = format!("{:?} was read at {read_point}, after {} was durable", asked.page, asked.durable);
            return self.fail("I-READ-POINT", what);
        }
        let expected = self.judge.page(epoch, asked.page, read_point);
        // A page that was cleared may be forgotten, its version included.
        let forgotten = expected.1 == Marked::default() && got == (Lsn::ZERO, Marked::default());
        if got != expected && !forgotten {
            let what = format!("{:?} as of {read_point} in {epoch} is {got:?}, not {expected:?}", asked.page);
            self.fail("I-PAGE", what);
        }
    }
}
