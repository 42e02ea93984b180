//! One life of a region's machine, and what goes on beside it.

use super::{RegionConfig, RegionPorts};
use crate::hold::{Hold, REGION_READER};
use crate::page::is_region_page;
use crate::source::{Source, Unread};
use auriga_driver::{Driver, lock};
use auriga_net::Mtr;
use auriga_protocol::global::{Region, RegionOutcome, RegionRole, RegionState, RegionTask, RpoGate, ShippedRecord};
use auriga_protocol::{Change, Input, Lsn, Micros, RegionId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Bytes of changes in one message, unless one mini-transaction has more.
const SHIP_BYTES: usize = 512 << 10;

/// One life of the machine, from a look at the volume to the next one.
pub(super) struct Life {
    pub(super) driver: Driver<Region<Mtr>, RegionPorts>,
    pub(super) state: Arc<Mutex<RegionState>>,
    pub(super) source: Arc<Source>,
    pub(super) too_far: Mutex<BTreeMap<RegionId, Lsn>>,
    pub(super) owns: Mutex<bool>,
    /// How late the secondaries are.
    pub(super) lags: Mutex<RpoGate>,
    pub(super) begun: Instant,
}

/// How often it is looked how late the secondaries are.
const LOOK_AT_LAGS_EVERY: Duration = Duration::from_millis(20);

pub(super) async fn run_timers(life: Arc<Life>) {
    life.driver.ports().timers.run(|timer| life.driver.input(Input::Timer(timer))).await;
}

/// Reads what is to be shipped, one read after the other for each region.
pub(super) async fn read_log(life: Arc<Life>, mut to_read: UnboundedReceiver<RegionTask>) {
    let mut reading = JoinSet::new();
    while let Some(task) = to_read.recv().await {
        while reading.try_join_next().is_some() {}
        let RegionTask::ReadLog { to, global_epoch, above, through, limit } = task else { continue };
        let life = life.clone();
        reading.spawn(async move {
            let records = life.read(to, above, through, limit).await;
            life.driver.input(Input::Done(RegionOutcome::LogRead { to, global_epoch, above, records }));
        });
    }
}

/// Keeps in mind when the log of a primary was how long, and how far the secondaries are.
pub(super) async fn watch_lags(life: Arc<Life>) {
    loop {
        sleep(LOOK_AT_LAGS_EVERY).await;
        let (durable, arrived) = life.driver.inspect(|region| (region.durable(), region.arrived().clone()));
        let mut lags = lock(&life.lags);
        lags.on_written(life.now(), durable);
        arrived.into_iter().for_each(|(region, lsn)| lags.on_arrived(region, lsn));
    }
}

impl Life {
    fn now(&self) -> Micros {
        Micros(u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// How late each secondary is, as a primary.
    pub(super) fn lags(&self) -> BTreeMap<RegionId, Micros> {
        lock(&self.lags).lags(self.now())
    }

    /// Mini-transactions of the region's own branch, as other regions take them.
    async fn read(&self, to: RegionId, above: Lsn, through: Lsn, limit: usize) -> Vec<ShippedRecord<Mtr>> {
        let state = lock(&self.state).clone();
        // Where it is before this region's own branches, it is asked first how far it has come.
        let Some(from) = state.volume_of(above) else { return Vec::new() };
        let read = match self.source.read(from).await {
            Ok(read) => read,
            Err(Unread::TooFar { floor }) if above > Lsn::ZERO => {
                if lock(&self.too_far).insert(to, above).is_none() {
                    tracing::error!(%to, %above, %floor, "what this region lacks is not kept any more: it has to be made anew");
                }
                return Vec::new();
            }
            Err(_) => return Vec::new(),
        };
        lock(&self.too_far).remove(&to);
        let mut bytes = 0;
        let mut records = Vec::new();
        for one in read.into_iter().take(limit) {
            let lsn = state.global_of(one.lsn);
            if lsn > through || (bytes > SHIP_BYTES && !records.is_empty()) {
                break;
            }
            if records.last().map_or(above, |last: &ShippedRecord<Mtr>| last.lsn) >= lsn {
                // What the region wrote of its own between two branches of its own.
                continue;
            }
            bytes += one.records.iter().map(auriga_protocol::Record::weight).sum::<usize>();
            let of_database = one.records.into_iter().filter(|record| !is_region_page(record.page));
            let record = of_database.map(|record| Change { page: record.page, payload: record.payload }).collect();
            records.push(ShippedRecord { lsn, record });
        }
        records
    }
}

/// While an instance writes, has it keep what some secondary lacks.
pub(super) async fn hold_what_is_lacking(life: Arc<Life>, config: RegionConfig) {
    let others = config.link.regions.len() - 1;
    let mut hold: Option<Hold> = None;
    loop {
        sleep(Duration::from_millis(50)).await;
        let (role, arrived) = life.driver.inspect(|region| (region.role(), region.arrived().clone()));
        if role != RegionRole::Primary {
            hold = None;
            continue;
        }
        let state = lock(&life.state).clone();
        let hold = hold
            .get_or_insert_with(|| Hold::start(&config.volume, &config.writers, state.first_grant(), REGION_READER));
        let lacking = arrived.values().min().filter(|_| arrived.len() == others);
        if let Some(floor) = lacking.and_then(|least| state.volume_of(*least)) {
            hold.release(floor);
        }
    }
}
