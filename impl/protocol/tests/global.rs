//! Regions and controllers, driven by hand: what the model, which has neither time nor another writer, does not show.

use auriga_protocol::global::{
    ControllerConfig, ControllerTimer, GlobalController, GlobalMessage, GlobalParty, Lineage, Operation, Plan, Region,
    RegionConfig, RegionEntry, RegionOutcome, RegionRole, RegionSurvived, RegionTask, RegionTimer, ShippedRecord,
};
use auriga_protocol::{ControllerId, Effect, Effects, GlobalEpoch, Input, Lsn, Machine, Micros, RegionId, Token};

const FIRST: RegionId = RegionId(1);
const SECOND: RegionId = RegionId(2);
const CONTROLLER: GlobalParty = GlobalParty::Controller(ControllerId(7));

type Given = Vec<Effect<Region<u8>>>;

struct Alone(Region<u8>);

impl Alone {
    /// The first primary, whose log another machine writes.
    fn primary() -> Alone {
        let config =
            RegionConfig { log_is_external: true, ship_window: 3, ..RegionConfig::new(vec![FIRST, SECOND], FIRST) };
        let survived = RegionSurvived { lineage: Some(Lineage::created(FIRST)), ..RegionSurvived::default() };
        Alone(Region::boot(&config, FIRST, survived, Micros(0), &mut Effects::default()))
    }

    fn takes(&mut self, input: Input<Region<u8>>) -> Given {
        let mut out = Effects::default();
        self.0.step(Micros(0), input, &mut out);
        out.drain().collect()
    }

    fn hears(&mut self, from: GlobalParty, message: GlobalMessage<u8>) -> Given {
        self.takes(Input::Message { from, message })
    }

    /// The log was read: these records follow.
    fn reads(&mut self, above: u64, lsns: &[u64]) -> Given {
        let records = lsns.iter().map(|lsn| ShippedRecord { lsn: Lsn(*lsn), record: 0 }).collect();
        let (to, global_epoch, above) = (SECOND, GlobalEpoch::FIRST, Lsn(above));
        self.takes(Input::Done(RegionOutcome::LogRead { to, global_epoch, above, records }))
    }

    fn arrived(&mut self, through: u64) -> Given {
        let message = GlobalMessage::Arrived { global_epoch: GlobalEpoch::FIRST, through: Lsn(through) };
        self.hears(GlobalParty::Region(SECOND), message)
    }
}

/// What is to be read next, above where.
fn reads(given: &Given) -> Vec<u64> {
    let above = |effect: &Effect<Region<u8>>| match effect {
        Effect::Start(RegionTask::ReadLog { above, .. }) => Some(above.0),
        _ => None,
    };
    given.iter().filter_map(above).collect()
}

fn takes_over(given: &Given) -> bool {
    given.iter().any(|effect| matches!(effect, Effect::Start(RegionTask::TakeOver)))
}

#[test]
fn a_stream_has_several_messages_on_their_way() {
    let mut primary = Alone::primary();
    assert_eq!(reads(&primary.takes(Input::Timer(RegionTimer::Ship))), [0]);
    assert_eq!(reads(&primary.takes(Input::Timer(RegionTimer::Ship))), [], "it is being read");
    assert_eq!(reads(&primary.reads(0, &[4, 9])), [9], "no answer is waited for");
    assert_eq!(primary.0.durable(), Lsn(9), "what can be read is durable");
    assert_eq!(reads(&primary.reads(9, &[12])), [12]);
    assert_eq!(reads(&primary.reads(12, &[15])), [], "the window is full");
    assert_eq!(reads(&primary.arrived(9)), [15], "what arrives makes room");
    assert_eq!(reads(&primary.reads(15, &[])), [], "there is no more");
    for _ in 1..20 {
        assert_eq!(reads(&primary.takes(Input::Timer(RegionTimer::Ship))), [], "answers may come yet");
    }
    assert_eq!(reads(&primary.takes(Input::Timer(RegionTimer::Ship))), [9], "it is sent again from what has arrived");
}

