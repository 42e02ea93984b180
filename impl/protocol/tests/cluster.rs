//! Six segments and their writers in one process, messages in seeded random order: the machines' first proving ground.
//! The thorough ones are `model/` and `conformance/`.

use auriga_protocol::limits::TRUNCATION_RANGES_MAX;
use auriga_protocol::segment::{Entry, Outcome, Survived, Task, Timer as SegmentTimer, bases_read};
use auriga_protocol::writer::{Answer, FollowersConfig, Request, Timer as WriterTimer, WriterIdentity, WriterRole};
use auriga_protocol::{
    AppendId, Change, Effect, Effects, Geometry, Input, Lsn, Machine, MemberId, Membership, Message, Micros, PageId,
    Party, Payload, PgId, QuorumSet, Segment, SegmentConfig, SegmentId, Token, VolumeId, Writer, WriterConfig,
    WriterId, message::BasePage, observer::Observer,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
struct Push(u32);

impl Payload for Push {
    type Page = Vec<u32>;

    fn apply(&self, page: &mut Vec<u32>) {
        page.push(self.0);
    }

    fn weight(&self) -> usize {
        4
    }
}

const VOLUME: VolumeId = VolumeId(1);

#[derive(Default)]
struct Disk {
    entries: Vec<Entry<Push>>,
    durable: usize,
    pending: Vec<AppendId>,
    floor: Lsn,
    ceiling: Lsn,
    bases: BTreeMap<PageId, BasePage<Push>>,
}

struct Cluster {
    seed: u64,
    geometry: Geometry,
    segments: BTreeMap<SegmentId, Segment<Push>>,
    disks: BTreeMap<SegmentId, Disk>,
    writers: BTreeMap<WriterId, Writer<Push>>,
    network: Vec<(Party, Party, Message<Push>)>,
    answers: BTreeMap<Token, Answer<Push>>,
    observer: Observer,
    lost: u64,
    boots: u64,
    followers: FollowersConfig,
    segment_config: SegmentConfig,
}

impl Cluster {
    fn new(seed: u64, groups: u16) -> Self {
        let mut cluster = Cluster {
            seed,
            geometry: Geometry { groups, extent_blocks: 1 },
            segments: BTreeMap::new(),
            disks: BTreeMap::new(),
            writers: BTreeMap::new(),
            network: Vec::new(),
            answers: BTreeMap::new(),
            observer: Observer::new(QuorumSet::aurora()),
            lost: 0,
            boots: 0,
            followers: FollowersConfig::default(),
            segment_config: SegmentConfig::tiny(),
        };
        for pg in (0..groups).map(PgId) {
            for member in (0..6).map(MemberId) {
                let id = SegmentId { volume: VOLUME, pg, member };
                let survived = Survived::<Push>::founded(Membership::initial(QuorumSet::aurora()));
                cluster.disks.insert(id, Disk { entries: survived.entries, durable: 2, ..Disk::default() });
                cluster.boot_segment(id);
            }
        }
        cluster
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed % below.max(1) as u64) as usize
    }

    fn boot_segment(&mut self, id: SegmentId) {
        self.boot_segment_from(id, false);
    }

    /// Everything but the segment's existence is gone from its log.
    fn lose_log(&mut self, id: SegmentId) {
        let disk = self.disks.get_mut(&id).unwrap();
        disk.entries.truncate(1);
        disk.durable = 1;
        self.boot_segment_from(id, true);
        assert!(self.segments[&id].status().rejoining);
    }

    fn boot_segment_from(&mut self, id: SegmentId, damaged: bool) {
        self.boots += 1;
        let disk = self.disks.get_mut(&id).unwrap();
        disk.entries.truncate(disk.durable);
        disk.pending.clear();
        let boot = self.boots;
        let survived =
            Survived { floor: disk.floor, ceiling: disk.ceiling, entries: disk.entries.clone(), damaged, boot };
        let mut out = Effects::default();
        let segment = Segment::boot(&self.segment_config, id, survived, Micros(0), &mut out);
        self.segments.insert(id, segment);
        self.run_segment_effects(id, out);
    }

    fn start_writer(&mut self, writer: WriterId) {
        let config = WriterConfig {
            geometry: self.geometry,
            allocation_limit: 64,
            linger: Micros(0),
            followers: self.followers.clone(),
            ..WriterConfig::default()
        };
        let mut out = Effects::default();
        let machine = Writer::boot(&config, WriterIdentity { volume: VOLUME, writer }, (), Micros(0), &mut out);
        self.writers.insert(writer, machine);
        self.run_writer_effects(writer, out);
    }

    fn step_segment(&mut self, id: SegmentId, input: Input<Segment<Push>>) {
        let mut out = Effects::default();
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.step(Micros(0), input, &mut out);
            self.run_segment_effects(id, out);
        }
    }

    fn step_writer(&mut self, id: WriterId, input: Input<Writer<Push>>) {
        let mut out = Effects::default();
        if let Some(writer) = self.writers.get_mut(&id) {
            writer.step(Micros(0), input, &mut out);
            self.run_writer_effects(id, out);
        }
    }

    fn run_segment_effects(&mut self, id: SegmentId, mut out: Effects<Segment<Push>>) {
        for effect in out.drain() {
            match effect {
                Effect::Send { to, message } => self.network.push((Party::Segment(id), to, message)),
                Effect::Multicast { to, message } => {
                    self.network.extend(to.into_iter().map(|to| (Party::Segment(id), to, message.clone())));
                }
                Effect::Append { id: append, entry } => {
                    let disk = self.disks.get_mut(&id).unwrap();
                    disk.entries.push(entry);
                    disk.pending.push(append);
                }
                Effect::Start(task) => {
                    let outcome = self.disks.get_mut(&id).unwrap().run(task);
                    self.step_segment(id, Input::Done(outcome));
                }
                Effect::Note(note) => self.observer.observe(&note).unwrap_or_else(|broken| panic!("{broken:?}")),
                Effect::SetTimer { .. } => {}
                Effect::Answer { answer, .. } => match answer {},
            }
        }
    }

    fn run_writer_effects(&mut self, id: WriterId, mut out: Effects<Writer<Push>>) {
        let from = Party::Writer(VOLUME, id);
        for effect in out.drain() {
            match effect {
                Effect::Send { to, message } => self.network.push((from, to, message)),
                Effect::Multicast { to, message } => {
                    self.network.extend(to.into_iter().map(|to| (from, to, message.clone())));
                }
                Effect::Answer { token, answer } => drop(self.answers.insert(token, answer)),
                Effect::Note(note) => self.observer.observe(&note).unwrap_or_else(|broken| panic!("{broken:?}")),
                Effect::Append { entry, .. } => match entry {},
                Effect::Start(task) => match task {},
                Effect::SetTimer { .. } => {}
            }
        }
    }

    fn sync(&mut self, id: SegmentId) {
        let Some(disk) = self.disks.get_mut(&id).filter(|disk| !disk.pending.is_empty()) else { return };
        disk.durable = disk.entries.len();
        let last = *disk.pending.last().unwrap();
        disk.pending.clear();
        self.step_segment(id, Input::Durable(last));
    }

    /// A few hundred random events: deliveries (some lost, some twice), syncs, timers.
    fn churn(&mut self, events: usize, loss_percent: usize) {
        let ids: Vec<SegmentId> = self.disks.keys().copied().collect();
        for _ in 0..events {
            match self.random(200) {
                0 => {
                    let writers: Vec<WriterId> = self.writers.keys().copied().collect();
                    if let Some(id) = writers.get(self.random(writers.len())) {
                        self.step_writer(*id, Input::Timer(WriterTimer::Retry));
                    }
                }
                1..=3 => {
                    let id = ids[self.random(ids.len())];
                    let timer = [SegmentTimer::Gossip, SegmentTimer::Coalesce][self.random(2)];
                    self.step_segment(id, Input::Timer(timer));
                }
                4..=40 => {
                    let id = ids[self.random(ids.len())];
                    if self.segments.contains_key(&id) {
                        self.sync(id);
                    }
                }
                _ if self.network.is_empty() => {}
                _ => {
                    let index = self.random(self.network.len());
                    let (from, to, message) = self.network.swap_remove(index);
                    if self.random(100) < loss_percent {
                        self.lost += 1;
                        continue;
                    }
                    if self.random(100) < loss_percent {
                        self.network.push((from, to, message.clone()));
                    }
                    match to {
                        Party::Segment(id) => self.step_segment(id, Input::Message { from, message }),
                        Party::Writer(_, id) => self.step_writer(id, Input::Message { from, message }),
                        Party::Reader(..) => {}
                    }
                }
            }
        }
    }

    /// Every message arrives, and everything appended becomes durable, until nothing is under way.
    fn deliver_everything(&mut self) {
        let ids: Vec<SegmentId> = self.disks.keys().copied().collect();
        while !self.network.is_empty() || self.disks.values().any(|disk| !disk.pending.is_empty()) {
            for (from, to, message) in core::mem::take(&mut self.network) {
                match to {
                    Party::Segment(id) => self.step_segment(id, Input::Message { from, message }),
                    Party::Writer(_, id) => self.step_writer(id, Input::Message { from, message }),
                    Party::Reader(..) => {}
                }
            }
            ids.iter().for_each(|id| self.sync(*id));
        }
    }

    fn churn_until(&mut self, what: &str, mut done: impl FnMut(&Cluster) -> bool) {
        for _ in 0..400 {
            if done(self) {
                return;
            }
            self.churn(100, 5);
        }
        panic!("not within bounds: {what}");
    }

    fn commit(&mut self, writer: WriterId, page: PageId, value: u32) -> Lsn {
        let mut out = Effects::default();
        let machine = self.writers.get_mut(&writer).unwrap();
        let lsn = machine.submit(vec![Change { page, payload: Push(value) }], &mut out).unwrap();
        machine.step(Micros(0), Input::Request { token: Token(0), request: Request::Flush }, &mut out);
        self.run_writer_effects(writer, out);
        self.churn_until("commit", |cluster| cluster.writers[&writer].vdl() >= lsn);
        lsn
    }

    fn read(&mut self, writer: WriterId, page: PageId) -> Vec<u32> {
        let token = Token(1_000_000 + self.answers.len() as u64);
        self.step_writer(writer, Input::Request { token, request: Request::Read(page) });
        for _ in 0..400 {
            if let Some(Answer::Page { page, .. }) = self.answers.get(&token) {
                return page.clone();
            }
            self.churn(100, 5);
            self.step_writer(writer, Input::Timer(WriterTimer::Hedge(token)));
        }
        panic!("page not read within bounds");
    }
}

