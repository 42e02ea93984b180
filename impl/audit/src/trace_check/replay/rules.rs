//! Which rule says when a machine may say or do a thing: the rule that is broken when it does at another time.

use auriga_protocol::Note;

pub(super) fn of_note(note: &Note) -> &'static str {
    match note {
        Note::Sealed { .. } => "R-FENCE-2",
        Note::Installed { .. } => "R-RECOVER-3",
        Note::Acknowledged { .. } => "R-WRITE-2",
        Note::Served { .. } => "R-READ-3",
        Note::Collected { .. } => "R-COLLECT-1",
        Note::Learnt { .. } => "R-REJOIN-1",
        Note::Rejoined { .. } => "R-REJOIN-2",
        Note::WentBack { .. } => "R-LIFE-2",
        Note::LossAccepted { .. } => "R-REJOIN-8",
        Note::Allocated { .. } => "R-ALLOC-1",
        Note::Opened { .. } => "R-RECOVER-4",
        Note::Durable { .. } => "R-VDL-1",
        Note::Read { .. } => "R-READ-4",
        Note::ReadPoint { .. } => "R-READER-2",
        Note::Fenced { .. } => "R-FENCE-4",
        Note::Implausible { .. } => "R-LIMIT-2",
        Note::Contradicted { .. } => "R-LOG-4",
        Note::Global(_) | Note::Membership(_) => "replay",
    }
}

/// Of an output by its name (see [`crate::recording::Output`]).
pub(super) fn of_output(name: &str) -> &'static str {
    match name {
        "Acknowledge" => "R-WRITE-2",
        "Append" => "R-WRITE-5",
        "Refused" => "R-WRITE-1",
        "Sealed" => "R-FENCE-2",
        "Install" => "R-RECOVER-3",
        "Tail" | "TailPull" => "R-RECOVER-2",
        "Page" | "ReadBase" => "R-READ-3",
        "ReadRefused" => "R-READ-1",
        "ReadPage" => "R-READ-4",
        "Following" | "NotKept" => "R-READER-3",
        "Published" => "R-READER-6",
        "Coalesce" => "R-COLLECT-1",
        "Scrub" | "HealPull" | "HealPush" => "R-COLLECT-4",
        _ if name.starts_with("Gossip") => "R-GOSSIP-1",
        _ if name.starts_with("Hydrate") => "R-HYDRATE-1",
        _ if name.starts_with("Rejoin") => "R-REJOIN-1",
        _ if name.starts_with("Life") => "R-LIFE-2",
        _ => "replay",
    }
}
