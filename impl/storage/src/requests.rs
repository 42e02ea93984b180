//! Admin requests, handled.

use super::Stopped;
use super::adoption;
use super::node::Node;
use auriga_driver::lock;
use auriga_net::admin::{AdminReply, AdminRequest, Condition, Fault, NodeStatus};
use auriga_protocol::segment::{AcceptedLoss, Request};
use auriga_protocol::{Charter, Held, Input, Membership, SegmentId, Token};
use std::sync::Arc;

pub(super) async fn handle(node: &Arc<Node>, request: AdminRequest) -> AdminReply {
    tracing::debug!(?request, "asked");
    match request {
        AdminRequest::CreateSegment { id, membership, charter } => {
            // It waits for the disk, so it gets a thread that may wait.
            let creating = node.clone();
            let created =
                tokio::task::spawn_blocking(move || create_segment(&creating, id, membership, charter, false)).await;
            match created {
                Ok(Ok(())) => AdminReply::Done,
                Ok(Err(reason)) => AdminReply::Refused(reason),
                Err(_) => AdminReply::Refused("the node is stopping".to_owned()),
            }
        }
        AdminRequest::Status => AdminReply::Status(Box::new(status(node))),
        AdminRequest::Holdings => AdminReply::Holdings(holdings(node)),
        AdminRequest::Inject(fault) => {
            inject(node, &fault);
            AdminReply::Done
        }
        AdminRequest::AcceptLoss { id, label, loss } => match accept_loss(node, id, label, loss) {
            Ok(()) => AdminReply::Done,
            Err(why) => AdminReply::Refused(why),
        },
        AdminRequest::Stop => {
            node.stop(Stopped::Asked);
            AdminReply::Done
        }
    }
}

/// Tells a segment that an operator accepts a loss.
///
/// # Errors
/// It is not here, or does not accept it, and why, for a person to read.
fn accept_loss(node: &Node, id: SegmentId, label: u64, loss: AcceptedLoss) -> Result<(), String> {
    let segment = node.hosted(id).ok_or_else(|| format!("{id} is not here"))?;
    if node.label_of(id.volume) != Some(Some(label)) {
        return Err(format!("{} is not volume {label} here", id.volume));
    }
    segment.inspect(|segment| segment.may_accept(&loss)).map_err(|why| format!("{id} does not accept it: {why}"))?;
    segment.input(Input::Request { token: Token(0), request: Request::AcceptLoss(loss) });
    Ok(())
}

/// Every segment that the node holds.
pub(super) fn holdings(node: &Node) -> Vec<Held> {
    let segments = node.segments.read().expect("no holder panics");
    segments.values().filter_map(|segment| segment.inspect(|segment| segment.held())).collect()
}

/// Makes a segment, and hosts it; `joins`: of a volume that others hold already. Doing it again changes nothing.
///
/// # Errors
/// It is not made, and why, for a person to read.
pub(super) fn create_segment(
    node: &Arc<Node>,
    id: SegmentId,
    membership: Membership,
    charter: Charter,
    joins: bool,
) -> Result<(), String> {
    // Not shown: it is as long as the request made it.
    if !membership.quorum.is_sound() {
        return Err("the quorums of this membership need not meet, or its formulas are too long".to_owned());
    }
    if !membership.quorum.members().contains(id.member) {
        return Err(format!("{id} is not a member of its own group"));
    }
    let _one_at_a_time = node.creating.lock().expect("no holder panics");
    let held = holdings(node);
    if let Some(existing) = held.iter().find(|held| held.id == id) {
        return if existing.membership.next != membership {
            Err(format!("{id} exists with another membership: {:?}", existing.membership.next))
        } else if existing.charter != charter {
            let (was, asked) = (existing.charter.shape, charter.shape);
            Err(format!("{id} exists with another shape: it has {was}, asked for was {asked}"))
        } else {
            Ok(())
        };
    }
    let same_label = |held: &&Held| held.charter.label == charter.label && held.id.volume != id.volume;
    if let Some(other) = held.iter().find(same_label) {
        let (label, here, asked) = (charter.label, other.id.volume, id.volume);
        return Err(format!("volume {label} is {here} here, asked for was {asked}: two volumes of one label"));
    }
    let (hosted, most) = (node.segments.read().expect("no holder panics").len(), node.config.segments_max);
    if hosted >= most {
        return Err(format!("{hosted} segments are here, and no more than {most} may be"));
    }
    let survived = node.disk().create_segment(id, &membership, &charter, joins)?;
    node.host(id, survived);
    Ok(())
}

pub(super) fn inject(node: &Arc<Node>, fault: &Fault) {
    tracing::info!(?fault, "injected");
    node.faults.inject(fault);
    if matches!(fault, Fault::DiskFull(_) | Fault::Clear) {
        node.tell_disk_full(node.faults.disk_full());
    }
}

pub(super) fn status(node: &Node) -> NodeStatus {
    let segments = node.segments.read().expect("no holder panics");
    let known = lock(&node.neighbours).clone();
    let condition = match segments.is_empty() {
        true => Condition::Blank { answered: known.answered, peers: known.peers },
        false => Condition::Serving,
    };
    NodeStatus {
        node: node.config.name.clone(),
        az: node.config.az.clone(),
        condition,
        warnings: known.strangers.iter().map(adoption::said).collect(),
        segments: segments.iter().map(|(id, segment)| (*id, segment.inspect(|segment| segment.status()))).collect(),
        traffic: node.traffic.by_name(),
        dropped_frames: node.traffic.dropped(),
        disk: node.disk().status(),
        rss_bytes: resident_bytes(),
        uptime_seconds: node.started.elapsed().as_secs(),
    }
}

/// Resident memory of this process, in bytes; zero where the kernel does not say.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    // SAFETY: sysconf has no preconditions.
    let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page_size).unwrap_or(4096)
}
