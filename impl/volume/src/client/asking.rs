//! Asking the storage processes what they hold, all at once.

use super::VolumeConfig;
use auriga_net::admin::holdings;
use auriga_protocol::MemberId;
use auriga_protocol::identity::Answers;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Between two questions to a process that did not answer.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// What each process said; of those that said nothing, why.
#[derive(Default)]
pub(super) struct Heard {
    pub answers: Answers,
    pub silence: BTreeMap<MemberId, String>,
}

impl Heard {
    /// Names those of `members` that did not answer, with their addresses and why.
    pub fn silent(&self, config: &VolumeConfig, members: impl IntoIterator<Item = MemberId>) -> String {
        let name = |member: MemberId| {
            let address = config.members.get(&member).map_or_else(|| "no address".to_owned(), SocketAddr::to_string);
            match self.silence.get(&member) {
                Some(why) => format!("{address} ({why})"),
                None => address,
            }
        };
        members.into_iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

/// Asks every process, again and again where it does not answer, until `enough` of what was heard, or the deadline.
pub(super) async fn ask_all(config: &VolumeConfig, deadline: Instant, enough: impl Fn(&Answers) -> bool) -> Heard {
    let mut heard = Heard::default();
    let mut asking = JoinSet::new();
    for (member, address) in &config.members {
        let (member, address, access) = (*member, *address, config.access());
        asking.spawn(async move { (member, holdings(address, access).await) });
    }
    while let Ok(Some(Ok((member, said)))) = tokio::time::timeout_at(deadline.into(), asking.join_next()).await {
        match said {
            Ok(held) => {
                heard.silence.remove(&member);
                heard.answers.insert(member, Some(held));
            }
            Err(why) => {
                heard.silence.insert(member, why);
                let (address, access) = (config.members[&member], config.access());
                asking.spawn(async move {
                    tokio::time::sleep(AGAIN_AFTER).await;
                    (member, holdings(address, access).await)
                });
            }
        }
        if enough(&heard.answers) {
            break;
        }
    }
    heard
}
