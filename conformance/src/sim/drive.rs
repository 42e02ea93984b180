//! Feeding inputs to machines and carrying out their effects: the part of the simulation that is a driver.

use super::coverage::Counted;
use super::node::{VOLUME, WriterNode};
use super::payload::Mark;
use super::settings::COPIES;
use super::world::{Event, Told, World, writer_index};
use crate::notation;
use auriga_protocol::segment::{Outcome, Segment, Task};
use auriga_protocol::writer::{Writer, WriterIdentity};
use auriga_protocol::{
    Effect, Effects, Input, Lsn, Machine, Message, Micros, Note, Party, SegmentId, VolumeEpoch, WriterId,
};
use std::hash::Hash;

/// Writers that one run may start.
const WRITERS_MAX: usize = 24;

impl World<'_> {
    pub(super) fn boot_segment(&mut self, node: usize) {
        let salt = self.rng.u64(..);
        let it = &mut self.segments[node];
        if self.plan.settings.cleaned {
            it.disk.clean_journal(salt);
        }
        let (id, survived, pages_lost) = (it.id, it.disk.survived(), it.disk.pages_lost());
        let mut effects = Effects::default();
        let machine = Segment::boot(&self.segment_config, id, survived, Micros(self.now), &mut effects);
        it.machine = Some(machine);
        if it.life > 0 {
            self.coverage.count(Counted::SegmentRestarted);
            self.tell(|names| format!("{} boots", names.segment(id)));
        }
        self.segment_effects(node, &mut effects);
        if pages_lost {
            self.step_segment(node, Input::Done(Outcome::PagesLost));
        }
        if self.segments[node].ails.full_until > self.now {
            self.step_segment(node, Input::Done(Outcome::DiskFull(true)));
        }
    }

    pub(super) fn step_segment(&mut self, node: usize, input: Input<Segment<Mark>>) {
        if let Some(machine) = &mut self.segments[node].machine {
            let mut effects = std::mem::take(&mut self.segment_out);
            machine.step(Micros(self.now), input, &mut effects);
            self.segment_effects(node, &mut effects);
            self.segment_out = effects;
        }
    }

    fn segment_effects(&mut self, node: usize, effects: &mut Effects<Segment<Mark>>) {
        let from = Party::Segment(self.segments[node].id);
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => self.send(from, to, message),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| self.send(from, to, message.clone()));
                }
                Effect::Append { id, entry } => {
                    self.tell(|names| format!("{} append #{} {}", names.party(from), id.0, notation::entry(&entry)));
                    self.segments[node].disk.append(id, entry);
                    self.start_sync(node);
                }
                Effect::Start(Task::Retire) => self.retire(node),
                Effect::Start(task) => {
                    self.tell(|names| format!("{} task {}", names.party(from), notation::task(&task)));
                    if let Task::PutBases { floor, .. } = &task {
                        self.segments[node].hydrating = floor.is_some();
                        if floor.is_none() {
                            self.coverage.count(Counted::PageHealed);
                        }
                    }
                    self.segments[node].disk.start(task);
                    self.start_task(node);
                }
                Effect::SetTimer { timer, after } => {
                    let life = self.segments[node].life;
                    let serial = self.queue.push(self.now + after.0, Event::SegmentTimer { node, life, timer });
                    self.segments[node].timers[timer as usize] = serial;
                }
                Effect::Note(note) => self.note(from, note),
                Effect::Answer { answer, .. } => match answer {},
            }
        }
    }

    /// One fsync at a time; it covers what is pending when it starts.
    pub(super) fn start_sync(&mut self, node: usize) {
        let it = &mut self.segments[node];
        let pending = it.disk.pending().len();
        if it.syncing.is_none() && pending > 0 {
            it.syncing = Some(pending);
            let life = it.life;
            let at = self.now + self.disk_time(node);
            self.queue.push(at, Event::Synced { node, life });
        }
    }

    pub(super) fn start_task(&mut self, node: usize) {
        let it = &mut self.segments[node];
        if !it.working && it.disk.tasks() > 0 {
            it.working = true;
            let life = it.life;
            let at = self.now + self.disk_time(node) / 2;
            self.queue.push(at, Event::TaskDone { node, life });
        }
    }

    fn disk_time(&mut self, node: usize) -> u64 {
        let (least, most) = self.plan.settings.fsync;
        let time = self.rng.u64(least..=most);
        let ails = &self.segments[node].ails;
        if ails.slow_until > self.now { time * ails.slow_factor } else { time }
    }

    pub(super) fn start_writer(&mut self) {
        if !self.healed && self.writers.len() >= WRITERS_MAX {
            return;
        }
        let id = WriterId(self.writers.len() as u64 + 1);
        let mut effects = Effects::default();
        let identity = WriterIdentity { volume: VOLUME, writer: id };
        let config = self.config_with_hints();
        let machine = Writer::boot(&config, identity, (), Micros(self.now), &mut effects);
        self.writers.push(WriterNode { machine: Some(machine), ..WriterNode::created(id) });
        let writer = self.writers.len() - 1;
        self.tell(|_| format!("{id} starts"));
        self.writer_effects(writer, &mut effects);
        self.queue.push(self.now, Event::Users { writer });
    }

    pub(super) fn crash_writer(&mut self, writer: usize) {
        let it = &mut self.writers[writer];
        it.machine = None;
        it.open = false;
        it.timers.clear();
        it.reads.clear();
        let id = it.id;
        self.tell(|_| format!("{id} crashes"));
    }

    pub(super) fn step_writer(&mut self, writer: usize, input: Input<Writer<Mark>>) {
        if let Some(machine) = &mut self.writers[writer].machine {
            let mut effects = std::mem::take(&mut self.writer_out);
            let before = machine.volume_epoch();
            machine.step(Micros(self.now), input, &mut effects);
            if before > VolumeEpoch::NONE && machine.volume_epoch() > before {
                self.coverage.count(Counted::SealedAgain);
            }
            self.writer_effects(writer, &mut effects);
            self.writer_out = effects;
        }
    }

    fn writer_effects(&mut self, writer: usize, effects: &mut Effects<Writer<Mark>>) {
        let from = Party::Writer(VOLUME, self.writers[writer].id);
        for effect in effects.drain() {
            match effect {
                Effect::Send { to, message } => self.send(from, to, message),
                Effect::Multicast { to, message } => {
                    to.into_iter().for_each(|to| self.send(from, to, message.clone()));
                }
                Effect::SetTimer { timer, after } => {
                    let serial = self.queue.push(self.now + after.0, Event::WriterTimer { writer, timer });
                    self.writers[writer].timers.insert(timer, serial);
                }
                Effect::Answer { token, answer } => self.answered(writer, token, answer),
                Effect::Note(note) => {
                    self.writer_note(writer, &note);
                    self.note(from, note);
                }
                Effect::Append { entry, .. } => match entry {},
                Effect::Start(task) => match task {},
            }
        }
    }

    fn writer_note(&mut self, writer: usize, note: &Note) {
        match note {
            Note::Opened { volume_epoch, vdl, .. } => {
                let recovered = self.judge.recovered(*volume_epoch, *vdl);
                for (happened, what) in
                    [(recovered.tail, Counted::RecoveredTail), (recovered.annulled, Counted::AnnulledTail)]
                {
                    if happened {
                        self.coverage.count(what);
                    }
                }
                self.writers[writer].open = true;
            }
            Note::Fenced { .. } => {
                if self.writers[writer].woke {
                    self.coverage.count(Counted::WokeFenced);
                }
                if std::mem::take(&mut self.writers[writer].open) {
                    self.coverage.count(Counted::OpenFenced);
                }
                let nobody = !self.writers.iter().any(|other| other.in_the_running());
                if nobody {
                    let pause = self.rng.u64(1_000..10_000);
                    self.queue.push(self.now + pause, Event::StartWriter);
                }
            }
            Note::Allocated { volume_epoch, lsn, page, .. } => {
                if let Some(change) = self.submitting.pop_front() {
                    assert_eq!(change.page, *page, "the simulation pairs notes with changes in order");
                    self.judge.allocated(*volume_epoch, *lsn, *page, change.payload);
                }
            }
            _ => {}
        }
    }

    pub(super) fn note(&mut self, from: Party, note: Note) {
        self.coverage.note(&note);
        (self.now, &note).hash(&mut self.hash);
        self.tell(|names| format!("{} note {}", names.party(from), notation::note(&note)));
        if let (Note::Collected { floor, .. }, Party::Segment(id)) = (&note, from) {
            self.count_hydration(id);
            self.check_floor(id, *floor);
        }
        if let Note::Rejoined { .. } = note {
            self.coverage.count(Counted::Rejoined);
            if let Party::Segment(id) = from {
                let node = self.index(id);
                self.segments[node].went_back = false;
            }
        }
        let life = match from {
            Party::Segment(id) => self.segments[self.index(id)].life,
            Party::Writer(..) | Party::Reader(..) => 0,
        };
        let (now, step) = (self.now, self.events);
        if let Some(notes) = &mut self.notes {
            notes.push(Told { now, step, from, life, note: note.clone() });
        }
        if let Err((rule, what)) = self.judge.observe(&note) {
            self.fail(rule, what);
        }
    }

    /// No floor may pass a read point in use by the writer that the segment knows (I-FLOOR).
    fn check_floor(&mut self, id: SegmentId, floor: Lsn) {
        let installed = self.segments[self.index(id)].machine.as_ref().map(|it| it.install().volume_epoch);
        let in_force = |writer: &&WriterNode| {
            writer.open && writer.machine.as_ref().map(|machine| machine.volume_epoch()) == installed
        };
        let reads = self.writers.iter().filter(in_force).flat_map(|writer| writer.reads.values());
        if let Some(passed) = reads.map(|read| read.durable).filter(|read_point| *read_point < floor).min() {
            self.fail("I-FLOOR", format!("{id} collected {floor}, and a read at {passed} is under way"));
        }
    }

    fn count_hydration(&mut self, id: SegmentId) {
        let node = self.index(id);
        if std::mem::take(&mut self.segments[node].hydrating) {
            self.coverage.count(Counted::Hydrated);
        }
    }

    /// Puts a message on its way, or loses it.
    fn send(&mut self, from: Party, to: Party, message: Message<Mark>) {
        self.sent += 1;
        let serial = self.sent;
        let known = match to {
            Party::Segment(id) if id.member.0 >= COPIES && !self.is_there(id) => {
                return self.coverage.count(Counted::ToNobody); // Not made yet.
            }
            Party::Segment(id) => self.index(id) < self.segments.len(),
            Party::Writer(_, id) => id.0 >= 1 && writer_index(id) < self.writers.len(),
            Party::Reader(..) => false,
        };
        if !known {
            return self.fail("R-MESSAGE", format!("a message to {to}, who never was"));
        }
        if self.cut(from, to) {
            self.coverage.count(Counted::CutOff);
            return self.tell(|names| names.message(from, to, &message, true));
        }
        let storm = if self.lossy.0 > self.now { self.lossy.1 } else { 0 };
        let settings = &self.plan.settings;
        let (loss, twice) = match self.healed {
            true => (0, 0),
            false => (settings.loss_permille + storm, settings.duplicate_permille + storm / 4),
        };
        if self.rng.u16(..1000) < loss {
            self.coverage.count(Counted::Lost);
            return self.tell(|names| names.message(from, to, &message, true));
        }
        if self.rng.u16(..1000) < twice {
            self.coverage.count(Counted::Duplicated);
            let at = self.now + self.delay(from, to);
            self.queue.push(at, Event::Deliver { from, to, serial, message: Box::new(message.clone()) });
        }
        let at = self.now + self.delay(from, to);
        self.queue.push(at, Event::Deliver { from, to, serial, message: Box::new(message) });
    }

    /// Whether a partition stands between the two.
    fn cut(&self, from: Party, to: Party) -> bool {
        let ails = |party| match party {
            Party::Segment(id) => Some(&self.segments[self.index(id)].ails),
            Party::Writer(..) | Party::Reader(..) => None,
        };
        let cut_off = |segment, other| match (ails(segment), other) {
            (Some(ails), Party::Writer(_, id)) => ails.cut_until > self.now && ails.cut_from == id,
            _ => false,
        };
        let mute = ails(from).is_some_and(|ails| ails.mute_until > self.now);
        let deaf = ails(to).is_some_and(|ails| ails.deaf_until > self.now);
        mute || deaf || cut_off(from, to) || cut_off(to, from)
    }

    fn delay(&mut self, from: Party, to: Party) -> u64 {
        let (least, most) = self.plan.settings.delay;
        let mut delay = self.rng.u64(least..=most);
        for party in [from, to] {
            if let Party::Segment(id) = party {
                let ails = &self.segments[self.index(id)].ails;
                if ails.far_until > self.now {
                    delay += self.rng.u64(..=ails.far_extra);
                }
            }
        }
        delay
    }
}
