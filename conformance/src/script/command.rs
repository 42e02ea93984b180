//! The commands of scripts.

use auriga_protocol::segment::AcceptedLoss;
use auriga_protocol::{Defect, MemberId, MemberSet, PageId, VolumeEpoch, WriterId};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// One command. Nodes are `A` to `F` (`pg1/A` where the volume has several groups) and `w1`, `w2`, …; `*` is anyone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `cluster GROUPS …`: a new volume with this many protection groups. Comes first.
    Cluster(Shape),
    /// `start w1`: a new writer begins its recovery.
    Start(WriterId),
    /// `stop w1`: a writer's process ends.
    Stop(WriterId),
    /// `deliver FROM TO [WHAT]`: messages in flight arrive, oldest first; those that they cause stay in flight.
    Deliver(Route),
    /// `repeat FROM TO [WHAT]`: the same, but they stay in flight as well: they will arrive twice.
    Repeat(Route),
    /// `lose FROM TO [WHAT]`: messages in flight are lost.
    Lose(Route),
    /// `misroute NODE FROM TO [WHAT]`: messages in flight reach this node as well, as those of another instance's
    /// reader would: a segment answers every reader that asks.
    Misroute(String, Route),
    /// `run`: messages arrive, appends become durable and tasks end until nothing is left but timers. Shows notes and
    /// answers only.
    Run,
    /// `cut A B …`: from now on nothing reaches these nodes or leaves them.
    Cut(Vec<String>),
    /// `join`: ends every cut.
    Join,
    /// `sync A N`: the oldest N pending appends become durable.
    Sync(String, usize),
    /// `crash A N`: the process stops; of its pending appends the oldest N survive.
    Crash(String, usize),
    /// `restart A`: boots from what survived.
    Restart(String),
    /// `forget A`: the journal of a node that is down lost its last entries, all but the first N.
    Forget(String, usize),
    /// `remake A`: the disk of a node that is down is lost, and its segment is made again on an empty one.
    Remake(String),
    /// `copy A`: a copy of the disk is made.
    Copy(String),
    /// `putback A`: the copy takes the place of the disk of a node that is down.
    PutBack(String),
    /// `clean A`: the journal is cleaned: the newest entry of each kind, then all records above the floor.
    Clean(String),
    /// `rot A PAGE`: a base page fails its checksum from now on.
    Rot(String, usize),
    /// `losepages A`: the base pages of a node that is down are gone.
    LosePages(String),
    /// `full A`: the disk has no space for records any more.
    Full(String),
    /// `space A`: it has again.
    Space(String),
    /// `task A`: the oldest task of a page store ends.
    Task(String),
    /// `timer A Gossip`, `timer w1 Retry`, …: a timer is due.
    Timer(String, String),
    /// `submit w1 1:0=7 1:1=8 …`: one mini-transaction, flushed.
    Submit(WriterId, Vec<(PageId, u32)>),
    /// `read w1 1:0`: a user reads a page.
    Read(WriterId, PageId),
    /// `accept D ABC 100`: an operator tells D that the journals of A, B and C are lost; the fence has this number.
    Accept(String, AcceptedLoss),
    /// `replace w1 F 127.0.0.1:7`: a writer is asked to replace a member by a new one with this home.
    Replace(WriterId, MemberId, SocketAddr),
    /// `undo w1 G`: and to take the replacement by G back.
    Undo(WriterId, MemberId),
    /// `adopt 127.0.0.1:7`: the process with this home asks all others what it should hold, and makes it.
    Adopt(SocketAddr),
    /// `members`: whom every segment knows, and every writer.
    Members,
    /// `show`: where every node stands.
    Show,
}

/// The volume of a script. `cluster 1` is Aurora's; what differs is said:
/// `cluster 1 members=3 write=2 read=2 lal=4 defects=no-fence`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Protection groups.
    pub groups: u16,
    /// Members of each group, from `A` on.
    pub members: u8,
    /// Write quorum.
    pub write: u8,
    /// Read quorum.
    pub read: u8,
    /// LAL: small, so that truncation ranges read well.
    pub lal: u64,
    /// Whether its members have no journals yet (`blank=yes`): they have still to found it.
    pub blank: bool,
    /// Whether its members have lives (`lives=yes`): they find out old copies of their disks.
    pub lives: bool,
    /// Whether recoveries wait for more promises than they need (`linger=yes`): until `timer w1 Linger`.
    pub lingers: bool,
    /// Planted in every machine.
    pub defect: Option<Defect>,
}

