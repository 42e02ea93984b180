//! The small cluster that scripts command. It does nothing by itself. `judging.rs` judges it after each command.

use super::command::{Command, Route, ScriptError, Shape};
use super::judging::Asked;
use super::word::Word;
use crate::disk::Disk;
use crate::notation::{self, Names};
use crate::sim::judge::Judge;
use auriga_protocol::identity::{Missing, joining};
use auriga_protocol::membership::MembershipNote;
use auriga_protocol::segment::{Outcome, Request as SegmentRequest, Segment, Timer as SegmentTimer};
use auriga_protocol::writer::{Request, Timer as WriterTimer, Writer, WriterIdentity};
use auriga_protocol::{
    Change, Charter, Defects, Effect, Effects, Geometry, Held, Input, Lsn, Machine, MemberId, MemberSet, Membership,
    Message, Micros, Note, PageId, Party, PgId, QuorumSet, SegmentConfig, SegmentId, Token, VolumeId, WriterConfig,
    WriterId,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

pub(super) const VOLUME: VolumeId = VolumeId(1);

/// The cluster of one script.
pub struct Bench {
    pub(super) shape: Shape,
    pub(super) names: Names,
    pub(super) segments: BTreeMap<SegmentId, (Option<Segment<Word>>, Disk<Word>)>,
    pub(super) writers: BTreeMap<WriterId, Writer<Word>>,
    /// Copies of disks, by the node's name.
    copies: BTreeMap<String, Disk<Word>>,
    flight: VecDeque<(Party, Party, Message<Word>)>,
    cut: BTreeSet<String>,
    pub(super) judge: Judge<Word>,
    /// The first rule that broke, and how.
    pub(super) broken: Option<(String, String)>,
    /// Disks lost what they had confirmed: the script's doing.
    pub(super) disks_lost: bool,
    /// Whether the last command named messages, and none was in flight.
    idle: bool,
    tokens: u64,
    pub(super) asked: BTreeMap<Token, Asked>,
    /// What a submission under way wants to change and was not allocated yet.
    pub(super) submitting: VecDeque<Change<Word>>,
    pub(super) shown: Vec<String>,
    /// Messages, appends and tasks are not shown now.
    pub(super) brief: bool,
}

impl Default for Bench {
    fn default() -> Self {
        Bench {
            shape: Shape::aurora(1),
            names: Names::of(1),
            segments: BTreeMap::new(),
            writers: BTreeMap::new(),
            copies: BTreeMap::new(),
            flight: VecDeque::new(),
            cut: BTreeSet::new(),
            judge: Judge::new(QuorumSet::aurora()),
            broken: None,
            disks_lost: false,
            idle: false,
            tokens: 0,
            asked: BTreeMap::new(),
            submitting: VecDeque::new(),
            shown: Vec::new(),
            brief: false,
        }
    }
}

impl Bench {
    /// Carries a command out; answers what it had for effects.
    ///
    /// # Errors
    /// When it names a node that isn't there.
    pub fn execute(&mut self, command: &Command) -> Result<Vec<String>, ScriptError> {
        self.idle = false;
        match command {
            Command::Cluster(shape) => self.create(shape),
            Command::Start(id) => self.start(*id),
            Command::Stop(id) => drop(self.writers.remove(id)),
            Command::Deliver(route) => self.deliver(route, false),
            Command::Repeat(route) => self.deliver(route, true),
            Command::Lose(route) => {
                for (from, to, message) in self.take(route) {
                    self.show(|names| names.message(from, to, &message, true));
                }
            }
            Command::Misroute(node, route) => {
                let id = self.segment(node)?;
                for (from, to, message) in self.take(route) {
                    self.flight.push_back((from, to, message.clone()));
                    self.step_segment(id, Input::Message { from, message });
                }
            }
            Command::Run => self.run(),
            Command::Cut(nodes) => self.cut.extend(nodes.iter().cloned()),
            Command::Join => self.cut.clear(),
            Command::Sync(node, count) => {
                let id = self.segment(node)?;
                let last = self.segments.get_mut(&id).and_then(|(_, disk)| disk.sync(*count));
                if let Some(append) = last {
                    self.step_segment(id, Input::Durable(append));
                }
            }
            Command::Crash(node, keep) => {
                let (machine, disk) = self.node(node)?;
                *machine = None;
                disk.crash(*keep);
            }
            Command::Restart(node) => {
                let id = self.segment(node)?;
                self.boot(id);
            }
            Command::Forget(node, first) => {
                self.disks_lost = true;
                self.node(node)?.1.damage_journal(|index| index >= *first);
            }
            Command::Remake(node) => {
                self.disks_lost = true;
                let (id, membership) = (self.segment(node)?, Membership::initial(self.quorum()));
                let joined = !membership.members().contains(id.member);
                let up = self.segments.values().filter_map(|(machine, _)| machine.as_ref());
                let newest = up.map(|machine| machine.membership()).max_by_key(|known| known.membership_epoch).cloned();
                let disk = &mut self.node(node)?.1;
                disk.remake(membership);
                if let Some(membership) = newest.filter(|_| joined) {
                    disk.remake_joining(membership);
                }
            }
            Command::Copy(node) => {
                let copy = self.node(node)?.1.copied();
                self.copies.insert(node.clone(), copy);
            }
            Command::PutBack(node) => {
                self.disks_lost = true;
                let copy = self.copies.get(node).cloned();
                let copy = copy.ok_or_else(|| ScriptError(format!("no copy was made of {node}")))?;
                self.node(node)?.1.put_back(copy);
                if !self.shape.lives {
                    let id = self.segment(node)?;
                    self.judge.forgive(id);
                }
            }
            Command::Clean(node) => self.node(node)?.1.clean_journal_as(|kinds| kinds.len()),
            Command::Rot(node, nth) => {
                let page = self.node(node)?.1.rot_page(*nth);
                self.show(|_| page.map_or("no base page".into(), |page| format!("{page:?} is rotten")));
            }
            Command::LosePages(node) => {
                self.disks_lost = true;
                self.node(node)?.1.lose_pages();
            }
            Command::Accept(node, loss) => {
                let id = self.segment(node)?;
                let refused = match self.node(node)?.0.as_ref().map(|machine| machine.may_accept(loss)) {
                    Some(Err(why)) => Some(why.to_string()),
                    _ => None,
                };
                self.show(|_| refused.map_or("accepted".into(), |why| format!("not accepted: {why}")));
                let request = SegmentRequest::AcceptLoss(*loss);
                self.step_segment(id, Input::Request { token: Token(0), request });
            }
            Command::Full(node) => self.done(node, Outcome::DiskFull(true))?,
            Command::Space(node) => self.done(node, Outcome::DiskFull(false))?,
            Command::Task(node) => {
                if let Some(outcome) = self.node(node)?.1.do_task() {
                    self.done(node, outcome)?;
                }
            }
            Command::Timer(node, timer) => self.timer(node, timer)?,
            Command::Submit(id, changes) => self.submit(*id, changes),
            Command::Read(id, page) => {
                self.tokens += 1;
                let durable = self.writers.get(id).map(Writer::vdl).unwrap_or_default();
                self.asked.insert(Token(self.tokens), Asked { writer: *id, page: *page, durable });
                self.request(*id, Request::Read(*page));
            }
            Command::Replace(id, old, home) => {
                self.tokens += 1;
                self.request(*id, Request::Replace { pg: PgId(0), old: *old, home: *home });
            }
            Command::Undo(id, new) => {
                self.tokens += 1;
                self.request(*id, Request::UndoReplace { pg: PgId(0), new: *new });
            }
            Command::Adopt(home) => self.adopt(*home),
            Command::Members => self.show_members(),
            Command::Show => self.show_all(),
        }
        self.inspect();
        Ok(std::mem::take(&mut self.shown))
    }

    /// The first rule that broke, and how.
    pub fn broken(&self) -> Option<&(String, String)> {
        self.broken.as_ref()
    }

    /// Whether the last command named messages, and none was in flight.
    pub fn was_idle(&self) -> bool {
        self.idle
    }

    pub(super) fn quorum(&self) -> QuorumSet {
        QuorumSet::steady(MemberSet::first(self.shape.members), self.shape.write, self.shape.read)
    }

    fn defects(&self) -> Defects {
        self.shape.defect.map_or(Defects::NONE, Defects::plant)
    }

    fn create(&mut self, shape: &Shape) {
        (self.shape, self.names) = (shape.clone(), Names::of(shape.groups));
        self.judge = Judge::new(self.quorum());
        for pg in (0..shape.groups).map(PgId) {
            for member in (0..shape.members).map(MemberId) {
                let id = SegmentId { volume: VOLUME, pg, member };
                let membership = Membership::initial(self.quorum());
                let disk = if shape.blank { Disk::created(membership) } else { Disk::founded(membership) };
                self.segments.insert(id, (None, disk));
                self.boot(id);
            }
        }
        if !shape.blank {
            self.shown.clear();
        }
    }

    fn start(&mut self, id: WriterId) {
        let config = WriterConfig {
            geometry: self.geometry(),
            membership: Membership::initial(self.quorum()),
            allocation_limit: self.shape.lal,
            linger: Micros(if self.shape.lingers { 1 } else { 0 }),
            defects: self.defects(),
            ..WriterConfig::default()
        };
        let mut effects = Effects::default();
        let machine = Writer::boot(&config, WriterIdentity { volume: VOLUME, writer: id }, (), Micros(0), &mut effects);
        self.writers.insert(id, machine);
        self.writer_effects(id, effects);
    }

    pub(super) fn geometry(&self) -> Geometry {
        Geometry { groups: self.shape.groups, extent_blocks: 1 }
    }

    pub(super) fn segment_config(&self) -> SegmentConfig {
        let renew_life_every = Micros(if self.shape.lives { 1 } else { 0 });
        SegmentConfig { renew_life_every, defects: self.defects(), ..SegmentConfig::tiny() }
    }

    fn boot(&mut self, id: SegmentId) {
        let config = self.segment_config();
        let Some((machine, disk)) = self.segments.get_mut(&id) else { return };
        let mut effects = Effects::default();
        *machine = Some(Segment::boot(&config, id, disk.survived(), Micros(0), &mut effects));
        let pages_lost = disk.pages_lost();
        self.segment_effects(id, None, effects);
        if pages_lost {
            self.step_segment(id, Input::Done(Outcome::PagesLost));
        }
    }

    /// Makes what the process at `home` should hold, as the others say (R-MEMBER-9).
    fn adopt(&mut self, home: SocketAddr) {
        let charter = Charter { label: 1, shape: WriterConfig::default().shape() };
        let held = |machine: &Segment<Word>| {
            let (id, membership) = (machine.id(), machine.membership_step().clone());
            Held { id, charter, membership, written: true }
        };
        let up = self.segments.values().filter_map(|(machine, _)| machine.as_ref());
        let answers = up.map(|machine| (machine.id().member, Some(vec![held(machine)]))).collect();
        let lacking = joining(home, &[], &answers, self.defects());
        let lacking = lacking.into_iter().filter(|each| !self.segments.contains_key(&each.id)).collect::<Vec<_>>();
        self.show(|_| if lacking.is_empty() { "nothing to make".into() } else { format!("makes {}", lacking.len()) });
        for Missing { id, membership, .. } in lacking {
            self.note(Party::Segment(id), &Note::Membership(MembershipNote::Made { segment: id, home }));
            self.segments.insert(id, (None, Disk::joining(membership)));
            self.boot(id);
        }
    }

    fn segment(&self, name: &str) -> Result<SegmentId, ScriptError> {
        let found = self.segments.keys().find(|id| self.names.segment(**id) == name);
        found.copied().ok_or_else(|| ScriptError(format!("no such segment: {name}")))
    }

    fn node(&mut self, name: &str) -> Result<&mut (Option<Segment<Word>>, Disk<Word>), ScriptError> {
        let id = self.segment(name)?;
        self.segments.get_mut(&id).ok_or_else(|| ScriptError(format!("no such segment: {name}")))
    }

    fn done(&mut self, node: &str, outcome: Outcome<Word>) -> Result<(), ScriptError> {
        let id = self.segment(node)?;
        self.step_segment(id, Input::Done(outcome));
        Ok(())
    }

    fn take(&mut self, route: &Route) -> Vec<(Party, Party, Message<Word>)> {
        let names = self.names;
        let is = |wanted: &str, party| wanted == "*" || wanted == names.party(party);
        let mut found = 0;
        let wanted = |(from, to, message): &(Party, Party, Message<Word>)| {
            let is_it = |what: &str| match route.is_one() {
                true => found == 0 && what == notation::message_text(message),
                false => what == message.name(),
            };
            let taken = is(&route.from, *from) && is(&route.to, *to) && route.what.as_deref().is_none_or(is_it);
            found += usize::from(taken);
            taken
        };
        let (taken, left) = std::mem::take(&mut self.flight).into_iter().partition::<VecDeque<_>, _>(wanted);
        self.flight = left;
        self.idle = taken.is_empty();
        taken.into()
    }

    fn deliver(&mut self, route: &Route, keep: bool) {
        for (from, to, message) in self.take(route) {
            if keep {
                self.flight.push_back((from, to, message.clone()));
            }
            self.arrive(from, to, message);
        }
    }

    fn arrive(&mut self, from: Party, to: Party, message: Message<Word>) {
        match to {
            Party::Segment(id) => self.step_segment(id, Input::Message { from, message }),
            Party::Writer(_, id) => self.step_writer(id, Input::Message { from, message }),
            Party::Reader(..) => {}
        }
    }

    fn run(&mut self) {
        self.brief = true;
        loop {
            if let Some((from, to, message)) = self.flight.pop_front() {
                self.arrive(from, to, message);
                continue;
            }
            let busy = |(_, (machine, disk)): &(&SegmentId, &(Option<Segment<Word>>, Disk<Word>))| {
                machine.is_some() && (disk.pending().len() > 0 || disk.tasks() > 0)
            };
            let Some(id) = self.segments.iter().find(busy).map(|(id, _)| *id) else { break };
            let Some((_, disk)) = self.segments.get_mut(&id) else { break };
            let synced = disk.sync(usize::MAX);
            let outcome = disk.do_task();
            if let Some(append) = synced {
                self.step_segment(id, Input::Durable(append));
            }
            if let Some(outcome) = outcome {
                self.step_segment(id, Input::Done(outcome));
            }
        }
        self.brief = false;
    }

    fn timer(&mut self, node: &str, timer: &str) -> Result<(), ScriptError> {
        let unknown = || ScriptError(format!("no such timer: {node} {timer}"));
        if let Some(id) = self.writers.keys().find(|id| id.to_string() == node).copied() {
            let timer = match timer {
                "Retry" => WriterTimer::Retry,
                "Linger" => WriterTimer::Linger,
                _ => return Err(unknown()),
            };
            self.step_writer(id, Input::Timer(timer));
            return Ok(());
        }
        let id = self.segment(node)?;
        let timers = [
            ("Gossip", SegmentTimer::Gossip),
            ("Coalesce", SegmentTimer::Coalesce),
            ("Scrub", SegmentTimer::Scrub),
            ("Life", SegmentTimer::Life),
        ];
        let (_, timer) = timers.into_iter().find(|(name, _)| *name == timer).ok_or_else(unknown)?;
        self.step_segment(id, Input::Timer(timer));
        Ok(())
    }

    fn submit(&mut self, id: WriterId, changes: &[(PageId, u32)]) {
        let changes: Vec<_> = changes.iter().map(|(page, mark)| Change { page: *page, payload: Word(*mark) }).collect();
        self.tokens += 1;
        self.submitting = VecDeque::from(changes);
        self.request(id, Request::Submit(self.submitting.iter().cloned().collect()));
        self.submitting.clear();
        self.request(id, Request::Flush);
    }

    fn request(&mut self, id: WriterId, request: Request<Word>) {
        self.step_writer(id, Input::Request { token: Token(self.tokens), request });
    }

    fn step_segment(&mut self, id: SegmentId, input: Input<Segment<Word>>) {
        let mut effects = Effects::default();
        let group_point = match &input {
            Input::Message { message: Message::ReadPage { group_point, .. }, .. } => Some(*group_point),
            _ => None,
        };
        if let Some((Some(machine), _)) = self.segments.get_mut(&id) {
            machine.step(Micros(0), input, &mut effects);
            self.segment_effects(id, group_point, effects);
        }
    }

    fn step_writer(&mut self, id: WriterId, input: Input<Writer<Word>>) {
        let mut effects = Effects::default();
        if let Some(machine) = self.writers.get_mut(&id) {
            machine.step(Micros(0), input, &mut effects);
            self.writer_effects(id, effects);
        }
    }

    /// `group_point`: that of the read which the machine was asked.
    fn segment_effects(&mut self, id: SegmentId, group_point: Option<Lsn>, mut effects: Effects<Segment<Word>>) {
        let from = Party::Segment(id);
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => {
                    self.judge_refusal(id, group_point, &message);
                    self.send(from, vec![to], &message);
                }
                Effect::Multicast { to, message } => self.send(from, to, &message),
                Effect::Append { id: number, entry } => {
                    self.show(|names| {
                        format!("{} append #{} {}", names.segment(id), number.0, notation::entry(&entry))
                    });
                    if let Some((_, disk)) = self.segments.get_mut(&id) {
                        disk.append(number, entry);
                    }
                }
                Effect::Start(task) => {
                    self.show(|names| format!("{} task {}", names.segment(id), notation::task(&task)));
                    if let Some((_, disk)) = self.segments.get_mut(&id) {
                        disk.start(task);
                    }
                }
                Effect::Note(note) => self.note(from, &note),
                Effect::SetTimer { .. } => {}
                Effect::Answer { answer, .. } => match answer {},
            }
        }
    }

    fn writer_effects(&mut self, id: WriterId, mut effects: Effects<Writer<Word>>) {
        let from = Party::Writer(VOLUME, id);
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => self.send(from, vec![to], &message),
                Effect::Multicast { to, message } => self.send(from, to, &message),
                Effect::Answer { token, answer } => self.answer(id, token, answer),
                Effect::Note(note) => self.note(from, &note),
                Effect::SetTimer { .. } => {}
                Effect::Append { entry, .. } => match entry {},
                Effect::Start(task) => match task {},
            }
        }
    }

    fn send(&mut self, from: Party, to: Vec<Party>, message: &Message<Word>) {
        let is_cut = |party: &Party| self.cut.contains(&self.names.party(*party));
        let (lost, sent): (Vec<_>, Vec<_>) = to.into_iter().partition(|to| is_cut(to) || is_cut(&from));
        for (to, lost) in [(&sent, false), (&lost, true)] {
            if !to.is_empty() {
                self.show(|names| names.multicast(from, to, message, lost));
            }
        }
        self.flight.extend(sent.into_iter().map(|to| (from, to, message.clone())));
    }

    fn note(&mut self, from: Party, note: &Note) {
        self.shown.push(format!("{} note {}", self.names.party(from), notation::note(note)));
        self.judge_note(note);
    }

    /// A rule is broken.
    pub(super) fn breaks(&mut self, rule: &str, what: String) {
        self.shown.push(format!("BROKEN {rule}: {what}"));
        self.broken.get_or_insert((rule.to_owned(), what));
    }
}
