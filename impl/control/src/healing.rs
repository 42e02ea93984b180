//! Looks at the storage processes, tells the machine in [`fleet`](crate::fleet) of them and of what the writer sees, and asks
//! the writer for what that decides.

use crate::config::ControlConfig;
use crate::controller::Millis;
use crate::driver::{Control, ToKeep};
use crate::fleet::{Action, Asked, GroupSeen, Input, Limits, Look, MemberSeen, Process, View};
use auriga_admin::config::StorageAddress;
use auriga_admin::storage;
use auriga_http::Method;
use auriga_instance::node::InstanceStatus;
use auriga_instance::node::membership::{Replace, Replaced, Undo};
use auriga_net::admin::{Condition, NodeStatus};
use auriga_net::tls::CertifiedRole;
use auriga_protocol::{MemberId, PgId};
use auriga_volume::GroupShown;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a storage process may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(2);
/// Looks at each storage process within the time after which it is replaced.
const LOOKS: u32 = 10;
/// Longest pause between two looks.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long the writer may take to begin or undo a replacement.
const ASK_PATIENCE: Duration = Duration::from_secs(10);

/// What is done about storage processes that are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealingConfig {
    /// Whether their members are replaced.
    pub enabled: bool,
    /// A process that neither this controller nor the writer has heard for so long is replaced, in seconds.
    pub replace_after_s: u64,
}

impl Default for HealingConfig {
    fn default() -> Self {
        HealingConfig { enabled: true, replace_after_s: 60 }
    }
}

impl HealingConfig {
    /// How patient the machine is.
    pub(crate) fn limits(self) -> Limits {
        let replace_after_ms = self.replace_after_s.saturating_mul(1000);
        // A pause of the machine this long leaves nothing that was seen before it.
        let still_ms = (replace_after_ms / 2).clamp(2_000, 30_000);
        Limits { enabled: self.enabled, replace_after_ms, returned_ms: 1_000, still_ms }
    }

    fn pause(self) -> Duration {
        (Duration::from_secs(self.replace_after_s) / LOOKS).clamp(Duration::from_millis(200), PAUSE_MAX)
    }
}

impl ControlConfig {
    /// The storage processes as the machine knows them.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let process = |storage: &StorageAddress| Process {
            name: storage.name.clone(),
            az: storage.az.clone(),
            address: storage.address,
        };
        self.storage.iter().map(process).collect()
    }
}

impl Control {
    /// Looks at one storage process again and again.
    pub(crate) async fn watch_process(self: Arc<Control>, process: StorageAddress) {
        let pause = self.config().healing.pause();
        loop {
            let status = timeout(PATIENCE, storage::status(process.address, self.access())).await;
            let status = status.ok().and_then(Result::ok);
            let look = status.as_ref().map_or(Look::Silent, look);
            self.remember_process(&process.name, status);
            self.heal(Input::Looked { name: process.name.clone(), look });
            sleep(pause).await;
        }
    }

    /// Tells the machine what a writer has said.
    pub(crate) fn view(self: &Arc<Control>, asked: Millis, status: &InstanceStatus) {
        if let Some(volume) = &status.volume {
            self.heal(Input::Viewed(View { asked, groups: volume.groups.iter().map(group).collect() }));
        }
    }

    /// Steps the machine, and does what it decides.
    pub(crate) fn heal(self: &Arc<Control>, input: Input) {
        for action in self.step_healer(input) {
            match action {
                Action::Ask { asked, attempt } => self.ask_writer(asked, attempt),
                Action::Log(event) => self.log(event),
                Action::Persist(kept) => self.keep(ToKeep::Healing(kept)),
            }
        }
    }

    fn ask_writer(self: &Arc<Control>, asked: Asked, attempt: u64) {
        let control = self.clone();
        tokio::spawn(async move {
            let outcome = control.carry_to_writer(&asked).await;
            control.heal(Input::Ended { attempt, outcome });
        });
    }

    async fn carry_to_writer(&self, asked: &Asked) -> Result<Option<u8>, String> {
        let address = self.writer_admin().ok_or_else(|| "there is no writer".to_owned())?;
        let mut client = auriga_http::Client::new(address, self.access(), CertifiedRole::Instance);
        let replaced: Result<Replaced, _> = match *asked {
            Asked::Replace { pg, old, home } => {
                let ask = Replace { pg: PgId(pg), old: MemberId(old), home };
                client.ask(Method::POST, "/replace", Some(&ask), ASK_PATIENCE).await
            }
            Asked::Undo { pg, new } => {
                let ask = Undo { pg: PgId(pg), new: MemberId(new) };
                client.ask(Method::POST, "/undo-replace", Some(&ask), ASK_PATIENCE).await
            }
        };
        replaced.map(|replaced| replaced.new.map(|member| member.0)).map_err(|error| error.to_string())
    }
}

fn look(status: &NodeStatus) -> Look {
    match status.condition {
        Condition::Refused { .. } => Look::Refuses,
        Condition::Serving | Condition::Blank { .. } => {
            Look::Serves { segments: status.segments.len(), used_bytes: status.disk.used_bytes }
        }
    }
}

fn group(shown: &GroupShown) -> GroupSeen {
    let members = shown.members.iter().filter_map(|member| {
        let home = member.home?;
        let (silent_ms, hydrated) = (member.silent_ms, member.hydrated);
        Some(MemberSeen { member: member.member.0, home, silent_ms, hydrated })
    });
    GroupSeen {
        pg: shown.pg.0,
        members: members.collect(),
        under_way: shown.under_way.iter().map(|(old, new)| (old.0, new.0)).collect(),
    }
}
