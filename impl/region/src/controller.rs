//! One operation of a global database, from a command line: `GlobalController` with links to the regions.
//!
//! It keeps nothing: each run is a controller with a number of its own, so that no global epoch that it chose can ever be
//! chosen again, for whatever became of the run (R-GLOBAL-7). What it has begun is in the regions' logs, and another run
//! finishes it, undoes it or goes past it.

use crate::link::{Link, LinkConfig};
use auriga_driver::timers::Timers;
use auriga_driver::{clock, random};
use auriga_net::Mtr;
use auriga_protocol::global::{
    Branch, ControllerAnswer, ControllerConfig, ControllerEntry, ControllerTimer, GlobalController, GlobalMessage,
    GlobalParty, Operation, Outcome, RegionRole,
};
use auriga_protocol::{ControllerId, Effect, Effects, Input, Lsn, Machine, Micros, RegionId, Token};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// How often regions are asked where they stand.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How long a failover waits for the fence of an old primary that has answered.
const FENCE_WITHIN: Micros = Micros(1_500_000);

/// The same, of one that has not: it may still hear of it.
const FENCE_SILENT_WITHIN: Micros = Micros(300_000);

/// Where a region stands, as it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The branch at the end of its log.
    pub tip: Branch,
    /// Its role.
    pub role: RegionRole,
    /// The last global LSN that is known to be durable there.
    pub durable: Lsn,
    /// How far each other region is, as a primary has heard.
    pub arrived: BTreeMap<RegionId, Lsn>,
}

/// Why an operation did not end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotDone {
    /// No region has answered.
    #[error("no region answers")]
    NobodyAnswers,
    /// The time is over. What was begun may still take effect.
    #[error("it is not done in time: what was begun may still take effect; ask again, or undo it")]
    TimedOut,
    /// It is no region of this global database.
    #[error("there is no such region")]
    UnknownRegion,
}

/// Asks every region where it stands, and waits until `deadline` for those that do not answer.
pub async fn ask(config: &LinkConfig, deadline: Instant) -> BTreeMap<RegionId, Standing> {
    let own = GlobalParty::Controller(ControllerId(random::draw().max(1)));
    let mut tasks = JoinSet::new();
    let (link, mut inbox) = Link::start(own, config, None, &mut tasks);
    ask_all(config, &link, &mut inbox, deadline).await
}

async fn ask_all(
    config: &LinkConfig,
    link: &Arc<Link>,
    inbox: &mut Receiver<crate::link::Received>,
    deadline: Instant,
) -> BTreeMap<RegionId, Standing> {
    let mut heard = BTreeMap::new();
    while heard.len() < config.regions.len() && Instant::now() < deadline {
        let silent = config.regions.keys().filter(|region| !heard.contains_key(*region));
        silent.for_each(|region| link.send(GlobalParty::Region(*region), &GlobalMessage::Ask));
        let until = (Instant::now() + ASK_EVERY).min(deadline);
        while let Ok(Some((from, message))) = timeout_at(until, inbox.recv()).await {
            if let (GlobalParty::Region(region), GlobalMessage::Standing { tip, role, durable, arrived }) =
                (from, message)
            {
                heard.insert(region, Standing { tip, role, durable, arrived });
            }
        }
    }
    heard
}

/// Carries an operation out.
///
/// # Errors
/// It did not end by `deadline`.
pub async fn run(config: &LinkConfig, operation: Operation, deadline: Instant) -> Result<Outcome, NotDone> {
    let id = ControllerId(random::draw().max(1));
    let mut tasks = JoinSet::new();
    let (link, mut inbox) = Link::start(GlobalParty::Controller(id), config, None, &mut tasks);
    let mut heard = BTreeMap::new();
    while heard.is_empty() && Instant::now() < deadline {
        let all_heard = (Instant::now() + Duration::from_secs(1)).min(deadline);
        heard = ask_all(config, &link, &mut inbox, all_heard).await;
    }
    let newest = heard.values().max_by_key(|standing| standing.tip.global_epoch).ok_or(NotDone::NobodyAnswers)?;
    let regions = config.regions.keys().copied().collect();
    if let Operation::Switchover { target } | Operation::Failover { target } = operation
        && heard.get(&target).is_some_and(|it| it.role == RegionRole::Primary && it.tip == newest.tip)
    {
        return Ok(Outcome::AlreadyPrimary(newest.tip));
    }
    let (known, primary) = (newest.tip.global_epoch, newest.tip.primary);
    let fence_within = if heard.contains_key(&primary) { FENCE_WITHIN } else { FENCE_SILENT_WITHIN };
    let rules = ControllerConfig { fence_within, ..ControllerConfig::new(regions, primary) };
    let timers = Arc::new(Timers::default());
    let (fired, mut due) = unbounded_channel();
    let running = timers.clone();
    let fire = move |timer: ControllerTimer| {
        let _ = fired.send(timer); // Nobody waits any more where the operation has ended.
    };
    tasks.spawn(async move { running.run(fire).await });
    let mut effects = Effects::default();
    // It begins with what it has heard: an epoch that is too low would be refused, and all of it done once more.
    // Not where the target may be the primary already, but has not said so: it then says so by refusing.
    let is_primary = matches!(operation, Operation::Switchover { target } if target == primary);
    let learnt = if is_primary { Vec::new() } else { vec![ControllerEntry::Done { known, primary }] };
    let mut controller = GlobalController::<Mtr>::boot(&rules, id, learnt, clock::now(), &mut effects);
    let mut inputs = VecDeque::from([Input::Request { token: Token(1), request: operation }]);
    loop {
        while let Some(input) = inputs.pop_front() {
            controller.step(clock::now(), input, &mut effects);
            for effect in effects.drain() {
                match effect {
                    Effect::Send { to, message } => link.send(to, &message),
                    Effect::Multicast { to, message } => to.into_iter().for_each(|to| link.send(to, &message)),
                    // Its memory ends with it, see the module's header: whatever it keeps is kept at once.
                    Effect::Append { id, .. } => inputs.push_back(Input::Durable(id)),
                    Effect::SetTimer { timer, after } => timers.set(timer, after),
                    Effect::Answer { answer: ControllerAnswer::Ended(outcome), .. } => return Ok(outcome),
                    Effect::Answer { answer: ControllerAnswer::UnknownRegion, .. } => {
                        return Err(NotDone::UnknownRegion);
                    }
                    Effect::Answer { answer: ControllerAnswer::Busy, .. } | Effect::Note(_) => {}
                    Effect::Start(never) => match never {},
                }
            }
        }
        tokio::select! {
            Some((from, message)) = inbox.recv() => inputs.push_back(Input::Message { from, message }),
            Some(timer) = due.recv() => inputs.push_back(Input::Timer(timer)),
            () = sleep(deadline.saturating_duration_since(Instant::now())) => return Err(NotDone::TimedOut),
        }
    }
}