impl Disk {
    fn run(&mut self, task: Task<Push>) -> Outcome<Push> {
        match task {
            Task::Coalesce { floor, records } => {
                for record in records {
                    let page = record.page;
                    let empty = BasePage { page, version: Lsn::ZERO, content: Vec::new() };
                    let base = self.bases.entry(page).or_insert(empty);
                    if record.lsn > base.version {
                        record.payload.apply(&mut base.content);
                        base.version = record.lsn;
                    }
                }
                self.floor = floor;
                Outcome::Coalesced { floor }
            }
            Task::ReadBase { token, page } => Outcome::Base { token, page, base: self.bases.get(&page).cloned() },
            Task::ReadBases { token, after, newer_than, limit, look } => {
                let later = self.bases.values().filter(|base| after.is_none_or(|after| base.page > after));
                bases_read(token, later, newer_than, (limit, look))
            }
            Task::PutBases { token, pages, unchanged, replace, floor, ceiling } => {
                let goes = |page: &PageId| replace.is_some_and(|range| range.contains(*page));
                self.bases.retain(|page, _| !goes(page) || unchanged.contains(page));
                self.ceiling = self.ceiling.max(ceiling);
                self.bases.extend(pages.into_iter().map(|base| (base.page, base)));
                self.floor = floor.unwrap_or(self.floor);
                Outcome::BasesPut { token }
            }
            Task::Scrub { .. } | Task::Retire => Outcome::Scrubbed { damaged: Vec::new() },
        }
    }
}