impl Shape {
    /// Six members, 4/6 and 3/6.
    pub fn aurora(groups: u16) -> Shape {
        let (blank, lives, lingers) = (false, false, false);
        Shape { groups, members: 6, write: 4, read: 3, lal: 10, blank, lives, lingers, defect: None }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = Shape::aurora(self.groups);
        write!(f, "{}", self.groups)?;
        if (self.members, self.write, self.read) != (usual.members, usual.write, usual.read) {
            write!(f, " members={} write={} read={}", self.members, self.write, self.read)?;
        }
        if self.lal != usual.lal {
            write!(f, " lal={}", self.lal)?;
        }
        if self.blank {
            write!(f, " blank=yes")?;
        }
        if self.lives {
            write!(f, " lives=yes")?;
        }
        if self.lingers {
            write!(f, " linger=yes")?;
        }
        self.defect.iter().try_for_each(|defect| write!(f, " defects={}", defect.slug()))
    }
}

/// `None`: malformed, or more than a segment's name can tell apart.
fn shape(words: &[&str]) -> Option<Shape> {
    let (groups, rest) = words.split_first()?;
    let mut shape = Shape::aurora(groups.parse().ok().filter(|groups| (1..=64).contains(groups))?);
    for word in rest {
        let (key, value) = word.split_once('=')?;
        match key {
            "members" => shape.members = value.parse().ok().filter(|members| (1..=15).contains(members))?,
            "write" => shape.write = value.parse().ok()?,
            "read" => shape.read = value.parse().ok()?,
            "lal" => shape.lal = value.parse().ok()?,
            "blank" => shape.blank = value == "yes",
            "lives" => shape.lives = value == "yes",
            "linger" => shape.lingers = value == "yes",
            "defects" => shape.defect = Some(*Defect::ALL.iter().find(|defect| defect.slug() == value)?),
            _ => return None,
        }
    }
    (shape.write <= shape.members && shape.read <= shape.members).then_some(shape)
}

/// Which messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Sender, or `*`.
    pub from: String,
    /// Receiver, or `*`.
    pub to: String,
    /// One word: all messages of this name. Several: the oldest message with exactly this text. None: all.
    pub what: Option<String>,
}

impl Route {
    /// Whether only one message is meant.
    pub fn is_one(&self) -> bool {
        self.what.as_ref().is_some_and(|what| what.contains(' '))
    }
}

/// A line that is no command, or a command that can't be carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(pub String);

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.from, self.to)?;
        self.what.iter().try_for_each(|what| write!(f, " {what}"))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Cluster(shape) => write!(f, "cluster {shape}"),
            Command::Start(writer) => write!(f, "start {writer}"),
            Command::Stop(writer) => write!(f, "stop {writer}"),
            Command::Deliver(route) => write!(f, "deliver {route}"),
            Command::Repeat(route) => write!(f, "repeat {route}"),
            Command::Lose(route) => write!(f, "lose {route}"),
            Command::Misroute(node, route) => write!(f, "misroute {node} {route}"),
            Command::Run => write!(f, "run"),
            Command::Cut(nodes) => write!(f, "cut {}", nodes.join(" ")),
            Command::Join => write!(f, "join"),
            Command::Sync(node, count) => write!(f, "sync {node} {count}"),
            Command::Crash(node, keep) => write!(f, "crash {node} {keep}"),
            Command::Restart(node) => write!(f, "restart {node}"),
            Command::Forget(node, first) => write!(f, "forget {node} {first}"),
            Command::Remake(node) => write!(f, "remake {node}"),
            Command::Copy(node) => write!(f, "copy {node}"),
            Command::PutBack(node) => write!(f, "putback {node}"),
            Command::Clean(node) => write!(f, "clean {node}"),
            Command::Rot(node, nth) => write!(f, "rot {node} {nth}"),
            Command::LosePages(node) => write!(f, "losepages {node}"),
            Command::Full(node) => write!(f, "full {node}"),
            Command::Space(node) => write!(f, "space {node}"),
            Command::Task(node) => write!(f, "task {node}"),
            Command::Timer(node, timer) => write!(f, "timer {node} {timer}"),
            Command::Submit(writer, changes) => {
                write!(f, "submit {writer}")?;
                changes.iter().try_for_each(|(page, mark)| write!(f, " {page:?}={mark}"))
            }
            Command::Read(writer, page) => write!(f, "read {writer} {page:?}"),
            Command::Accept(node, loss) => write!(f, "accept {node} {:?} {}", loss.lost, loss.fence.number),
            Command::Replace(writer, old, home) => write!(f, "replace {writer} {old} {home}"),
            Command::Undo(writer, new) => write!(f, "undo {writer} {new}"),
            Command::Adopt(home) => write!(f, "adopt {home}"),
            Command::Members => write!(f, "members"),
            Command::Show => write!(f, "show"),
        }
    }
}

