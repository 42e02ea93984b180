//! The commands of scripts.

use auriga_protocol::{PageId, WriterId};
use std::fmt;
use std::str::FromStr;

/// One command. Nodes are `A` to `F` (`pg1/A` where the volume has several groups) and `w1`, `w2`, …; `*` is anyone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// `cluster GROUPS`: a new volume with so many protection groups, six segments each. Comes first.
    Cluster(u16),
    /// `start w1`: a new writer begins its recovery.
    Start(WriterId),
    /// `stop w1`: a writer's process ends.
    Stop(WriterId),
    /// `deliver FROM TO [NAME]`: messages in flight arrive, oldest first; those that they cause stay in flight.
    Deliver(Route),
    /// `repeat FROM TO [NAME]`: the same, but they stay in flight as well: they will arrive twice.
    Repeat(Route),
    /// `lose FROM TO [NAME]`: messages in flight are lost.
    Lose(Route),
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
    /// `show`: where every node stands.
    Show,
}

/// Which messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Sender, or `*`.
    pub from: String,
    /// Receiver, or `*`.
    pub to: String,
    /// The message's name; none: any.
    pub name: Option<String>,
}

/// A line that is no command, or a command that can't be carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct ScriptError(pub String);

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.from, self.to)?;
        self.name.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Command::Cluster(groups) => write!(f, "cluster {groups}"),
            Command::Start(writer) => write!(f, "start {writer}"),
            Command::Stop(writer) => write!(f, "stop {writer}"),
            Command::Deliver(route) => write!(f, "deliver {route}"),
            Command::Repeat(route) => write!(f, "repeat {route}"),
            Command::Lose(route) => write!(f, "lose {route}"),
            Command::Run => write!(f, "run"),
            Command::Cut(nodes) => write!(f, "cut {}", nodes.join(" ")),
            Command::Join => write!(f, "join"),
            Command::Sync(node, count) => write!(f, "sync {node} {count}"),
            Command::Crash(node, keep) => write!(f, "crash {node} {keep}"),
            Command::Restart(node) => write!(f, "restart {node}"),
            Command::Forget(node, first) => write!(f, "forget {node} {first}"),
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
            [from, to] => Ok(Route { from: (*from).into(), to: (*to).into(), name: None }),
            [from, to, name] => Ok(Route { from: (*from).into(), to: (*to).into(), name: Some((*name).into()) }),
            _ => Err(bad()),
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words.as_slice() {
            ["cluster", groups] => Command::Cluster(groups.parse().map_err(|_| bad())?),
            ["start", who] => Command::Start(writer(who)?),
            ["stop", who] => Command::Stop(writer(who)?),
            ["deliver", rest @ ..] => Command::Deliver(route(rest)?),
            ["repeat", rest @ ..] => Command::Repeat(route(rest)?),
            ["lose", rest @ ..] => Command::Lose(route(rest)?),
            ["run"] => Command::Run,
            ["cut", nodes @ ..] if !nodes.is_empty() => Command::Cut(nodes.iter().map(|node| (*node).into()).collect()),
            ["join"] => Command::Join,
            ["sync", node, count] => Command::Sync((*node).into(), number(count)?),
            ["crash", node, keep] => Command::Crash((*node).into(), number(keep)?),
            ["restart", node] => Command::Restart((*node).into()),
            ["forget", node, first] => Command::Forget((*node).into(), number(first)?),
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
            ["show"] => Command::Show,
            _ => return Err(bad()),
        })
    }
}
