//! Asks every region again and again where it stands, beside the network between them: how late secondaries are is measured
//! by one clock.

use auriga_protocol::global::{Branch, GlobalMessage, GlobalParty, RegionRole};
use auriga_protocol::{ControllerId, GlobalEpoch, Lsn, RegionId};
use auriga_region::LinkConfig;
use auriga_region::link::Link;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

/// How often a region is asked.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// A region that has said nothing for so long does not answer.
const SILENT_AFTER: Duration = Duration::from_secs(1);
/// Looks at the primary that are remembered, for how late others are: ten minutes of them.
const LOOKS_MAX: usize = 1 << 16;

/// Where a region stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StandingShown {
    /// Its role, as it sees it.
    pub role: RegionRole,
    /// The branch at the end of its log.
    pub tip: Branch,
    /// The last global LSN that is durable there.
    pub durable: Lsn,
    /// How many LSNs it is behind the newest primary; `None`: there is none, or it follows another lineage.
    pub behind: Option<u64>,
    /// For how many milliseconds it has lacked something that the primary's process knew to be durable: at most, as both are
    /// asked every ten. That process learns of a commit some milliseconds after the writer: what is read in a secondary is
    /// older by so much (`bench/global.sh`).
    pub behind_ms: Option<u64>,
}

/// Watches regions as long as it lives.
pub struct Watcher {
    seen: Arc<Mutex<Seen>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    standings: BTreeMap<RegionId, (Instant, Branch, RegionRole, Lsn)>,
    /// What the newest primary had, and when.
    looks: VecDeque<(Instant, GlobalEpoch, Lsn)>,
}

impl Watcher {
    /// Begins to ask.
    pub fn start(handle: &Handle, link: &LinkConfig) -> Watcher {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut tasks = JoinSet::new();
        let _within = handle.enter();
        // It asks only, so its number means nothing.
        let own = GlobalParty::Controller(ControllerId(fastrand::u64(1..)));
        let (ways, mut inbox) = Link::start(own, link, None, &mut tasks);
        let regions: Vec<RegionId> = link.regions.keys().copied().collect();
        tasks.spawn(async move {
            loop {
                regions.iter().for_each(|region| ways.send(GlobalParty::Region(*region), &GlobalMessage::Ask));
                tokio::time::sleep(ASK_EVERY).await;
            }
        });
        let hears = seen.clone();
        tasks.spawn(async move {
            while let Some((from, message)) = inbox.recv().await {
                if let (GlobalParty::Region(region), GlobalMessage::Standing { tip, role, durable, .. }) =
                    (from, message)
                {
                    lock(&hears).hear(Instant::now(), region, (tip, role, durable));
                }
            }
        });
        Watcher { seen, _tasks: tasks }
    }

    /// Where each region that answers stands.
    pub fn standings(&self) -> BTreeMap<u16, StandingShown> {
        lock(&self.seen).shown(Instant::now())
    }

    /// The newest primary that answers.
    pub fn primary(&self) -> Option<u16> {
        lock(&self.seen).primary(Instant::now()).map(|(region, ..)| region.0)
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Seen {
    fn hear(&mut self, at: Instant, region: RegionId, (tip, role, durable): (Branch, RegionRole, Lsn)) {
        self.standings.insert(region, (at, tip, role, durable));
        if self.primary(at).is_some_and(|(primary, ..)| primary == region) {
            if self.looks.back().is_some_and(|(_, epoch, _)| *epoch != tip.global_epoch) {
                self.looks.clear();
            }
            if self.looks.len() == LOOKS_MAX {
                self.looks.pop_front();
            }
            self.looks.push_back((at, tip.global_epoch, durable));
        }
    }

    fn answering(&self, now: Instant) -> impl Iterator<Item = (RegionId, Branch, RegionRole, Lsn)> {
        let answers = self.standings.iter().filter(move |(_, (at, ..))| now.duration_since(*at) < SILENT_AFTER);
        answers.map(|(region, (_, tip, role, durable))| (*region, *tip, *role, *durable))
    }

    fn primary(&self, now: Instant) -> Option<(RegionId, Branch, Lsn)> {
        let primaries = self.answering(now).filter(|(_, _, role, _)| *role == RegionRole::Primary);
        let newest = primaries.max_by_key(|(_, tip, ..)| tip.global_epoch);
        newest.map(|(region, tip, _, durable)| (region, tip, durable))
    }

    fn shown(&self, now: Instant) -> BTreeMap<u16, StandingShown> {
        let primary = self.primary(now);
        let shown = |(region, tip, role, durable): (RegionId, Branch, RegionRole, Lsn)| {
            let same = primary.filter(|(_, of, _)| of.global_epoch == tip.global_epoch);
            let behind = same.map(|(_, _, newest)| newest.0.saturating_sub(durable.0));
            let behind_ms = same.map(|_| self.lacks_since(durable).map_or(0, |since| millis(now, since)));
            (region.0, StandingShown { role, tip, durable, behind, behind_ms })
        };
        self.answering(now).map(shown).collect()
    }

    /// Returns when the newest primary was last seen without more than `durable`; `None`: it has no more now.
    fn lacks_since(&self, durable: Lsn) -> Option<Instant> {
        let lacking = self.looks.partition_point(|(_, _, had)| *had <= durable);
        let lacks = lacking < self.looks.len();
        self.looks.get(lacking.saturating_sub(1)).filter(|_| lacks).map(|(at, ..)| *at)
    }
}

fn millis(now: Instant, since: Instant) -> u64 {
    u64::try_from(now.duration_since(since).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secondary_is_late_from_when_it_lacks_something() {
        let epoch = |number| GlobalEpoch { number, controller: ControllerId(1) };
        let tip = |number, primary| Branch { global_epoch: epoch(number), primary: RegionId(primary), after: Lsn(0) };
        let (mut seen, begun) = (Seen::default(), Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        for (ms, durable) in [(0, 10), (50, 20), (100, 30)] {
            seen.hear(at(ms), RegionId(1), (tip(1, 1), RegionRole::Primary, Lsn(durable)));
        }
        seen.hear(at(110), RegionId(2), (tip(1, 1), RegionRole::Secondary, Lsn(20)));
        let shown = seen.shown(at(120));
        assert_eq!((shown[&1].behind, shown[&1].behind_ms), (Some(0), Some(0)));
        assert_eq!(
            (shown[&2].behind, shown[&2].behind_ms),
            (Some(10), Some(70)),
            "it had 20 at 50 ms, and has lacked 30 since then or less"
        );
        // A newer primary: the one before is of another lineage.
        seen.hear(at(130), RegionId(2), (tip(2, 2), RegionRole::Primary, Lsn(20)));
        assert_eq!(seen.primary(at(130)).map(|(region, ..)| region), Some(RegionId(2)));
        assert_eq!(seen.shown(at(130))[&1].behind, None);
        assert!(seen.shown(at(5000)).is_empty(), "nobody answers any more");
    }
}