fn page(block: u64) -> PageId {
    PageId { inode: 1, block }
}

/// Writers take over from each other, segments crash and come back, messages are lost and repeated; every page holds
/// exactly what was committed, in order.
#[test]
fn takeovers_and_crashes_lose_nothing() {
    for seed in 1..=40 {
        let mut cluster = Cluster::new(seed * 0x9E37_79B9, 3);
        let mut expected: BTreeMap<PageId, Vec<u32>> = BTreeMap::new();
        for round in 1..=4u64 {
            let writer = WriterId(round);
            cluster.start_writer(writer);
            cluster.churn_until("open", |cluster| cluster.writers[&writer].role() == WriterRole::Open);
            for (block, pushed) in &expected {
                assert_eq!(&cluster.read(writer, *block), pushed, "seed {seed} round {round} {block:?}");
            }
            for value in 0..12 {
                let at = page(cluster.random(5) as u64);
                let value = (round * 100 + value) as u32;
                cluster.commit(writer, at, value);
                expected.entry(at).or_default().push(value);
                if cluster.random(3) == 0 {
                    let ids: Vec<SegmentId> = cluster.segments.keys().copied().collect();
                    let victim = ids[cluster.random(ids.len())];
                    cluster.boot_segment(victim);
                }
            }
        }
        let fenced = WriterId(1);
        cluster.churn_until("fence", |cluster| cluster.writers[&fenced].role() == WriterRole::Fenced);
    }
}

