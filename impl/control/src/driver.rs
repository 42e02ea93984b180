//! Looks at the instances, steps the controller, and does what it decides.
//!
//! A task for each instance asks it how it is, over a connection that is kept; the connection of a process that was killed
//! is reset at once. Promotions and demotions are tasks, too. What is to be kept is written by a thread, so that no decision
//! waits for a disk.

use crate::config::ControlConfig;
use crate::controller::{Action, Controller, Event, Input, Kept, Look, Millis, Refusal, RoleSeen, Said};
use crate::fleet::{self, Healer};
use crate::store::{Store, StoreError};
use auriga_admin::looking::{Looked, Looker, lets_clients_in};
use auriga_admin::storage;
use auriga_http::Method;
use auriga_instance::node::{InstanceRole, InstanceStatus};
use auriga_net::admin::{Access, NodeStatus};
use auriga_net::tls::CertifiedRole;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// The pause between two looks at an instance.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// How long a look may take.
const LOOK_PATIENCE: Duration = Duration::from_millis(500);
/// How often the controller is told the time.
const TICK: Duration = Duration::from_millis(50);
/// The pause between two looks at storage, while a writer says that storage stalls for it.
const STORAGE_PAUSE: Duration = Duration::from_millis(300);
/// Copies of each page.
const COPIES: usize = 6;
/// Copies that a writer needs of its six.
const WRITE_QUORUM: usize = 4;
/// What is to be kept and was not written yet.
const QUEUE: usize = 1024;

/// An instance as it was seen last.
#[derive(Clone, Debug)]
pub struct LastSeen {
    /// Whether the last look had an answer.
    pub answers: bool,
    /// Its last answer.
    pub status: Option<InstanceStatus>,
}

/// A running controller, shared by its tasks.
pub struct Control {
    config: ControlConfig,
    access: Access,
    began: Instant,
    store: Arc<Store>,
    writing: SyncSender<ToKeep>,
    state: Mutex<State>,
}

struct State {
    controller: Controller,
    healer: Healer,
    seen: BTreeMap<String, LastSeen>,
    /// What each storage process has said last, where it answers.
    processes: BTreeMap<String, Option<NodeStatus>>,
}

pub(crate) enum ToKeep {
    Event(Event),
    Kept(Kept),
    Healing(fleet::Kept),
}

