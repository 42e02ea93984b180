//! When the next batch of commits is sent.
//!
//! A batch costs six storage processes the same whatever is in it. So commits that come while a batch is on its way are
//! sent together as the next batch:
//!
//! 1. **Idle.** No batch that a commit waits for is on its way. The next commit is sent at once, alone.
//! 2. **Under way.** A batch is on its way. Commits that come are *enqueued*.
//! 3. The batch is durable. Its `released` commits are answered; `waiting` others have been enqueued meanwhile.
//! 4. **Regrouping.** The next batch is sent when `waiting + released` commits have been enqueued: those clients that were
//!    just answered will often be back at once with their next commit. A commit that is alone waits for no other.
//! 5. If they are not back within [`REGROUP_TIMEOUT`], the batch is sent with what is there. The next few batches then skip
//!    step 4: one at first, and twice as many after each further timeout, up to [`SKIPS_MAX`].
//!
//! **Why step 4.** Without it two groups would form that never meet. Eight clients, of which four are on their way: when
//! these four become durable, the other four are sent at once. The first four come back a moment later and have to wait
//! for them. From then on each batch has four commits, where one of eight would cost the same.

use std::time::{Duration, Instant};

/// How long a batch waits for the clients that were just answered.
const REGROUP_TIMEOUT: Duration = Duration::from_millis(1);

/// Most batches in a row that do not regroup after a timeout.
const SKIPS_MAX: u32 = 256;

/// A batch that takes this many times as long as usual to become durable does not hold the next one back any longer.
const LATE_FACTOR: u32 = 2;

/// Decides when a batch is sent. The caller sends it, and reports what has become of it.
#[derive(Debug)]
pub(super) struct GroupCommit {
    stage: Stage,
    /// Commits that wait for the next batch.
    waiting: usize,
    /// Batches that will not regroup.
    skips: u32,
    /// How many those were after the last timeout.
    penalty: u32,
    /// Moving mean of how long a batch with commits in it takes to become durable.
    round: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// No batch that a commit waits for is on its way: the next commit is sent at once.
    Idle,
    /// A batch is on its way.
    UnderWay { since: Instant },
    /// The next batch is sent when this many commits wait for it.
    Regrouping { commits: usize, since: Instant },
}

impl Default for GroupCommit {
    fn default() -> Self {
        GroupCommit { stage: Stage::Idle, waiting: 0, skips: 0, penalty: 0, round: Duration::ZERO }
    }
}

impl GroupCommit {
    /// Counts one more commit that waits for the next batch. Returns whether to send the batch now.
    pub fn enqueue(&mut self) -> bool {
        self.waiting += 1;
        match self.stage {
            Stage::Idle => true,
            Stage::UnderWay { .. } => false,
            Stage::Regrouping { commits, .. } if self.waiting >= commits => {
                self.penalty /= 2;
                true
            }
            Stage::Regrouping { .. } => false,
        }
    }

    /// Notes that everything submitted so far is being sent. If no commit waits for it, later commits need not either.
    pub fn sent(&mut self, now: Instant) {
        self.stage = if self.waiting > 0 { Stage::UnderWay { since: now } } else { Stage::Idle };
        self.waiting = 0;
    }

    /// Notes that everything sent is durable, and that `released` commits were answered. Returns whether to send the next
    /// batch now.
    pub fn batch_durable(&mut self, released: usize, now: Instant) -> bool {
        let Stage::UnderWay { since } = self.stage else { return false };
        let took = now.saturating_duration_since(since);
        self.round = if self.round.is_zero() { took } else { (self.round * 7 + took) / 8 };
        if self.skips > 0 {
            self.skips -= 1;
            self.stage = Stage::Idle;
        } else {
            self.stage = Stage::Regrouping { commits: self.waiting + released, since: now };
        }
        self.waiting > 0 && (released == 0 || matches!(self.stage, Stage::Idle))
    }

    /// Returns whether to send a batch because nothing else has caused it to be sent. `unsent`: there is something to send.
    pub fn is_overdue(&mut self, unsent: bool, now: Instant) -> bool {
        match self.stage {
            Stage::Idle => unsent || self.waiting > 0,
            Stage::UnderWay { since } => unsent && now.saturating_duration_since(since) > self.round * LATE_FACTOR,
            Stage::Regrouping { since, .. } if now.saturating_duration_since(since) < REGROUP_TIMEOUT => false,
            Stage::Regrouping { .. } if self.waiting > 0 => {
                self.penalty = (self.penalty * 2).clamp(1, SKIPS_MAX);
                self.skips = self.penalty;
                true
            }
            Stage::Regrouping { .. } => {
                self.stage = Stage::Idle;
                unsent
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enqueues commits, and sends them when the policy says so. Returns whether they were sent.
    fn come(policy: &mut GroupCommit, commits: usize, now: Instant) -> bool {
        let leave = (0..commits).fold(false, |_, _| policy.enqueue());
        if leave {
            policy.sent(now);
        }
        leave
    }

    #[test]
    fn a_commit_that_is_alone_waits_for_no_other() {
        let (mut policy, now) = (GroupCommit::default(), Instant::now());
        for _ in 0..10 {
            assert!(come(&mut policy, 1, now));
            assert!(!policy.batch_durable(1, now));
        }
    }

    #[test]
    fn two_groups_become_one() {
        let (mut policy, now) = (GroupCommit::default(), Instant::now());
        assert!(come(&mut policy, 1, now));
        assert!(!come(&mut policy, 3, now), "they gather while the first is under way");
        assert!(!policy.batch_durable(1, now), "its writer may be back at once");
        assert!(come(&mut policy, 1, now), "and is");
        assert!(!policy.batch_durable(4, now));
        assert!(!come(&mut policy, 3, now));
        assert!(come(&mut policy, 1, now));
    }

    #[test]
    fn clients_that_do_not_come_back_are_waited_for_less_and_less_often() {
        let (mut policy, mut now) = (GroupCommit::default(), Instant::now());
        let mut waits = 0;
        for _ in 0..200 {
            // One is under way and released, and another one is enqueued meanwhile: each comes once only.
            policy.enqueue();
            policy.sent(now);
            policy.enqueue();
            if !policy.batch_durable(1, now) {
                assert!(!policy.is_overdue(true, now));
                now += REGROUP_TIMEOUT;
                assert!(policy.is_overdue(true, now));
                waits += 1;
            }
            policy.sent(now);
            policy.batch_durable(1, now);
            now += REGROUP_TIMEOUT;
            policy.is_overdue(false, now);
        }
        assert!((3..10).contains(&waits), "{waits} of 200");
    }

    #[test]
    fn storage_that_takes_longer_than_usual_is_not_waited_for() {
        let (mut policy, now) = (GroupCommit::default(), Instant::now());
        let usual = Duration::from_millis(5);
        assert!(come(&mut policy, 1, now));
        policy.batch_durable(1, now + usual);
        assert!(come(&mut policy, 1, now + usual));
        assert!(!come(&mut policy, 1, now + usual));
        assert!(!policy.is_overdue(true, now + usual * 2));
        assert!(policy.is_overdue(true, now + usual * 4));
    }

    #[test]
    fn a_commit_does_not_wait_for_a_batch_without_commits() {
        let (mut policy, now) = (GroupCommit::default(), Instant::now());
        assert!(policy.is_overdue(true, now));
        policy.sent(now);
        assert!(come(&mut policy, 1, now));
    }
}
