//! A volume's durable log and pages as they are, without becoming its writer: asked of the segments themselves.
//!
//! What is read is at or below a VDL (R-GLOBAL-11), so that it is there for good, whoever writes meanwhile, and also while
//! nobody does. Nothing is held by asking: [`crate::hold`] does that.

use crate::merge::{MiniTransaction, merge};
use auriga_driver::{lock, random};
use auriga_net::connection::{ConnectionError, Receiver};
use auriga_net::dialler::keep_connected;
use auriga_net::frame::Frame;
use auriga_net::outbox::{OUTBOX_BYTES_MAX, Outbox};
use auriga_net::{ConnectionRole, Encoded, Hello, Traffic};
use auriga_page::{Delta, PageImage};
use auriga_protocol::limits::LSN_MAX;
use auriga_protocol::quorum::MemberSet;
use auriga_protocol::{
    Geometry, Lsn, MemberId, Membership, Message, PageId, Party, PgId, ReaderId, Refusal, SegmentId, Token,
    VolumeEpoch, VolumeId,
};
use auriga_volume::VolumeConfig;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// How long one segment may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// Why something was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unread {
    /// It is not kept any more.
    #[error("the log begins at {floor} by now")]
    TooFar {
        /// Where it begins.
        floor: Lsn,
    },
    /// Too few segments answer.
    #[error("too few storage processes answer")]
    Unreachable,
    /// The segments have promised themselves to a writer that is not open: it recovers the volume, or it died meanwhile. They
    /// serve no page until some writer opens it.
    #[error("the volume is being recovered, or a recovery of it was cut short")]
    Unrecovered,
}

/// A point of the volume, with what is needed to read pages as of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// The point: a VDL.
    pub at: Lsn,
    /// The last LSN at or below it of each group.
    pub groups: Vec<Lsn>,
    /// What each segment had installed.
    installed: BTreeMap<SegmentId, VolumeEpoch>,
}

/// Reads a volume's durable log and pages.
pub struct Source {
    client: Arc<Client>,
    geometry: Geometry,
    membership: Membership,
    /// For each group, which member is asked.
    preferred: Vec<AtomicUsize>,
    _tasks: JoinSet<()>,
}

struct Client {
    volume: VolumeId,
    reader: ReaderId,
    members: BTreeMap<MemberId, Arc<Outbox>>,
    waiting: Mutex<HashMap<Token, oneshot::Sender<Message<Delta>>>>,
    next: AtomicU64,
}

type Answer = oneshot::Receiver<Message<Delta>>;

impl Source {
    /// Connects to the volume's storage. Needs a tokio runtime, on which its tasks then run.
    pub fn start(config: &VolumeConfig) -> Source {
        let traffic = Arc::new(Traffic::default());
        let outbox = |member: &MemberId| (*member, Outbox::new(traffic.clone(), OUTBOX_BYTES_MAX));
        let client = Arc::new(Client {
            volume: config.volume,
            reader: ReaderId(random::draw()),
            members: config.members.keys().map(outbox).collect(),
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
        });
        let mut tasks = JoinSet::new();
        for (member, outbox) in &client.members {
            let own = Hello { cluster: config.cluster, role: ConnectionRole::WriterReads, name: config.name.clone() };
            let (address, credentials) = (config.members[member], config.credentials.clone());
            tasks.spawn(keep_connected(address, own, credentials, outbox.clone(), Answers(client.clone())));
        }
        let geometry = config.writer.geometry;
        let preferred = geometry.group_ids().map(|_| AtomicUsize::new(fastrand::usize(..6))).collect();
        Source { client, geometry, membership: config.writer.membership.clone(), preferred, _tasks: tasks }
    }

    /// The newest point that a read quorum of each group knows of.
    ///
    /// # Errors
    /// Too few segments answer.
    pub async fn newest(&self) -> Result<Point, Unread> {
        let told = self.ask_all(Lsn(LSN_MAX)).await?;
        let vdl = |message: &Message<Delta>| if let Message::LogPush { vdl, .. } = message { *vdl } else { Lsn::ZERO };
        let at = told.iter().flatten().map(|(_, message)| vdl(message)).max().unwrap_or_default();
        self.point(at).await
    }

    /// What is needed to read pages as of `at`, a VDL. Each record at or below it is in a write quorum's chains, so a read
    /// quorum knows each group's last one.
    ///
    /// # Errors
    /// Too few segments answer.
    pub async fn point(&self, at: Lsn) -> Result<Point, Unread> {
        let mut point = Point { at, groups: Vec::new(), installed: BTreeMap::new() };
        for answers in self.ask_all(at).await? {
            let mut last = Lsn::ZERO;
            for (segment, message) in answers {
                if let Message::LogPush { base, installed, .. } = message {
                    last = last.max(base);
                    point.installed.insert(segment, installed);
                }
            }
            point.groups.push(last);
        }
        Ok(point)
    }

    /// The page as of a point.
    ///
    /// # Errors
    /// The point is not kept any more, or no segment serves it now.
    pub async fn page(&self, page: PageId, point: &Point) -> Result<PageImage, Unread> {
        let pg = self.geometry.group_of(page);
        let mut why = Unread::Unreachable;
        for member in self.members() {
            let segment = SegmentId { volume: self.client.volume, pg, member };
            let Some(volume_epoch) = point.installed.get(&segment).copied() else { continue };
            let (read_point, group_point) = (point.at, point.groups[usize::from(pg.0)]);
            let asked = self.client.ask(segment, |read| Message::ReadPage {
                read,
                volume_epoch,
                page,
                read_point,
                group_point,
            });
            match heard(asked, Instant::now() + PATIENCE).await {
                Some(Message::Page { page, .. }) => return Ok(page),
                Some(Message::ReadRefused { refusal: Refusal::BelowFloor { floor }, .. }) => {
                    why = Unread::TooFar { floor };
                }
                Some(Message::ReadRefused {
                    refusal: Refusal::StaleVolumeEpoch { .. } | Refusal::NotInstalled { .. },
                    ..
                }) if why == Unread::Unreachable => why = Unread::Unrecovered,
                _ => {}
            }
        }
        Err(why)
    }

