//! A volume on real storage: the protocol's writer, run over connections to six or more storage nodes.
//!
//! A thread that submits steps the writer itself. Nothing is sent until a *flush*. This module decides when:
//! - A caller waits for durability: the flush is at once, on that caller's thread. If a flush is still on its way to
//!   storage, commits gather instead, and leave together after that flush is durable. So batches grow with the load.
//! - No caller waits: the flush is within two milliseconds, in the background. So page writes travel together.
//!
//! It decides nothing else: what is durable, where pages are read, who is fenced is the writer's business
//! (`auriga-protocol`). `create.rs` makes a volume, `find.rs` finds one; `followers.rs` listens for
//! readers on other instances; `ports.rs` is where the writer's effects go, over connections that follow the membership
//! (`connections.rs`);
//! `group_commit/` and `waiting.rs` are what the paragraph above says.

pub(crate) mod asking;
mod config;
mod connections;
mod create;
mod find;
mod followers;
mod group_commit;
mod inbound;
mod members;
mod ports;
mod replacing;
mod waiting;

pub use config::VolumeConfig;
pub use create::{CreateError, create_volume, fresh_volume_id};
pub use find::{FindError, find_volume};
pub use members::{GroupShown, MemberShown};

use crate::{Callback, PageRead, Volume, VolumeError};
use auriga_audit::recording::Happened;
use auriga_driver::{Driver, clock, lock, random};
use auriga_net::traffic::MessageTraffic;
use auriga_page::Delta;
use auriga_protocol::writer::{Request, SubmitRefused, WriterIdentity, WriterRole, WriterStatus};
use auriga_protocol::{Change, Effects, Input, Lsn, MemberId, Micros, PageId, Token, VolumeEpoch, Writer, WriterId};
use group_commit::Flushing;
use members::HeardMembers;
use ports::WriterPorts;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use waiting::Waiting;

/// How often deadlines are looked at.
const SWEEP_EVERY: Duration = Duration::from_millis(10);

/// How long a new writer waits for its connections before it speaks; what it says earlier is lost and only said again
/// by its retry timer.
const CONNECT_GRACE: Duration = Duration::from_millis(200);

/// A volume, open for writing. Dropping it without [`RemoteVolume::close`] is a crash of the writer.
pub struct RemoteVolume {
    client: Arc<Client>,
    tasks: Mutex<JoinSet<()>>,
}

/// The volume's numbers.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct VolumeStatus {
    /// The protocol's.
    pub writer: WriterStatus,
    /// Frames and bytes by message, since the volume was opened.
    pub traffic: Vec<MessageTraffic>,
    /// Bytes of redo records sent to storage, all copies and framing included.
    pub log_bytes_sent: u64,
    /// Bytes of pages received from storage, framing included. (Pages are never sent to it.)
    pub page_bytes_received: u64,
    /// Frames that were not sent because a node was unreachable or slow.
    pub dropped_frames: u64,
    /// Who belongs to each group.
    #[serde(default)]
    pub groups: Vec<GroupShown>,
}

type WriterEffects = Effects<Writer<Delta>>;

/// What the tasks and the callers share.
struct Client {
    driver: Driver<Writer<Delta>, WriterPorts>,
    vdl: AtomicU64,
    role: watch::Sender<WriterRole>,
    waiting: Waiting,
    flushing: Flushing,
    next_read: AtomicU64,
    /// Since when something waits, and nothing has become durable.
    stalled: Mutex<Option<Stall>>,
    heard: HeardMembers,
    /// Where the first members live.
    configured: BTreeMap<MemberId, SocketAddr>,
}

struct Stall {
    vdl: Lsn,
    since: Instant,
}

impl RemoteVolume {
    /// Becomes the volume's writer: recovers it in a higher volume epoch, which fences the writer before it.
    /// Needs a tokio runtime, on which its tasks then run.
    ///
    /// # Errors
    /// Fenced when a newer writer took over meanwhile; timed out when recovery is not complete at `deadline`: too few
    /// segments answer.
    pub async fn open(config: VolumeConfig, deadline: Instant) -> Result<RemoteVolume, VolumeError> {
        let volume = RemoteVolume::boot(config);
        volume.connected().await;
        volume.client.step(|_, _, _| ()); // Releases the effects of the boot.
        let mut role = volume.client.role.subscribe();
        let settled = role.wait_for(|role| matches!(role, WriterRole::Open | WriterRole::Fenced));
        let settled = tokio::time::timeout_at(deadline.into(), settled).await;
        match settled.map(|role| role.map(|role| *role)) {
            Ok(Ok(WriterRole::Open)) => Ok(volume),
            // The role may be known a moment before those who wait are told why.
            Ok(Ok(_)) => Err(volume.client.end_fenced(volume.client.driver.ports().fenced_by())),
            Ok(Err(_)) => Err(volume.client.waiting.ended().unwrap_or(VolumeError::Closed)),
            Err(_) => Err(match volume.client.driver.inspect(Writer::other_shape) {
                Some(stored) => VolumeError::OtherShape { stored },
                None => VolumeError::TimedOut,
            }),
        }
    }