impl FromStr for Command {
    type Err = ScriptError;

    fn from_str(line: &str) -> Result<Command, ScriptError> {
        let bad = || ScriptError(format!("not a command: {line}"));
        let number = |word: &str| word.parse::<usize>().map_err(|_| bad());
        let writer = |word: &str| {
            let digits = word.strip_prefix('w').and_then(|digits| digits.parse().ok());
            digits.filter(|number| *number > 0).map(WriterId).ok_or_else(bad)
        };
        let page = |word: &str| {
            let (inode, block) = word.split_once(':').ok_or_else(bad)?;
            let (inode, block) = (inode.parse().map_err(|_| bad())?, block.parse().map_err(|_| bad())?);
            Ok::<_, ScriptError>(PageId { inode, block })
        };
        let change = |word: &&str| {
            let (at, mark) = word.split_once('=').ok_or_else(bad)?;
            Ok::<_, ScriptError>((page(at)?, mark.parse().map_err(|_| bad())?))
        };
        let route = |words: &[&str]| match words {
            [from, to] => Ok(Route { from: (*from).into(), to: (*to).into(), what: None }),
            [from, to, what @ ..] => Ok(Route { from: (*from).into(), to: (*to).into(), what: Some(what.join(" ")) }),
            _ => Err(bad()),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["cluster", words @ ..] => Command::Cluster(shape(words).ok_or_else(bad)?),
            ["start", who] => Command::Start(writer(who)?),
            ["stop", who] => Command::Stop(writer(who)?),
            ["deliver", rest @ ..] => Command::Deliver(route(rest)?),
            ["repeat", rest @ ..] => Command::Repeat(route(rest)?),
            ["lose", rest @ ..] => Command::Lose(route(rest)?),
            ["misroute", node, rest @ ..] => Command::Misroute((*node).into(), route(rest)?),
            ["run"] => Command::Run,
            ["cut", nodes @ ..] if !nodes.is_empty() => Command::Cut(nodes.iter().map(|node| (*node).into()).collect()),
            ["join"] => Command::Join,
            ["sync", node, count] => Command::Sync((*node).into(), number(count)?),
            ["crash", node, keep] => Command::Crash((*node).into(), number(keep)?),
            ["restart", node] => Command::Restart((*node).into()),
            ["forget", node, first] => Command::Forget((*node).into(), number(first)?),
            ["remake", node] => Command::Remake((*node).into()),
            ["copy", node] => Command::Copy((*node).into()),
            ["putback", node] => Command::PutBack((*node).into()),
            ["clean", node] => Command::Clean((*node).into()),
            ["rot", node, nth] => Command::Rot((*node).into(), number(nth)?),
            ["losepages", node] => Command::LosePages((*node).into()),
            ["full", node] => Command::Full((*node).into()),
            ["space", node] => Command::Space((*node).into()),
            ["task", node] => Command::Task((*node).into()),
            ["timer", node, timer] => Command::Timer((*node).into(), (*timer).into()),
            ["submit", who, changes @ ..] if !changes.is_empty() => {
                Command::Submit(writer(who)?, changes.iter().map(change).collect::<Result<_, _>>()?)
            }
            ["read", who, what] => Command::Read(writer(who)?, page(what)?),
            ["accept", node, lost, fence] => {
                let member = |name: char| MemberId::of_name(&name.to_string());
                let lost: Option<MemberSet> = lost.chars().map(member).collect();
                let fence = VolumeEpoch::new(number(fence)? as u64, WriterId(0));
                Command::Accept((*node).into(), AcceptedLoss { lost: lost.ok_or_else(bad)?, fence })
            }
            ["replace", who, old, home] => {
                let old = MemberId::of_name(old).ok_or_else(bad)?;
                Command::Replace(writer(who)?, old, home.parse().map_err(|_| bad())?)
            }
            ["undo", who, new] => Command::Undo(writer(who)?, MemberId::of_name(new).ok_or_else(bad)?),
            ["adopt", home] => Command::Adopt(home.parse().map_err(|_| bad())?),
            ["members"] => Command::Members,
            ["show"] => Command::Show,
            _ => return Err(bad()),
        })
    }
}
