//! Many seeds, on several threads.

use super::{Coverage, Failure, Plan, run};
use auriga_protocol::Defect;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// Which seeds.
    pub seeds: Range<u64>,
    /// Threads.
    pub threads: usize,
    /// Planted in every machine.
    pub defect: Option<Defect>,
    /// Stop after this many failures.
    pub failures_max: usize,
    /// Begin no more seeds after this long.
    pub time_max: Duration,
}

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Events in all.
    pub events: u64,
    /// Mini-transactions acknowledged in all.
    pub acknowledged: u64,
    /// What was exercised.
    pub coverage: Coverage,
    /// Seeds that failed, in order of seeds, and how.
    pub failures: Vec<(u64, Failure)>,
    /// How long it took.
    pub took: Duration,
}

impl Summary {
    /// Seeds per second, all threads together.
    pub fn rate(&self) -> f64 {
        self.seeds as f64 / self.took.as_secs_f64().max(1e-9)
    }
}

/// Runs a campaign. `progress` is told now and then how many seeds are done.
pub fn run_campaign(campaign: &Campaign, progress: impl Fn(u64, Duration) + Sync) -> Summary {
    let began = Instant::now();
    let next = AtomicU64::new(campaign.seeds.start);
    let done = AtomicU64::new(0);
    let enough = AtomicBool::new(false);
    let all = Mutex::new(Summary::default());
    std::thread::scope(|scope| {
        for _ in 0..campaign.threads.max(1) {
            scope.spawn(|| {
                let mut mine = Summary::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let late = began.elapsed() > campaign.time_max;
                    if seed >= campaign.seeds.end || late || enough.load(Ordering::Relaxed) {
                        break;
                    }
                    mine.take(seed, campaign.defect);
                    if mine.failures.len() >= campaign.failures_max {
                        enough.store(true, Ordering::Relaxed);
                    }
                    let count = done.fetch_add(1, Ordering::Relaxed) + 1;
                    if count.is_multiple_of(1000) {
                        progress(count, began.elapsed());
                    }
                }
                if let Ok(mut all) = all.lock() {
                    all.add(mine);
                }
            });
        }
    });
    let mut summary = all.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    summary.failures.sort_by_key(|(seed, _)| *seed);
    summary.took = began.elapsed();
    summary
}

impl Summary {
    fn take(&mut self, seed: u64, defect: Option<Defect>) {
        let went = run(&Plan::from_seed(seed).with_defect(defect), None);
        self.seeds += 1;
        self.events += went.events;
        self.acknowledged += went.acknowledged as u64;
        self.coverage.add(&went.coverage);
        self.failures.extend(went.failure.map(|failure| (seed, failure)));
    }

    fn add(&mut self, other: Summary) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.coverage.add(&other.coverage);
        self.failures.extend(other.failures);
    }
}
