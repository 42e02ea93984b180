//! The real disk: `auriga-store`, as a node sees it.

use super::Stopped;
use super::disk::{Disk, DiskEvents, Opened};
use auriga_driver::lock;
use auriga_net::admin::DiskStatus;
use auriga_page::Delta;
use auriga_protocol::segment::{Entry, Outcome, Survived, Task};
use auriga_protocol::{AppendId, Charter, Membership, SegmentId};
use auriga_store::{Failure, Store, StoreEvents, StoreOptions};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Opens the store in `dir`, and makes it where there is none.
///
/// # Errors
/// Returns a sentence for a person when the directory is another node's, in use, or unreadable.
pub fn open_store(dir: &Path, options: StoreOptions) -> Result<Opened, String> {
    let (store, survived) = Store::open(dir, options).map_err(|error| error.to_string())?;
    let chartered = |(id, survived): (SegmentId, Survived<Delta>)| match store.charter(id) {
        Some(charter) => (id, survived.with_charter(charter)),
        None => (id, survived),
    };
    let survived = survived.into_iter().map(chartered).collect();
    Ok(Opened { disk: Arc::new(StoreDisk { store, meter: Arc::default() }), survived })
}

struct StoreDisk {
    store: Store,
    meter: Arc<Mutex<Meter>>,
}

/// Measures one append at a time: often enough for a mean, and cheap.
#[derive(Default)]
struct Meter {
    sample: Option<(SegmentId, AppendId, Instant)>,
    appends: u64,
    mean_micros: u64,
    max_micros: u64,
}

impl Meter {
    fn ended(&mut self, segment: SegmentId, append: AppendId) {
        self.appends += 1;
        if let Some((sampled, id, began)) = self.sample
            && sampled == segment
            && append >= id
        {
            let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.mean_micros = if self.mean_micros == 0 { micros } else { (self.mean_micros * 15 + micros) / 16 };
            self.max_micros = self.max_micros.max(micros);
            self.sample = None;
        }
    }
}

/// Passes the store's events on.
struct MeteredEvents {
    events: Arc<dyn DiskEvents>,
    meter: Arc<Mutex<Meter>>,
}

impl StoreEvents for MeteredEvents {
    fn durable(&self, segment: SegmentId, append: AppendId) {
        lock(&self.meter).ended(segment, append);
        self.events.durable(segment, append);
    }

    fn task_done(&self, segment: SegmentId, outcome: Outcome<Delta>) {
        self.events.task_done(segment, outcome);
    }

    fn tasks_done(&self, segment: SegmentId, outcomes: Vec<Outcome<Delta>>) {
        self.events.tasks_done(segment, outcomes);
    }

    fn failed(&self, failure: &Failure) {
        let text = failure.to_string();
        self.events.failed(match failure {
            Failure::JournalDamaged { .. } => Stopped::Damaged(text),
            Failure::Io(_) => Stopped::DiskFailed(text),
        });
    }
}

impl Disk for StoreDisk {
    fn begin(&self, events: Arc<dyn DiskEvents>) {
        self.store.start(Arc::new(MeteredEvents { events, meter: self.meter.clone() }));
    }

    fn create_segment(
        &self,
        id: SegmentId,
        membership: &Membership,
        charter: &Charter,
        joins: bool,
    ) -> Result<Survived<Delta>, String> {
        let created = self.store.create_segment(id, membership.clone(), *charter, joins);
        created.map(|survived| survived.with_charter(*charter)).map_err(|error| error.to_string())
    }

    fn append(&self, segment: SegmentId, id: AppendId, entry: Entry<Delta>) {
        lock(&self.meter).sample.get_or_insert_with(|| (segment, id, Instant::now()));
        self.store.append(segment, id, &entry);
    }

    fn start(&self, segment: SegmentId, task: Task<Delta>) {
        self.store.run(segment, task);
    }

    fn status(&self) -> DiskStatus {
        let (store, meter) = (self.store.status(), lock(&self.meter));
        DiskStatus {
            used_bytes: store.used_bytes,
            pages: store.pages,
            appends: meter.appends,
            append_micros_mean: meter.mean_micros,
            append_micros_max: meter.max_micros,
        }
    }

    fn close(&self) {
        self.store.stop();
    }
}