    /// Mini-transactions that follow `above`, the end of one: some of those that are durable, in order, none missing.
    ///
    /// # Errors
    /// They are not kept any more, or too few segments answer.
    pub async fn read(&self, above: Lsn) -> Result<Vec<MiniTransaction<Delta>>, Unread> {
        let asked: Vec<Option<Answer>> = self.geometry.group_ids().map(|pg| self.ask_preferred(pg, above)).collect();
        let until = Instant::now() + PATIENCE;
        let mut chains = Vec::new();
        let (mut newest, mut why) = (above, None);
        let mut told = Vec::new();
        for (pg, asked) in self.geometry.group_ids().zip(asked) {
            match heard(asked, until).await {
                Some(Message::LogPush { records, vdl, .. }) => {
                    newest = newest.max(vdl);
                    told.push((pg, vdl));
                    chains.push(records);
                }
                Some(Message::ReadRefused { refusal: Refusal::BelowFloor { floor }, .. }) => {
                    why = Some(Unread::TooFar { floor });
                    self.prefer_another(pg);
                }
                _ => {
                    why = why.or(Some(Unread::Unreachable));
                    self.prefer_another(pg);
                }
            }
        }
        if let Some(why) = why {
            return Err(why);
        }
        let merged = merge(above, chains);
        if merged.is_empty() && newest > above {
            // One of them is behind the others.
            told.into_iter().filter(|(_, vdl)| *vdl < newest).for_each(|(pg, _)| self.prefer_another(pg));
        }
        Ok(merged)
    }

    /// Asks every segment for its chain above `above`. Answers come by group: a read quorum of each at least.
    async fn ask_all(&self, above: Lsn) -> Result<Vec<Vec<(SegmentId, Message<Delta>)>>, Unread> {
        let volume = self.client.volume;
        let of_group = |pg| -> Vec<(SegmentId, Option<Answer>)> {
            let ask = |member| {
                let segment = SegmentId { volume, pg, member };
                (segment, self.client.ask(segment, |pull| Message::LogPull { pull, above }))
            };
            self.members().into_iter().map(ask).collect()
        };
        let asked: Vec<_> = self.geometry.group_ids().map(of_group).collect();
        let until = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        for group in asked {
            let (mut answers, mut too_far) = (Vec::new(), None);
            for (segment, asked) in group {
                match heard(asked, until).await {
                    Some(message @ Message::LogPush { .. }) => answers.push((segment, message)),
                    Some(Message::ReadRefused { refusal: Refusal::BelowFloor { floor }, .. }) => too_far = Some(floor),
                    _ => {}
                }
            }
            let who: MemberSet = answers.iter().map(|(segment, _)| segment.member).collect();
            if !self.membership.quorum.read_met(who) {
                return Err(too_far.map_or(Unread::Unreachable, |floor| Unread::TooFar { floor }));
            }
            all.push(answers);
        }
        Ok(all)
    }

    fn ask_preferred(&self, pg: PgId, above: Lsn) -> Option<Answer> {
        let members = self.members();
        let member = members[self.preferred[usize::from(pg.0)].load(Relaxed) % members.len()];
        let segment = SegmentId { volume: self.client.volume, pg, member };
        self.client.ask(segment, |pull| Message::LogPull { pull, above })
    }

    fn prefer_another(&self, pg: PgId) {
        self.preferred[usize::from(pg.0)].fetch_add(1, Relaxed);
    }

    fn members(&self) -> Vec<MemberId> {
        self.membership.quorum.members().iter().collect()
    }
}

impl Client {
    /// Asks a segment; `None`: it can't be reached.
    fn ask(&self, segment: SegmentId, what: impl FnOnce(Token) -> Message<Delta>) -> Option<Answer> {
        let outbox = self.members.get(&segment.member)?;
        let token = Token(self.next.fetch_add(1, Relaxed));
        let (answered, answer) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        waiting.retain(|_, asker| !asker.is_closed());
        waiting.insert(token, answered);
        drop(waiting);
        let encoded = Encoded::protocol(Party::Reader(self.volume, self.reader), &what(token)).ok()?;
        let sent = outbox.push(&encoded, Some(Party::Segment(segment)));
        outbox.flush();
        sent.then_some(answer)
    }
}

async fn heard(answer: Option<Answer>, until: Instant) -> Option<Message<Delta>> {
    timeout_at(until, answer?).await.ok()?.ok()
}

/// Receives what storage answers.
struct Answers(Arc<Client>);

impl Receiver for Answers {
    async fn receive(&mut self, frame: Frame, _: usize) -> Result<(), ConnectionError> {
        let Frame::Protocol(envelope) = frame else {
            return Err(ConnectionError::OutOfPlace("not a message of the protocol"));
        };
        let token = match &envelope.message {
            Message::LogPush { pull, .. } => *pull,
            Message::Page { read, .. } | Message::ReadRefused { read, .. } => *read,
            _ => return Ok(()),
        };
        if let Some(asker) = lock(&self.0.waiting).remove(&token) {
            let _ = asker.send(envelope.message); // Nobody waits any more where its time is over.
        }
        Ok(())
    }
}
