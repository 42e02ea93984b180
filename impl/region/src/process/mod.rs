//! A region's process: the protocol's `Region` over a volume, its log's source, and the links to other regions.
//!
//! It keeps nothing of its own: what it must know is in the volume. Whenever its volume is taken from it, or anything is
//! unclear, it drops everything and looks again, like after a crash.
//!
//! `life.rs` is what goes on beside the machine: its timers, reads for other regions, and what the writer is to keep.
//!
//! It decides nothing: who may write, what is shipped and where histories part is the business of `auriga-protocol`.

mod life;

use life::{Life, hold_what_is_lacking, read_log, run_timers, watch_lags};

use crate::disk::{Disk, DiskError};
use crate::link::{Link, LinkConfig, Received};
use crate::source::{Source, Unread};
use auriga_driver::timers::Timers;
use auriga_driver::{Driver, Ports, lock};
use auriga_net::Mtr;
use auriga_protocol::global::{
    GlobalMessage, GlobalParty, KeptSuffix, Lineage, Region, RegionAnswer, RegionConfig as Rules, RegionEntry,
    RegionOutcome, RegionRole, RegionTask, RegionTimer, RpoGate,
};
use auriga_protocol::writer::FollowersConfig;
use auriga_protocol::{AppendId, Input, Lsn, Micros, Note, RegionId, Token};
use auriga_volume::VolumeConfig;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver as Inbox, UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// How often a primary looks whether there is more to ship, and a secondary whether the volume is still its own.
const SHIP_EVERY: Micros = Micros(20_000);

/// Messages with records on their way to one region.
const SHIP_WINDOW: usize = 16;

/// How often it looks whether there is something to publish. A part of the readers' lag.
const PUBLISH_EVERY: Duration = Duration::from_millis(5);

/// After a failure, before the volume is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The same where a person has to act: each look may recover the volume.
const LOOK_AGAIN_LATE: Duration = Duration::from_secs(10);

/// A recovery that takes longer is taken for one that was cut short.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(2);

/// What a region's process is told.
#[derive(Clone)]
pub struct RegionConfig {
    /// Which region.
    pub region: RegionId,
    /// The primary when the global database was created.
    pub first_primary: RegionId,
    /// The other regions, and who this process is to them.
    pub link: LinkConfig,
    /// The region's volume.
    pub volume: VolumeConfig,
    /// Where the region's instances listen for readers.
    pub writers: Vec<SocketAddr>,
    /// Where it listens for readers itself, while it is the volume's writer.
    pub readers: Option<SocketAddr>,
}

/// A region's numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionStatus {
    /// Where it stands.
    pub role: RegionRole,
    /// The branches that lead to the end of its log.
    pub lineage: Lineage,
    /// The last global LSN that is known to be durable here.
    pub durable: Lsn,
    /// The other regions.
    pub others: Vec<RegionId>,
    /// How far each other region is, as a primary has heard.
    pub arrived: BTreeMap<RegionId, Lsn>,
    /// The RPO lag of each of those (see [`RpoGate`]).
    pub lags: BTreeMap<RegionId, Micros>,
    /// The last lost suffix, and where it lies in the volume.
    pub lost: Option<KeptSuffix>,
    /// Secondaries whose log can't be continued any more: what they lack is not kept.
    pub too_far: BTreeMap<RegionId, Lsn>,
    /// Whether the process has the volume: no instance writes.
    pub owns_volume: bool,
    /// Why it last looked at its volume anew.
    pub trouble: Option<String>,
}

/// A running region process. Dropping it is a crash.
pub struct RegionProcess {
    shared: Arc<Shared>,
    others: Vec<RegionId>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Shared {
    life: Mutex<Option<Arc<Life>>>,
    trouble: Mutex<Option<String>>,
}

enum Work {
    Append(AppendId, RegionEntry<Mtr>),
    TakeOver,
}

struct RegionPorts {
    link: Arc<Link>,
    timers: Timers<RegionTimer>,
    work: UnboundedSender<Work>,
    reads: UnboundedSender<RegionTask>,
}

impl Ports<Region<Mtr>> for RegionPorts {
    fn send(&self, to: GlobalParty, message: GlobalMessage<Mtr>) {
        self.link.send(to, &message);
    }