/// A segment that missed everything while its peers coalesced comes back through pages, and counts again.
#[test]
fn a_segment_left_far_behind_hydrates() {
    for seed in 1..=20 {
        let mut cluster = Cluster::new(seed * 0x51ED_270B, 1);
        let writer = WriterId(1);
        let away = SegmentId { volume: VOLUME, pg: PgId(0), member: MemberId(5) };
        cluster.segments.remove(&away);
        cluster.start_writer(writer);
        cluster.churn_until("open", |cluster| cluster.writers[&writer].role() == WriterRole::Open);
        for value in 0..30 {
            cluster.commit(writer, page(u64::from(value) % 7), value);
        }
        let collected = |cluster: &Cluster| cluster.segments.values().all(|segment| segment.status().floor > Lsn(0));
        cluster.churn_until("collection", collected);
        cluster.boot_segment(away);
        let vdl = cluster.writers[&writer].vdl();
        cluster.churn_until("hydration", |cluster| cluster.segments[&away].log().scl() == vdl);
        for id in cluster.segments.keys().copied().filter(|id| *id != away).take(3).collect::<Vec<_>>() {
            cluster.segments.remove(&id);
        }
        assert_eq!(cluster.read(writer, page(3)), vec![3, 10, 17, 24], "seed {seed}");
    }
}

