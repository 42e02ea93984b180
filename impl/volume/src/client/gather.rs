//! Who leaves with the next flush.
//!
//! While what was sent is on its way to storage, those who come later gather. When it is durable, those it releases will
//! often be back at once with their next commit; to send before they are would split the commits into two groups that
//! take turns for ever, each half as large as it could be, and a batch costs six nodes the same whatever is in it. So the
//! next flush waits for as many as there were: those who gathered, and those just released. Whoever is alone waits for
//! nobody.
//!
//! Those released may not come back. Then everybody else was late for nothing: after such a time-out nobody is waited
//! for in the next few flushes, twice as many after each further one.

use std::time::{Duration, Instant};

/// How long a flush waits for those who were released.
const PATIENCE: Duration = Duration::from_millis(1);

/// Most flushes that wait for nobody after a time-out.
const SKIPS_MAX: u32 = 256;

/// While what was sent is not durable, nothing leaves before it has taken so many times what it usually takes.
const LATE_FACTOR: u32 = 2;

/// What the next flush waits for.
#[derive(Debug)]
pub(super) struct Gather {
    stage: Stage,
    /// Commits that wait for the next flush.
    waiting: usize,
    /// Flushes for which nobody is waited for.
    skips: u32,
    /// How many those were after the last time-out.
    penalty: u32,
    /// Moving mean of how long a flush with commits in it takes to be durable.
    round: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// Nothing is under way that anybody waits for: the next commit leaves at once.
    Idle,
    /// Commits are under way.
    UnderWay { since: Instant },
    /// The next flush leaves when so many wait for it.
    Expecting { commits: usize, since: Instant },
}

impl Default for Gather {
    fn default() -> Self {
        Gather { stage: Stage::Idle, waiting: 0, skips: 0, penalty: 0, round: Duration::ZERO }
    }
}

impl Gather {
    /// One more commit waits for the next flush. Answers whether it is time for it.
    pub fn wait(&mut self) -> bool {
        self.waiting += 1;
        match self.stage {
            Stage::Idle => true,
            Stage::UnderWay { .. } => false,
            Stage::Expecting { commits, .. } if self.waiting >= commits => {
                self.penalty /= 2;
                true
            }
            Stage::Expecting { .. } => false,
        }
    }

    /// Everything submitted so far is being sent. Commits that come later need not wait for what nobody waits for.
    pub fn sent(&mut self, now: Instant) {
        self.stage = if self.waiting > 0 { Stage::UnderWay { since: now } } else { Stage::Idle };
        self.waiting = 0;
    }

    /// Everything sent is durable, and so many who waited for it were told. Answers whether it is time for a flush.
    pub fn settled(&mut self, released: usize, now: Instant) -> bool {
        let Stage::UnderWay { since } = self.stage else { return false };
        let took = now.saturating_duration_since(since);
        self.round = if self.round.is_zero() { took } else { (self.round * 7 + took) / 8 };
        if self.skips > 0 {
            self.skips -= 1;
            self.stage = Stage::Idle;
        } else {
            self.stage = Stage::Expecting { commits: self.waiting + released, since: now };
        }
        self.waiting > 0 && (released == 0 || matches!(self.stage, Stage::Idle))
    }

    /// Answers whether it is time for a flush because nothing else has come of it. `unsent`: something could be sent.
    pub fn is_overdue(&mut self, unsent: bool, now: Instant) -> bool {
        match self.stage {
            Stage::Idle => unsent || self.waiting > 0,
            Stage::UnderWay { since } => unsent && now.saturating_duration_since(since) > self.round * LATE_FACTOR,
            Stage::Expecting { since, .. } if now.saturating_duration_since(since) < PATIENCE => false,
            Stage::Expecting { .. } if self.waiting > 0 => {
                self.penalty = (self.penalty * 2).clamp(1, SKIPS_MAX);
                self.skips = self.penalty;
                true
            }
            Stage::Expecting { .. } => {
                self.stage = Stage::Idle;
                unsent
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Commits wait, and leave when `Gather` says so; answers whether they have left.
    fn come(gather: &mut Gather, commits: usize, now: Instant) -> bool {
        let leave = (0..commits).fold(false, |_, _| gather.wait());
        if leave {
            gather.sent(now);
        }
        leave
    }

    #[test]
    fn whoever_is_alone_never_waits_for_anybody() {
        let (mut gather, now) = (Gather::default(), Instant::now());
        for _ in 0..10 {
            assert!(come(&mut gather, 1, now));
            assert!(!gather.settled(1, now));
        }
    }

    #[test]
    fn two_groups_become_one() {
        let (mut gather, now) = (Gather::default(), Instant::now());
        assert!(come(&mut gather, 1, now));
        assert!(!come(&mut gather, 3, now), "they gather while the first is under way");
        assert!(!gather.settled(1, now), "its writer may be back at once");
        assert!(come(&mut gather, 1, now), "and is");
        assert!(!gather.settled(4, now));
        assert!(!come(&mut gather, 3, now));
        assert!(come(&mut gather, 1, now));
    }

    #[test]
    fn who_does_not_come_back_is_waited_for_less_and_less_often() {
        let (mut gather, mut now) = (Gather::default(), Instant::now());
        let mut waits = 0;
        for _ in 0..200 {
            // One is under way and released, and another one gathers meanwhile: each comes once only.
            gather.wait();
            gather.sent(now);
            gather.wait();
            if !gather.settled(1, now) {
                assert!(!gather.is_overdue(true, now));
                now += PATIENCE;
                assert!(gather.is_overdue(true, now));
                waits += 1;
            }
            gather.sent(now);
            gather.settled(1, now);
            now += PATIENCE;
            gather.is_overdue(false, now);
        }
        assert!((3..10).contains(&waits), "{waits} of 200");
    }

    #[test]
    fn storage_that_takes_longer_than_usual_is_not_waited_for() {
        let (mut gather, now) = (Gather::default(), Instant::now());
        let usual = Duration::from_millis(5);
        assert!(come(&mut gather, 1, now));
        gather.settled(1, now + usual);
        assert!(come(&mut gather, 1, now + usual));
        assert!(!come(&mut gather, 1, now + usual));
        assert!(!gather.is_overdue(true, now + usual * 2));
        assert!(gather.is_overdue(true, now + usual * 4));
    }

    #[test]
    fn a_commit_does_not_wait_for_what_nobody_waits_for() {
        let (mut gather, now) = (Gather::default(), Instant::now());
        assert!(gather.is_overdue(true, now));
        gather.sent(now);
        assert!(come(&mut gather, 1, now));
    }
}