impl Control {
    /// Opens the store and begins where the process before ended.
    ///
    /// # Errors
    /// The store can't be used.
    pub fn open(config: ControlConfig, access: Access) -> Result<Arc<Control>, StoreError> {
        let store = Arc::new(Store::open(&config.directory)?);
        let controller = Controller::new(config.members(), config.limits, store.kept()?);
        let (writing, to_keep) = sync_channel(QUEUE);
        let keeper = store.clone();
        let directory = config.directory.clone();
        std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || {
                while let Ok(what) = to_keep.recv() {
                    if let Err(error) = keep(&keeper, &what) {
                        tracing::warn!(%error, "something could not be kept; the cluster is watched as before");
                    }
                }
            })
            .map_err(|source| StoreError::Io { path: directory, source })?;
        let healer = Healer::new(config.processes(), config.healing.limits(), store.healing()?);
        let state = State { controller, healer, seen: BTreeMap::new(), processes: BTreeMap::new() };
        let state = Mutex::new(state);
        Ok(Arc::new(Control { config, access, began: Instant::now(), store, writing, state }))
    }

    /// Watches over the cluster until the future is dropped.
    pub async fn run(self: Arc<Control>) {
        let mut tasks = JoinSet::new();
        for instance in &self.config.instances {
            let looker = Looker::new(instance.admin, &self.access);
            tasks.spawn(self.clone().watch(instance.name.clone(), looker));
        }
        tasks.spawn(self.clone().watch_storage());
        for process in &self.config.storage {
            tasks.spawn(self.clone().watch_process(process.clone()));
        }
        loop {
            self.step(Input::Tick);
            self.heal(fleet::Input::Tick);
            sleep(TICK).await;
        }
    }

    /// Begins the failover that a person asks for; answers to whom.
    ///
    /// # Errors
    /// It can't be done now, and why.
    pub fn request(self: &Arc<Control>, to: Option<&str>) -> Result<String, Refusal> {
        let (to, actions) = self.lock().controller.request(self.now(), to)?;
        self.carry_out(actions);
        Ok(to)
    }

    /// What it was made from.
    pub fn config(&self) -> &ControlConfig {
        &self.config
    }

    /// The events.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The writer that was seen last, whom a failover that is under way goes to, and the instances as they were seen last.
    pub fn seen(&self) -> (Kept, Option<String>, BTreeMap<String, LastSeen>) {
        let state = self.lock();
        let under_way = state.controller.under_way().map(str::to_owned);
        (state.controller.kept().clone(), under_way, state.seen.clone())
    }

    async fn watch(self: Arc<Control>, name: String, mut looker: Looker) {
        loop {
            let asked = self.now();
            let look = match looker.look(LOOK_PATIENCE).await {
                Looked::Answered(status) => {
                    let said = said(&status);
                    if said.role == RoleSeen::Writer && self.lock().controller.kept().writer.as_ref() == Some(&name) {
                        self.view(asked, &status);
                    }
                    self.lock().seen.insert(name.clone(), LastSeen { answers: true, status: Some(*status) });
                    Look::Said(said)
                }
                Looked::Refused => Look::Refused,
                Looked::Silent(why) => {
                    tracing::debug!(name, why, "no answer");
                    Look::Silent
                }
            };
            if !matches!(look, Look::Said(_)) {
                let mut state = self.lock();
                let seen = state.seen.entry(name.clone()).or_insert(LastSeen { answers: false, status: None });
                seen.answers = false;
            }
            self.step(Input::Looked { name: name.clone(), asked, look });
            sleep(LOOK_PAUSE).await;
        }
    }

    async fn watch_storage(self: Arc<Control>) {
        loop {
            sleep(STORAGE_PAUSE).await;
            if !self.lock().controller.wants_storage() {
                continue;
            }
            let mut asked = JoinSet::new();
            for address in self.with_members() {
                let access = self.access.clone();
                asked.spawn(async move {
                    let status = tokio::time::timeout(LOOK_PATIENCE, storage::status(address, &access)).await;
                    matches!(status, Ok(Ok(_)))
                });
            }
            let answered = asked.join_all().await.into_iter().filter(|answered| *answered).count();
            self.step(Input::StorageReached { answered, needed: WRITE_QUORUM });
        }
    }

    fn step(self: &Arc<Control>, input: Input) {
        let actions = self.lock().controller.step(self.now(), input);
        self.carry_out(actions);
    }

    fn carry_out(self: &Arc<Control>, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Promote { name, attempt } => {
                    self.turn(name, attempt, "promote", self.config.limits.promotion_ms)
                }
                Action::Demote { name, attempt } => self.turn(name, attempt, "demote", self.config.limits.demotion_ms),
                Action::Log(event) => self.log(event),
                Action::Persist(kept) => {
                    tracing::info!(writer = kept.writer, volume_epoch = kept.volume_epoch.0, "WRITER");
                    self.keep(ToKeep::Kept(kept));
                }
            }
        }
    }

    /// Asks an instance to change its role, on a connection of its own.
    fn turn(self: &Arc<Control>, name: String, attempt: u64, what: &'static str, limit_ms: u64) {
        let Some(address) = self.admin_of(&name) else { return };
        let control = self.clone();
        tokio::spawn(async move {
            tracing::info!(name, what, attempt, "asking an instance to change its role");
            let (access, limit) = (&control.access, Duration::from_millis(limit_ms));
            let path = format!("/{what}");
            let asked: Result<serde_json::Value, _> =
                auriga_http::ask(address, access, CertifiedRole::Instance, Method::POST, &path, limit).await;
            let outcome = asked.map(|_| ()).map_err(|error| error.to_string());
            if let Err(why) = &outcome {
                tracing::warn!(name, what, why, "an instance has not changed its role");
            }
            control.step(Input::Ended { attempt, outcome });
        });
    }

    fn admin_of(&self, name: &str) -> Option<SocketAddr> {
        self.config.instances.iter().find(|instance| instance.name == name).map(|instance| instance.admin)
    }

    /// The storage processes that have a member of the volume, as far as that is known: the first ones otherwise.
    fn with_members(&self) -> Vec<SocketAddr> {
        let homes = self.lock().healer.homes();
        let first = || self.config.storage.iter().map(|storage| storage.address).take(COPIES).collect();
        if homes.is_empty() { first() } else { homes }
    }

    /// Says what has happened, and keeps it.
    pub(crate) fn log(&self, event: Event) {
        tracing::info!(id = event.id(), reason = event.reason, "EVENT: {}", event.message());
        self.keep(ToKeep::Event(event));
    }

    /// What is needed to ask the processes of the cluster.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Where the newest writer answers.
    pub(crate) fn writer_admin(&self) -> Option<SocketAddr> {
        let writer = self.lock().controller.kept().writer.clone()?;
        self.admin_of(&writer)
    }

    pub(crate) fn remember_process(&self, name: &str, status: Option<NodeStatus>) {
        self.lock().processes.insert(name.to_owned(), status);
    }

    /// What each storage process has said last, where it answers.
    pub fn processes(&self) -> BTreeMap<String, Option<NodeStatus>> {
        self.lock().processes.clone()
    }

    pub(crate) fn step_healer(&self, input: fleet::Input) -> Vec<fleet::Action> {
        let now = self.now();
        self.lock().healer.step(now, input)
    }

    pub(crate) fn keep(&self, what: ToKeep) {
        if self.writing.try_send(what).is_err() {
            tracing::warn!("the disk is too slow: an event is not kept");
        }
    }

    fn now(&self) -> Millis {
        Millis(self.began.elapsed().as_millis() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep(store: &Store, what: &ToKeep) -> Result<(), StoreError> {
    match what {
        ToKeep::Event(event) => store.append(event).map(drop),
        ToKeep::Kept(kept) => store.persist(kept),
        ToKeep::Healing(kept) => store.persist_healing(kept),
    }
}

/// What matters of what an instance says.
fn said(status: &InstanceStatus) -> Said {
    let role = match (status.turn, status.role) {
        (Some(_), _) | (None, InstanceRole::Switching) => RoleSeen::Changing,
        (None, InstanceRole::Writer) => RoleSeen::Writer,
        (None, InstanceRole::Reader) => RoleSeen::Reader,
    };
    Said {
        role,
        is_ready: lets_clients_in(status),
        az: status.az.clone(),
        tier: status.tier,
        volume_epoch: status.volume_epoch.map_or((0, 0), |epoch| (epoch.number, epoch.writer.0)),
        read_point: status.reader.map_or(0, |reader| reader.read_point.0),
        writer_heard_ms: status.writer_heard_ms,
        stalled_ms: status.stalled_ms,
        is_of_secondary: status.region.is_some_and(|region| !region.may_write),
    }
}