    fn multicast(&self, to: Vec<GlobalParty>, message: GlobalMessage<Mtr>) {
        to.into_iter().for_each(|to| self.link.send(to, &message));
    }

    fn append(&self, id: AppendId, entry: RegionEntry<Mtr>) {
        let _ = self.work.send(Work::Append(id, entry)); // Nobody takes it where this life has ended.
    }

    fn start(&self, task: RegionTask) {
        let _ = match task {
            RegionTask::TakeOver => self.work.send(Work::TakeOver).is_ok(),
            read @ RegionTask::ReadLog { .. } => self.reads.send(read).is_ok(),
        };
    }

    fn set_timer(&self, timer: RegionTimer, after: Micros) {
        self.timers.set(timer, after);
    }

    fn observe(&self, _: Micros, note: &Note) {
        if let Note::Global(note) = note
            && !matches!(note, auriga_protocol::global::GlobalNote::Arrived { .. })
        {
            tracing::info!(?note, "REGION");
        }
    }

    fn flush_outboxes(&self) {}

    fn answer(&self, _: Token, _: RegionAnswer) {}
}

impl RegionProcess {
    /// Starts it. Needs a tokio runtime of several threads, on which its tasks then run.
    pub fn start(config: RegionConfig, listener: TcpListener) -> RegionProcess {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        let own = GlobalParty::Region(config.region);
        let (link, inbox) = Link::start(own, &config.link, Some(listener), &mut tasks);
        let others = config.link.regions.keys().copied().filter(|region| *region != config.region).collect();
        tasks.spawn(lives(config, link, inbox, shared.clone()));
        RegionProcess { shared, others, _tasks: tasks }
    }

    /// Returns its numbers; `None` while it looks at its volume.
    pub fn status(&self) -> Option<RegionStatus> {
        let life = lock(&self.shared.life).clone()?;
        let (role, lineage, durable, arrived) = life
            .driver
            .inspect(|region| (region.role(), region.lineage().clone(), region.durable(), region.arrived().clone()));
        Some(RegionStatus {
            role,
            lineage,
            durable,
            others: self.others.clone(),
            arrived,
            lags: life.lags(),
            lost: lock(&life.state).lost,
            too_far: lock(&life.too_far).clone(),
            owns_volume: *lock(&life.owns),
            trouble: lock(&self.shared.trouble).clone(),
        })
    }