#[test]
fn a_fence_waits_for_the_log_to_be_taken_over_and_ends_where_that_does() {
    let mut primary = Alone::primary();
    primary.takes(Input::Timer(RegionTimer::Ship));
    primary.reads(0, &[4]);
    let to = GlobalEpoch { number: 2, controller: ControllerId(7) };
    let fence = GlobalMessage::Fence { global_epoch: to, target: SECOND, planned: true };
    let given = primary.hears(CONTROLLER, fence.clone());
    assert!(takes_over(&given) && given.len() == 1, "nothing is durable or said before the end is known");
    assert!(primary.0.is_turning() && primary.hears(CONTROLLER, fence).is_empty());
    let given = primary.takes(Input::Done(RegionOutcome::TookOver { end: Lsn(11) }));
    let [Effect::Append { id, entry: RegionEntry::Fenced(handover) }] = given.as_slice() else {
        panic!("{} effects", given.len())
    };
    assert_eq!(handover.final_lsn, Lsn(11), "the other machine had gone on");
    let given = primary.takes(Input::Durable(*id));
    let fenced = |effect: &Effect<Region<u8>>| match effect {
        Effect::Send { message: GlobalMessage::Fenced { final_lsn, .. }, .. } => Some(*final_lsn),
        _ => None,
    };
    assert_eq!(given.iter().find_map(fenced), Some(Lsn(11)));
    assert_eq!((primary.0.role(), primary.0.durable()), (RegionRole::HandedOn, Lsn(11)));
    // It ships through there, and no farther: what is behind it is the region's own.
    primary.arrived(4);
    let through = |effect: &Effect<Region<u8>>| match effect {
        Effect::Start(RegionTask::ReadLog { through, .. }) => Some(*through),
        _ => None,
    };
    let asked: Vec<Lsn> = (0..40)
        .flat_map(|_| primary.takes(Input::Timer(RegionTimer::Ship)))
        .filter_map(|effect| through(&effect))
        .collect();
    assert!(!asked.is_empty() && asked.iter().all(|through| *through == Lsn(11)), "{asked:?}");
}

#[test]
fn a_newer_lineage_is_adopted_only_once_the_log_is_taken_over() {
    let mut primary = Alone::primary();
    let global_epoch = GlobalEpoch { number: 2, controller: ControllerId(7) };
    let branch = auriga_protocol::global::Branch { global_epoch, primary: SECOND, after: Lsn(4) };
    let lineage = Lineage::created(FIRST).with(branch);
    let ship = GlobalMessage::Ship { lineage, above: Lsn(4), records: Vec::new() };
    assert!(takes_over(&primary.hears(GlobalParty::Region(SECOND), ship)));
    let given = primary.takes(Input::Done(RegionOutcome::TookOver { end: Lsn(11) }));
    let [Effect::Append { entry: RegionEntry::Adopted { kept, lost: Some(lost), .. }, .. }] = given.as_slice() else {
        panic!("{} effects", given.len())
    };
    assert_eq!((*kept, lost.after, lost.through), (Lsn(4), Lsn(4), Lsn(11)));
}

/// A failover whose old primary is silent goes on when its wait is over, however often the fence is asked for again.
#[test]
fn a_failover_with_a_silent_primary_is_not_put_off_for_ever() {
    let config = ControllerConfig::new(vec![FIRST, SECOND], FIRST);
    let mut out = Effects::default();
    let mut controller = GlobalController::<u8>::boot(&config, ControllerId(7), Vec::new(), Micros(0), &mut out);
    let (mut now, mut due, mut fences) = (0, std::collections::BTreeMap::new(), 0);
    let request = Operation::Failover { target: SECOND };
    controller.step(Micros(now), Input::Request { token: Token(1), request }, &mut out);
    for _ in 0..1000 {
        let mut inputs = Vec::new();
        for effect in out.drain() {
            match effect {
                Effect::SetTimer { timer, after } => drop(due.insert(timer, now + after.0)),
                Effect::Append { id, .. } => inputs.push(Input::Durable(id)),
                Effect::Send { message: GlobalMessage::Fence { .. }, .. } => fences += 1,
                Effect::Send { to, message: GlobalMessage::Promote { plan, .. } } => {
                    assert_eq!((to, plan), (GlobalParty::Region(SECOND), Plan::Unplanned));
                    assert!(now == config.fence_within.0 && fences > 5, "at {now}, after {fences} fences");
                    return;
                }
                _ => {}
            }
        }
        if inputs.is_empty() {
            let (timer, at) = due.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at)).expect("a timer");
            due.remove(&timer);
            now = at;
            inputs.push(Input::Timer(timer));
        }
        inputs.into_iter().for_each(|input| controller.step(Micros(now), input, &mut out));
    }
    panic!("it is {now}, and nobody was promoted: {:?}", due.get(&ControllerTimer::FenceDeadline));
}
