//! The bound on what a failover may lose (RPO): when commits of the primary have to wait (R-GLOBAL-15).
//!
//! The *RPO lag* of a secondary is how long ago the first record that has not arrived there became durable in the
//! primary; zero where everything has arrived. Commits pass while one secondary's lag is below the bound, and wait while
//! all are at or above it: the one that is furthest is the one to fail over to.
//!
//! ```text
//!   t        0 s    1 s    2 s    3 s          written: 10 at 0 s, 20 at 1 s, 30 at 2 s
//!   arrived  10     10     10     25           the lag at 2 s is 1 s: 20 became durable at 1 s and is not there
//!                                              at 3 s it is 1 s: 30 became durable at 2 s
//! ```
//!
//! It knows times by the primary's clock alone. A restart of the primary begins with an empty memory: what was written
//! before counts as written at the restart.

use crate::ids::{Lsn, Micros, RegionId};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Most moments that are remembered. Where more pass, each two become one, with the earlier time and the later LSN: a lag
/// is then told too high, by up to the time between two moments, and never too low.
const MOMENTS_MAX: usize = 4096;

/// See the module's header.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RpoGate {
    bound: Option<Micros>,
    /// When the log was how long, in order of both.
    written: VecDeque<(Micros, Lsn)>,
    /// How far each secondary has said that it is.
    arrived: BTreeMap<RegionId, Lsn>,
}

impl RpoGate {
    /// Sets the bound; `None`: commits never wait.
    pub fn set_bound(&mut self, bound: Option<Micros>) {
        self.bound = bound;
    }

    /// The bound.
    pub fn bound(&self) -> Option<Micros> {
        self.bound
    }

    /// Remembers that the primary's log is durable through `lsn` now.
    pub fn on_written(&mut self, now: Micros, lsn: Lsn) {
        if self.written.back().is_some_and(|(_, last)| *last >= lsn) {
            return;
        }
        if self.written.len() == MOMENTS_MAX {
            let moments: Vec<_> = self.written.drain(..).collect();
            self.written = moments.chunks(2).map(|two| (two[0].0, two[two.len() - 1].1)).collect();
        }
        self.written.push_back((now, lsn));
        self.forget();
    }

    /// Remembers that a secondary has everything through `lsn`. A late message changes nothing.
    pub fn on_arrived(&mut self, region: RegionId, lsn: Lsn) {
        let known = self.arrived.entry(region).or_default();
        *known = lsn.max(*known);
        self.forget();
    }

    /// Forgets every secondary that is not among `regions`.
    pub fn retain(&mut self, regions: impl Fn(RegionId) -> bool) {
        self.arrived.retain(|region, _| regions(*region));
    }

    /// The RPO lag of each secondary.
    pub fn lags(&self, now: Micros) -> BTreeMap<RegionId, Micros> {
        self.arrived.iter().map(|(region, arrived)| (*region, self.lag(now, *arrived))).collect()
    }

    /// Returns whether commits pass now. Without secondaries there is nothing to wait for, as after a failover to the only
    /// region that is left.
    pub fn is_open(&self, now: Micros) -> bool {
        let Some(bound) = self.bound else { return true };
        self.arrived.is_empty() || self.arrived.values().any(|arrived| self.lag(now, *arrived) < bound)
    }

    fn lag(&self, now: Micros, arrived: Lsn) -> Micros {
        let first = self.written.partition_point(|(_, lsn)| *lsn <= arrived);
        self.written.get(first).map_or(Micros(0), |(at, _)| Micros(now.0.saturating_sub(at.0)))
    }

    /// Drops the moments that every secondary has passed.
    fn forget(&mut self) {
        let Some(least) = self.arrived.values().min() else { return };
        while self.written.get(1).is_some_and(|(_, lsn)| lsn <= least) {
            self.written.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: RegionId = RegionId(2);
    const FAR: RegionId = RegionId(3);
    const SECOND: u64 = 1_000_000;

    fn at(seconds: u64) -> Micros {
        Micros(seconds * SECOND)
    }

    fn written() -> RpoGate {
        let mut gate = RpoGate::default();
        gate.set_bound(Some(at(20)));
        for (second, lsn) in [(0, 10), (1, 20), (2, 30)] {
            gate.on_written(at(second), Lsn(lsn));
        }
        gate
    }

    #[test]
    fn the_lag_is_the_age_of_what_has_not_arrived() {
        let mut gate = written();
        gate.on_arrived(NEAR, Lsn(10));
        assert_eq!(gate.lags(at(2)), [(NEAR, at(1))].into());
        gate.on_arrived(NEAR, Lsn(25));
        assert_eq!(gate.lags(at(3)), [(NEAR, at(1))].into());
        gate.on_arrived(NEAR, Lsn(30));
        assert_eq!(gate.lags(at(9)), [(NEAR, at(0))].into());
        gate.on_arrived(NEAR, Lsn(12));
        assert_eq!(gate.lags(at(9)), [(NEAR, at(0))].into(), "a late message");
    }

    #[test]
    fn commits_pass_while_one_secondary_is_near_enough() {
        let mut gate = written();
        assert!(gate.is_open(at(1000)), "no secondary");
        gate.on_arrived(NEAR, Lsn(10));
        gate.on_arrived(FAR, Lsn(0));
        assert!(gate.is_open(at(20)), "what the near one lacks is 19 s old");
        assert!(!gate.is_open(at(21)));
        gate.set_bound(None);
        assert!(gate.is_open(at(21)));
        gate.set_bound(Some(at(20)));
        gate.on_arrived(FAR, Lsn(30));
        assert!(gate.is_open(at(1000)));
        gate.retain(|region| region == NEAR);
        assert!(!gate.is_open(at(1000)));
    }

    #[test]
    fn memory_is_bounded_and_a_lag_is_never_told_too_low() {
        let mut gate = RpoGate::default();
        gate.on_arrived(NEAR, Lsn(0));
        for moment in 1..=20_000 {
            gate.on_written(Micros(moment * 1000), Lsn(moment));
        }
        assert!(gate.written.len() <= MOMENTS_MAX);
        let now = Micros(20_001_000);
        for arrived in [0, 1, 777, 9_999, 19_999] {
            gate.arrived.insert(NEAR, Lsn(arrived));
            let (told, exact) = (gate.lags(now)[&NEAR].0, now.0 - (arrived + 1) * 1000);
            assert!(told >= exact && told - exact <= 20_000, "{arrived}: {told}, not {exact}");
        }
    }
}