    /// Why it last looked at its volume anew.
    pub fn trouble(&self) -> Option<String> {
        lock(&self.shared.trouble).clone()
    }
}

/// One life after the other.
async fn lives(config: RegionConfig, link: Arc<Link>, mut inbox: Inbox<Received>, shared: Arc<Shared>) {
    let mut config = config;
    if config.readers.is_some() {
        config.volume.writer.followers = FollowersConfig::some();
    }
    let source = Arc::new(Source::start(&config.volume));
    let mut unrecovered = None;
    loop {
        let error = match begin(&config, &source, unrecovered).await {
            Ok(disk) => live(&config, disk, &source, &link, &mut inbox, &shared).await,
            Err(error) => error,
        };
        unrecovered = match error {
            DiskError::Unread(Unread::Unrecovered) => unrecovered.or(Some(Instant::now())),
            _ => None,
        };
        *lock(&shared.life) = None;
        let why = error.to_string();
        let is_news = lock(&shared.trouble).replace(why.clone()).is_none_or(|before| before != why);
        if is_news {
            tracing::warn!(region = %config.region, why, "looking at the volume anew");
        }
        let needs_person = matches!(error, DiskError::OwnData | DiskError::PartsEarlier(_));
        sleep(if needs_person { LOOK_AGAIN_LATE } else { LOOK_AGAIN }).await;
    }
}

/// Before anything is heard of the other regions, nothing is known to have arrived there.
fn unheard(config: &RegionConfig) -> RpoGate {
    let mut lags = RpoGate::default();
    let others = config.link.regions.keys().filter(|region| **region != config.region);
    others.for_each(|region| lags.on_arrived(*region, Lsn::ZERO));
    lags
}

/// Looks at the volume, and takes it over unless the region's instances may write it.
async fn begin(config: &RegionConfig, source: &Arc<Source>, unrecovered: Option<Instant>) -> Result<Disk, DiskError> {
    let (region, first) = (config.region, config.first_primary);
    // Whoever began to recover it is gone, and may have been this process: no writer is open there to be fenced.
    let is_left = unrecovered.is_some_and(|since| since.elapsed() > RECOVERY_PATIENCE);
    let mut disk = match is_left {
        true => Disk::unread(region, first, &config.volume, source.clone()),
        false => Disk::look(region, first, &config.volume, source.clone()).await?,
    };
    if is_left || disk.state().grants().is_err() {
        disk.take_over().await?;
        if disk.state().grants().is_ok() {
            disk.give_up();
        }
    }
    Ok(disk)
}

/// Runs the machine until its volume is another's, or something is unclear.
async fn live(
    config: &RegionConfig,
    mut disk: Disk,
    source: &Arc<Source>,
    link: &Arc<Link>,
    inbox: &mut Inbox<Received>,
    shared: &Shared,
) -> DiskError {
    let (work, mut to_do) = unbounded_channel();
    let (reads, to_read) = unbounded_channel();
    let ports = RegionPorts { link: link.clone(), timers: Timers::default(), work, reads };
    let rules = Rules {
        ship_every: SHIP_EVERY,
        ship_window: SHIP_WINDOW,
        log_is_external: true,
        ..Rules::new(config.link.regions.keys().copied().collect(), config.first_primary)
    };
    let survived = disk.state().survived(disk.position());
    let life = Arc::new(Life {
        driver: Driver::boot(&rules, config.region, survived, ports),
        state: disk.shared_state(),
        source: source.clone(),
        too_far: Mutex::default(),
        owns: Mutex::new(disk.is_owner()),
        lags: Mutex::new(unheard(config)),
        begun: Instant::now(),
    });
    *lock(&shared.life) = Some(life.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(run_timers(life.clone()));
    tasks.spawn(read_log(life.clone(), to_read));
    tasks.spawn(hold_what_is_lacking(life.clone(), config.clone()));
    tasks.spawn(watch_lags(life.clone()));
    life.driver.release_boot_effects();
    let working = async {
        loop {
            if let Some(at) = config.readers {
                disk.serve_readers(at).await;
                disk.publish();
            }
            if let Err(error) = work_on(&mut disk, &life, &mut to_do).await {
                break error;
            }
        }
    };
    let listening = async {
        while let Some((from, message)) = inbox.recv().await {
            life.driver.input(Input::Message { from, message });
        }
        std::future::pending::<()>().await
    };
    tokio::select! {
        error = working => error,
        () = listening => unreachable!("it has no end"),
    }
}

/// Does what the machine wants done next with its disk, or notices that the volume was taken over.
async fn work_on(disk: &mut Disk, life: &Arc<Life>, to_do: &mut UnboundedReceiver<Work>) -> Result<(), DiskError> {
    let work = tokio::select! {
        work = to_do.recv() => work,
        () = sleep(PUBLISH_EVERY) => None,
    };
    let owned = *lock(&life.owns);
    match work {
        Some(Work::Append(id, entry)) => {
            let told = Arc::downgrade(life);
            let durable = move || {
                if let Some(life) = told.upgrade() {
                    life.driver.input(Input::Durable(id));
                }
            };
            let promotes = matches!(entry, RegionEntry::Promoted { .. });
            disk.append(&entry, durable).await?;
            if promotes {
                disk.give_up();
            }
        }
        Some(Work::TakeOver) => {
            disk.take_over().await?;
            let end = disk.end();
            *lock(&life.owns) = true;
            life.driver.input(Input::Done(RegionOutcome::TookOver { end }));
        }
        None if owned && !disk.is_owner() => return Err(auriga_volume::VolumeError::Closed.into()),
        None => {}
    }
    *lock(&life.owns) = disk.is_owner();
    Ok(())
}
