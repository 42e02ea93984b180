//! Who may do what, by what its certificate says. Whether a certificate is sound is decided before
//! ([`auriga_net::tls`]).
//!
//! Three pure decisions: which connections a role may open ([`connect`]), which messages it may send ([`send`]), which
//! requests it may make ([`ask`]). Without certificates, everybody who reaches the port may do everything but inject
//! faults.
//!
//! **What it never does.** It decides nothing of the protocol: what is allowed here may still be refused there.

use auriga_net::admin::AdminRequest;
use auriga_net::handshake::ConnectionRole;
use auriga_net::tls::{Certified, CertifiedRole};
use auriga_protocol::{Message, Party, Payload, VolumeId};

/// Whether the holder of this certificate may open a connection for this purpose.
///
/// # Errors
/// It may not, and why, for a person to read.
pub(super) fn connect(certified: &Certified, purpose: ConnectionRole) -> Result<(), String> {
    let allowed = match purpose {
        ConnectionRole::Storage => certified.role == CertifiedRole::Storage,
        ConnectionRole::WriterLog | ConnectionRole::WriterReads => certified.role.uses_volumes(),
        // Each request is looked at by itself.
        ConnectionRole::Admin => true,
        // A storage process is neither a writer nor a region.
        ConnectionRole::Reader | ConnectionRole::Region => false,
    };
    if allowed {
        return Ok(());
    }
    Err(format!("{} (role {}) may not open a connection for {purpose:?}", certified.name, certified.role))
}

/// Whether it may send this message from one party to another. `label`: the number of the volume that the receiver
/// belongs to, where it is hosted here.
///
/// # Errors
/// It may not, and why, for a person to read.
pub(super) fn send<P: Payload>(
    certified: &Certified,
    from: Party,
    to: Party,
    message: &Message<P>,
    label: Option<u64>,
) -> Result<(), String> {
    let Certified { name, role, volumes } = certified;
    let said_by_writers = is_said_by_writers(message);
    let said_by_readers = matches!(message, Message::ReadPage { .. } | Message::LogPull { .. });
    let why = match (role, from) {
        (CertifiedRole::Storage, Party::Segment(_)) if !said_by_writers => return Ok(()),
        (role, Party::Writer(volume, _)) if said_by_writers && role.uses_volumes() => match label {
            _ if Some(volume) != volume_of(to) => "from a writer of another volume".to_owned(),
            Some(label) if !volumes.contains(&label) => {
                format!("to volume {label}, which its certificate does not name")
            }
            // Not hosted here: it goes nowhere.
            _ => return Ok(()),
        },
        (role, Party::Reader(volume, _)) if said_by_readers && role.uses_volumes() => match label {
            _ if Some(volume) != volume_of(to) => "from a reader of another volume".to_owned(),
            Some(label) if !volumes.contains(&label) => {
                format!("to volume {label}, which its certificate does not name")
            }
            // Not hosted here: it goes nowhere.
            _ => return Ok(()),
        },
        (_, Party::Segment(_)) => "as a segment".to_owned(),
        (_, Party::Writer(..)) => "as a writer".to_owned(),
        (_, Party::Reader(..)) => "as a reader".to_owned(),
    };
    Err(format!("{name} (role {role}) may not send {} {why}", message.name()))
}

/// Whether a storage process may say this on a connection that another one dialled.
pub(super) fn answer<P: Payload>(from: Party, message: &Message<P>) -> bool {
    matches!(from, Party::Segment(_)) && !is_said_by_writers(message)
}

fn volume_of(party: Party) -> Option<VolumeId> {
    match party {
        Party::Segment(id) => Some(id.volume),
        Party::Writer(volume, _) | Party::Reader(volume, _) => Some(volume),
    }
}

/// Whether writers send such messages to segments; all others go from segment to segment, or back to a writer.
fn is_said_by_writers<P: Payload>(message: &Message<P>) -> bool {
    match message {
        Message::Seal { .. }
        | Message::TailPull { .. }
        | Message::Install { .. }
        | Message::Write { .. }
        | Message::Membership { .. }
        | Message::ReadPage { .. } => true,
        Message::Sealed { .. }
        | Message::Tail { .. }
        | Message::Acknowledge { .. }
        | Message::Refused(_)
        | Message::Page { .. }
        | Message::ReadRefused { .. }
        | Message::GossipPull { .. }
        | Message::GossipPush { .. }
        | Message::GossipInstall { .. }
        | Message::GossipTooFar { .. }
        | Message::HydratePull { .. }
        | Message::HydratePush { .. }
        | Message::HealPull { .. }
        | Message::HealPush { .. }
        | Message::RejoinPull { .. }
        | Message::RejoinKnown { .. }
        | Message::RejoinPush { .. }
        | Message::FoundPull { .. }
        | Message::FoundPush { .. }
        | Message::LifeAsk { .. }
        | Message::LifeKnown { .. }
        | Message::MembershipInstalled { .. }
        | Message::Follow { .. }
        | Message::Following { .. }
        | Message::Feedback { .. }
        | Message::NotKept { .. }
        | Message::Published { .. }
        | Message::LogPull { .. }
        | Message::LogPush { .. } => false,
    }
}

/// Whether it may make this request; without a certificate, everybody may that reaches the port. `faults`: whether this
/// process was started to misbehave when it is asked to.
///
/// # Errors
/// It may not, and why, for a person to read.
pub(super) fn ask(certified: Option<&Certified>, request: &AdminRequest, faults: bool) -> Result<(), String> {
    if matches!(request, AdminRequest::Inject(_)) && !faults {
        return Err("faults are injected only into a process that was started with allow_fault_injection".to_owned());
    }
    let Some(Certified { name, role, volumes }) = certified else { return Ok(()) };
    use CertifiedRole::{Admin, Control, Instance, Replication, Storage};
    let (what, allowed) = match (request, role) {
        (AdminRequest::Status, Admin | Control | Instance) => ("", true),
        (AdminRequest::Holdings, Admin | Control | Instance | Replication | Storage) => ("", true),
        (AdminRequest::CreateSegment { .. }, Admin | Control) => ("", true),
        (AdminRequest::CreateSegment { charter, .. }, Instance) => {
            ("create a segment of a volume that its certificate does not name", volumes.contains(&charter.label))
        }
        (AdminRequest::AcceptLoss { .. }, Admin) => ("", true),
        (AdminRequest::AcceptLoss { label, .. }, Instance) => {
            ("accept a loss of a volume that its certificate does not name", volumes.contains(label))
        }
        (AdminRequest::AcceptLoss { .. }, Storage | Control | Replication) => ("accept a loss", false),
        (AdminRequest::Inject(_), Admin) | (AdminRequest::Stop, Admin | Control) => ("", true),
        (AdminRequest::Status, Storage | Replication) => ("ask for the status", false),
        (AdminRequest::CreateSegment { .. }, Storage | Replication) => ("create segments", false),
        (AdminRequest::Inject(_), Storage | Instance | Control | Replication) => ("inject faults", false),
        (AdminRequest::Stop, Storage | Instance | Replication) => ("stop this process", false),
    };
    if allowed { Ok(()) } else { Err(format!("{name} (role {role}) may not {what}")) }
}

#[cfg(test)]
mod tests;