/// Segments lose their logs, one at a time, between and during commits; each rejoins, and nothing acknowledged is lost.
#[test]
fn a_segment_that_lost_its_log_rejoins() {
    for seed in 1..=20 {
        let mut cluster = Cluster::new(seed * 0x2545_F491, 2);
        let mut expected: BTreeMap<PageId, Vec<u32>> = BTreeMap::new();
        for round in 1..=5u64 {
            let writer = WriterId(round);
            cluster.start_writer(writer);
            cluster.churn_until("open", |cluster| cluster.writers[&writer].role() == WriterRole::Open);
            let ids: Vec<SegmentId> = cluster.segments.keys().copied().collect();
            let victim = ids[cluster.random(ids.len())];
            for value in 0..8 {
                if value == 3 {
                    cluster.lose_log(victim);
                }
                let at = page(cluster.random(5) as u64);
                cluster.commit(writer, at, (round * 100 + value) as u32);
                expected.entry(at).or_default().push((round * 100 + value) as u32);
            }
            cluster.churn_until("rejoin", |cluster| !cluster.segments[&victim].status().rejoining);
            for (block, pushed) in &expected {
                assert_eq!(&cluster.read(writer, *block), pushed, "seed {seed} round {round} {block:?}");
            }
        }
    }
}

/// R-TRUNCATE-6: more recoveries than a truncation list may have ranges, and one segment away for a while. Lists stay
/// short while all segments are there.
#[test]
fn a_volume_is_recovered_more_often_than_it_may_have_ranges() {
    let mut cluster = Cluster::new(0x9E37_79B9, 1);
    let away = SegmentId { volume: VOLUME, pg: PgId(0), member: MemberId(5) };
    let rounds = TRUNCATION_RANGES_MAX as u64 + 100;
    let mut most = 0;
    for round in 1..=rounds {
        match round {
            50 => drop(cluster.segments.remove(&away)),
            60 => cluster.boot_segment(away),
            _ => {}
        }
        cluster.writers.clear();
        let writer = WriterId(round);
        cluster.start_writer(writer);
        cluster.deliver_everything();
        assert_eq!(cluster.writers[&writer].role(), WriterRole::Open, "round {round}");
        let lsn = cluster.commit(writer, page(round % 7), round as u32);
        cluster.step_writer(writer, Input::Timer(WriterTimer::Retry));
        cluster.deliver_everything();
        for timer in [SegmentTimer::Gossip, SegmentTimer::Coalesce] {
            let ids: Vec<SegmentId> = cluster.segments.keys().copied().collect();
            ids.into_iter().for_each(|id| cluster.step_segment(id, Input::Timer(timer)));
            cluster.deliver_everything();
        }
        let ranges = |segment: &Segment<Push>| segment.install().truncations.ranges().len();
        let longest = cluster.segments.values().map(ranges).max().unwrap();
        if round > 65 {
            assert!(longest <= 2, "round {round}: {longest} ranges");
        }
        most = most.max(longest);
        assert_eq!(cluster.writers[&writer].vdl(), lsn, "round {round}");
    }
    assert!(most >= 10, "while a segment was away every range had to stay: {most}");
}

/// R-READER-5: writers take over from each other before the grace of any has ended, so that none ever tells a PGMRPL, and
/// the log grows over all of them. When it is full, commits go on all the same.
#[test]
fn commits_go_on_when_writers_follow_each_other_faster_than_their_graces_end() {
    let mut cluster = Cluster::new(0x51ED_270B, 1);
    cluster.followers = FollowersConfig::some();
    cluster.segment_config.log_weight_max = 40 * 164;
    let ids: Vec<SegmentId> = cluster.segments.keys().copied().collect();
    ids.into_iter().for_each(|id| cluster.boot_segment(id));
    for round in 1..=6u64 {
        let writer = WriterId(round);
        cluster.start_writer(writer);
        cluster.churn_until("open", |cluster| cluster.writers[&writer].role() == WriterRole::Open);
        for value in 0..20 {
            cluster.commit(writer, page(value % 3), (round * 100 + value) as u32);
        }
    }
    let pushed = cluster.read(WriterId(6), page(0));
    let expected = (1..=6).flat_map(|round| (0..20).step_by(3).map(move |value| round * 100 + value));
    assert_eq!(pushed, expected.collect::<Vec<u32>>());
}