    /// The writer, its connections and its clocks. It says nothing before its first step.
    fn boot(config: VolumeConfig) -> RemoteVolume {
        let identity = WriterIdentity { volume: config.volume, writer: fresh_writer_id() };
        let ports = WriterPorts::new(identity, &config);
        ports.record(clock::now(), || Happened::WriterBooted(config.writer.clone()));
        let driver = Driver::boot(&config.writer, identity, (), ports);
        let client = Arc::new(Client {
            driver,
            vdl: AtomicU64::new(0),
            role: watch::Sender::new(WriterRole::Sealing),
            waiting: Waiting::default(),
            flushing: Flushing::default(),
            next_read: AtomicU64::new(1),
            stalled: Mutex::default(),
            heard: HeardMembers::default(),
            configured: config.members.clone(),
        });
        let mut tasks = JoinSet::new();
        connections::follow(&client, &config);
        tasks.spawn(connections::follow_memberships(client.clone(), config));
        tasks.spawn(run_timers(client.clone()));
        tasks.spawn(group_commit::flush_lazily(client.clone()));
        tasks.spawn(sweep(client.clone()));
        RemoteVolume { client, tasks: Mutex::new(tasks) }
    }

    /// Waits until every node is connected, but not long: some may be down.
    async fn connected(&self) {
        let until = Instant::now() + CONNECT_GRACE;
        while !self.client.driver.ports().ways.log.are_connected() && Instant::now() < until {
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// The volume's numbers.
    pub fn status(&self) -> VolumeStatus {
        let traffic = &self.client.driver.ports().traffic;
        let by_name = traffic.by_name();
        let of = |name: &str| by_name.iter().find(|kind| kind.message == name);
        let writer = self.client.driver.inspect(Writer::status);
        VolumeStatus {
            groups: members::groups(&writer, &self.client.heard, &self.client.configured),
            writer,
            log_bytes_sent: of("Write").map_or(0, |kind| kind.sent.bytes),
            page_bytes_received: of("Page").map_or(0, |kind| kind.received.bytes),
            dropped_frames: traffic.dropped(),
            traffic: by_name,
        }
    }

    /// Returns for how long something has waited to be durable while nothing became so; zero while nothing waits.
    pub fn stalled(&self) -> Duration {
        lock(&self.client.stalled).as_ref().map_or(Duration::ZERO, |stall| stall.since.elapsed())
    }

    /// From now on the storage keeps what lies above `lsn`, if it is anything, so that it stays readable. See
    /// [`Writer::hold`].
    pub fn hold(&self, lsn: Option<Lsn>) {
        self.client.step(|writer, _, _| writer.hold(lsn));
    }

    /// Follows the writer's role.
    pub fn watch_role(&self) -> watch::Receiver<WriterRole> {
        self.client.role.subscribe()
    }

    /// Why it serves no more (fenced, closed), if it doesn't. A caller that was refused because of a newer writer
    /// finds that writer named here from then on.
    pub fn ended(&self) -> Option<VolumeError> {
        let by = self.client.driver.ports().fenced_by();
        let fenced = (by != VolumeEpoch::NONE).then_some(VolumeError::Fenced { by });
        self.client.waiting.ended().or(fenced)
    }

    /// Makes everything submitted durable, as far as that is possible by `deadline`, then ends. Callers
    /// that still wait are answered `Closed`. Returns whether everything is durable.
    pub async fn close(&self, deadline: Instant) -> bool {
        self.client.flush();
        let all_is_durable = || self.client.driver.inspect(Writer::all_is_durable);
        while !all_is_durable() && *self.client.role.borrow() == WriterRole::Open && Instant::now() < deadline {
            sleep(Duration::from_millis(1)).await;
        }
        let closed_whole = all_is_durable();
        self.end();
        closed_whole
    }

    fn end(&self) {
        lock(&self.tasks).abort_all();
        self.client.driver.ports().ways.close();
        self.client.waiting.end(VolumeError::Closed).call();
        self.client.driver.ports().reads.end(VolumeError::Closed);
        self.client.driver.ports().trace.flush();
    }
}

impl Drop for RemoteVolume {
    fn drop(&mut self) {
        self.end();
    }
}

impl Volume for RemoteVolume {
    fn submit(&self, changes: Vec<Change<Delta>>, deadline: Instant) -> Result<Lsn, VolumeError> {
        if changes.is_empty() {
            return Ok(self.vdl());
        }
        let weight = changes.iter().map(|change| change.payload.len()).sum();
        loop {
            if let Some(error) = self.client.waiting.ended() {
                return Err(error);
            }
            let vdl = self.vdl();
            let attempt = changes.clone(); // Payloads are shared, not copied.
            let submit = |writer: &mut Writer<Delta>, now, effects: &mut _| {
                self.client.driver.ports().record(now, || Happened::Submit(attempt.clone()));
                writer.submit(attempt, effects)
            };
            match self.client.step(submit) {
                Ok(lsn) => {
                    self.client.submitted(weight);
                    return Ok(lsn);
                }
                // A caller that receives this error may ask at once why the volume has ended.
                Err(SubmitRefused::Fenced { by }) => return Err(self.client.end_fenced(by)),
                Err(SubmitRefused::BackPressure | SubmitRefused::NotOpen) => {
                    self.client.flush(); // What fills the window may be what has not been sent.
                    self.client.waiting.wait_for_progress(|| self.vdl() > vdl, deadline)?;
                }
            }
        }
    }

    fn vdl(&self) -> Lsn {
        Lsn(self.client.vdl.load(SeqCst))
    }

    fn when_durable(&self, lsn: Lsn, deadline: Instant, callback: Callback<()>) {
        self.client.waiting.when_durable(lsn, || self.vdl(), deadline, callback).call();
        self.client.flush_through(lsn);
    }

    fn read(&self, page: PageId, deadline: Instant, callback: Callback<PageRead>) {
        self.read_all(vec![(page, callback)], deadline);
    }

    fn read_all(&self, reads: Vec<(PageId, Callback<PageRead>)>, deadline: Instant) {
        if let Some(error) = self.client.waiting.ended() {
            return reads.into_iter().for_each(|(_, callback)| callback(Err(error)));
        }
        let ports = self.client.driver.ports();
        let begin = |(page, callback)| {
            let token = Token(self.client.next_read.fetch_add(1, SeqCst));
            ports.reads.begin(token, page, deadline, callback);
            (token, page)
        };
        let begun: Vec<(Token, PageId)> = reads.into_iter().map(begin).collect();
        if let Some(error) = self.client.waiting.ended() {
            return ports.reads.end(error); // The volume ended just now, and no task will look at these reads.
        }
        // One step, so that the requests leave together.
        self.client.step(|writer, now, effects| {
            for (token, page) in begun {
                self.client.driver.step_recorded(
                    writer,
                    now,
                    Input::Request { token, request: Request::Read(page) },
                    effects,
                );
            }
        });
    }
}

impl Client {
    /// Gives the writer one input.
    fn input(&self, input: Input<Writer<Delta>>) {
        self.step(|writer, now, effects| self.driver.step_recorded(writer, now, input, effects));
    }

    /// Steps the writer, then answers the waiters that the step concerns.
    fn step<R>(&self, act: impl FnOnce(&mut Writer<Delta>, Micros, &mut WriterEffects) -> R) -> R {
        let (result, vdl, role, volume_epoch) = self.driver.step(|writer, now, effects| {
            let result = act(writer, now, effects);
            (result, writer.vdl(), writer.role(), writer.volume_epoch())
        });
        let moved = self.vdl.fetch_max(vdl.0, SeqCst) < vdl.0;
        if moved {
            self.driver.ports().trace.flush(); // Before a user can see the new VDL.
            let durable = self.waiting.durable(vdl);
            self.flush_next_batch(durable.len());
            durable.call();
        }
        if role > *self.role.borrow() {
            self.role.send_if_modified(|current| {
                let is_news = role > *current;
                *current = role.max(*current);
                is_news
            });
            tracing::info!(writer = ?self.driver.ports().identity, %volume_epoch, ?role, %vdl, "role changed");
            if role == WriterRole::Fenced {
                self.end_fenced(self.driver.ports().fenced_by());
            }
        }
        result
    }

    fn look_for_a_stall(&self, now: Instant) {
        let (vdl, waits) = self.driver.inspect(|writer| (writer.vdl(), !writer.all_is_durable()));
        let mut stalled = lock(&self.stalled);
        if stalled.as_ref().is_none_or(|stall| !waits || stall.vdl < vdl) {
            *stalled = waits.then_some(Stall { vdl, since: now });
        }
    }

    /// Ends the volume for every waiting caller, because a newer writer has taken over. Returns the reason.
    fn end_fenced(&self, by: VolumeEpoch) -> VolumeError {
        let fenced = VolumeError::Fenced { by };
        self.waiting.end(fenced).call();
        self.waiting.ended().unwrap_or(fenced)
    }
}

async fn run_timers(client: Arc<Client>) {
    client.driver.ports().timers.run(|timer| client.input(Input::Timer(timer))).await;
}

/// Answers whose deadline has passed, and asks again for reads that were too many at once.
async fn sweep(client: Arc<Client>) {
    loop {
        sleep(SWEEP_EVERY).await;
        let now = Instant::now();
        client.look_for_a_stall(now);
        client.waiting.expire(now).call();
        for token in client.driver.ports().reads.expire(now) {
            client.input(Input::Request { token, request: Request::Cancel });
        }
        for (token, page) in client.driver.ports().reads.take_postponed() {
            client.input(Input::Request { token, request: Request::Read(page) });
        }
    }
}

/// Random: two writers must never share an identity.
fn fresh_writer_id() -> WriterId {
    WriterId(random::draw())
}
