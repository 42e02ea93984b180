//! The small cluster that scripts command. It does nothing by itself.

use super::command::{Command, Route, ScriptError};
use crate::disk::Disk;
use crate::notation::{self, Names};
use auriga_protocol::observer::Observer;
use auriga_protocol::segment::{Outcome, Segment, Timer as SegmentTimer};
use auriga_protocol::writer::{Answer, Request, Timer as WriterTimer, Writer, WriterIdentity};
use auriga_protocol::{
    Change, Effect, Effects, Geometry, Input, Machine, MemberId, Membership, Message, Micros, PageId, Party, Payload,
    PgId, QuorumSet, SegmentConfig, SegmentId, Token, VolumeId, WriterConfig, WriterId,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const VOLUME: VolumeId = VolumeId(1);
/// Small, so that truncation ranges read well.
const ALLOCATION_LIMIT: u64 = 10;

/// A script's payload: a page is the list of marks applied to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Word(pub u32);

impl Payload for Word {
    type Page = Vec<u32>;

    fn apply(&self, page: &mut Vec<u32>) {
        page.push(self.0);
    }

    fn weight(&self) -> usize {
        4
    }
}

/// The cluster of one script.
pub struct Bench {
    groups: u16,
    names: Names,
    segments: BTreeMap<SegmentId, (Option<Segment<Word>>, Disk<Word>)>,
    writers: BTreeMap<WriterId, Writer<Word>>,
    flight: VecDeque<(Party, Party, Message<Word>)>,
    cut: BTreeSet<String>,
    observer: Observer,
    tokens: u64,
    asked: BTreeMap<Token, PageId>,
    shown: Vec<String>,
    /// Messages, appends and tasks are not shown now.
    brief: bool,
}

impl Default for Bench {
    fn default() -> Self {
        Bench {
            groups: 0,
            names: Names::of(1),
            segments: BTreeMap::new(),
            writers: BTreeMap::new(),
            flight: VecDeque::new(),
            cut: BTreeSet::new(),
            observer: Observer::new(QuorumSet::aurora()),
            tokens: 0,
            asked: BTreeMap::new(),
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
        match command {
            Command::Cluster(groups) => self.create(*groups),
            Command::Start(id) => self.start(*id),
            Command::Stop(id) => drop(self.writers.remove(id)),
            Command::Deliver(route) => self.deliver(route, false),
            Command::Repeat(route) => self.deliver(route, true),
            Command::Lose(route) => {
                for (from, to, message) in self.take(route) {
                    self.show(|names| names.message(from, to, &message, true));
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
            Command::Forget(node, first) => self.node(node)?.1.damage_journal(|index| index >= *first),
            Command::Rot(node, nth) => {
                let page = self.node(node)?.1.rot_page(*nth);
                self.show(|_| page.map_or("no base page".into(), |page| format!("{page:?} is rotten")));
            }
            Command::LosePages(node) => self.node(node)?.1.lose_pages(),
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
                self.asked.insert(Token(self.tokens), *page);
                self.request(*id, Request::Read(*page));
            }
            Command::Show => self.show_all(),
        }
        Ok(std::mem::take(&mut self.shown))
    }

    fn create(&mut self, groups: u16) {
        (self.groups, self.names) = (groups, Names::of(groups));
        for pg in (0..groups).map(PgId) {
            for member in (0..6).map(MemberId) {
                let id = SegmentId { volume: VOLUME, pg, member };
                let disk = Disk::created(Membership::initial(QuorumSet::aurora()));
                self.segments.insert(id, (None, disk));
                self.boot(id);
            }
        }
        self.shown.clear();
    }

    fn start(&mut self, id: WriterId) {
        let geometry = Geometry { groups: self.groups, extent_blocks: 1 };
        let config = WriterConfig { geometry, allocation_limit: ALLOCATION_LIMIT, ..WriterConfig::default() };
        let mut effects = Effects::default();
        let machine = Writer::boot(&config, WriterIdentity { volume: VOLUME, writer: id }, (), Micros(0), &mut effects);
        self.writers.insert(id, machine);
        self.writer_effects(id, effects);
    }

    fn boot(&mut self, id: SegmentId) {
        let Some((machine, disk)) = self.segments.get_mut(&id) else { return };
        let mut effects = Effects::default();
        let config = SegmentConfig::tiny();
        *machine = Some(Segment::boot(&config, id, disk.survived(), Micros(0), &mut effects));
        let pages_lost = disk.pages_lost();
        self.segment_effects(id, effects);
        if pages_lost {
            self.step_segment(id, Input::Done(Outcome::PagesLost));
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
        let wanted = |(from, to, message): &(Party, Party, Message<Word>)| {
            is(&route.from, *from)
                && is(&route.to, *to)
                && route.name.as_deref().is_none_or(|name| name == message.name())
        };
        let (taken, left) = std::mem::take(&mut self.flight).into_iter().partition::<VecDeque<_>, _>(wanted);
        self.flight = left;
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
            let timer = if timer == "Retry" { WriterTimer::Retry } else { return Err(unknown()) };
            self.step_writer(id, Input::Timer(timer));
            return Ok(());
        }
        let id = self.segment(node)?;
        let timers =
            [("Gossip", SegmentTimer::Gossip), ("Coalesce", SegmentTimer::Coalesce), ("Scrub", SegmentTimer::Scrub)];
        let (_, timer) = timers.into_iter().find(|(name, _)| *name == timer).ok_or_else(unknown)?;
        self.step_segment(id, Input::Timer(timer));
        Ok(())
    }

    fn submit(&mut self, id: WriterId, changes: &[(PageId, u32)]) {
        let changes = changes.iter().map(|(page, mark)| Change { page: *page, payload: Word(*mark) }).collect();
        self.tokens += 1;
        self.request(id, Request::Submit(changes));
        self.request(id, Request::Flush);
    }

    fn request(&mut self, id: WriterId, request: Request<Word>) {
        self.step_writer(id, Input::Request { token: Token(self.tokens), request });
    }

    fn step_segment(&mut self, id: SegmentId, input: Input<Segment<Word>>) {
        let mut effects = Effects::default();
        if let Some((Some(machine), _)) = self.segments.get_mut(&id) {
            machine.step(Micros(0), input, &mut effects);
            self.segment_effects(id, effects);
        }
    }

    fn step_writer(&mut self, id: WriterId, input: Input<Writer<Word>>) {
        let mut effects = Effects::default();
        if let Some(machine) = self.writers.get_mut(&id) {
            machine.step(Micros(0), input, &mut effects);
            self.writer_effects(id, effects);
        }
    }

    fn segment_effects(&mut self, id: SegmentId, mut effects: Effects<Segment<Word>>) {
        let from = Party::Segment(id);
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => self.send(from, vec![to], &message),
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

    fn note(&mut self, from: Party, note: &auriga_protocol::Note) {
        self.shown.push(format!("{} note {}", self.names.party(from), notation::note(note)));
        if let Err(violation) = self.observer.observe(note) {
            self.shown.push(format!("BROKEN {}: {}", violation.rule, violation.what));
        }
    }

    fn answer(&mut self, id: WriterId, token: Token, answer: Answer<Word>) {
        let page = self.asked.remove(&token).map(|page| format!("{page:?} ")).unwrap_or_default();
        self.shown.push(match answer {
            Answer::Submitted(cpl) => format!("{id} submitted {cpl}"),
            Answer::NotSubmitted(why) => format!("{id} not submitted: {why:?}"),
            Answer::Page { read_point, version, page: content } => {
                format!("{id} page {page}at={read_point} version={version} {content:?}")
            }
            Answer::NotRead(why) => format!("{id} not read: {why:?}"),
        });
    }

    fn show(&mut self, line: impl FnOnce(Names) -> String) {
        if !self.brief {
            self.shown.push(line(self.names));
        }
    }

    fn show_all(&mut self) {
        for (id, (machine, _)) in &self.segments {
            let name = self.names.segment(*id);
            self.shown.push(match machine.as_ref().map(Segment::status) {
                None => format!("{name} down"),
                Some(it) => {
                    let flags = [(it.hydrating, " hydrating"), (it.rejoining, " rejoining"), (it.disk_full, " full")];
                    let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect();
                    let (promised, installed, scl, vdl, floor) = (it.promised, it.installed, it.scl, it.vdl, it.floor);
                    format!("{name} promised={promised} installed={installed} scl={scl} vdl={vdl} floor={floor}{flags}")
                }
            });
        }
        for (id, machine) in &self.writers {
            let (role, epoch) = (machine.role(), machine.volume_epoch());
            let (vdl, vcl, allocated) = (machine.vdl(), machine.vcl(), machine.allocated());
            self.shown.push(format!("{id}@{epoch} {role:?} vdl={vdl} vcl={vcl} allocated={allocated}"));
        }
    }
}
