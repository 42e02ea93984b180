//! What people are told, in Aurora's words.

use serde::{Deserialize, Serialize};

/// What has happened.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "instance")]
pub enum EventKind {
    /// Nobody can be promoted.
    Failed,
    /// The one that wrote before is promoted.
    PreviousPrimaryAgain(String),
    /// The new writer serves.
    Completed(String),
    /// Within the AZ of the writer before.
    StartedSameAz(String),
    /// To another AZ, or from one that is not known.
    StartedCrossAz(String),
    /// This storage process takes over a member of one that is lost.
    StorageReplacing(String),
    /// It has all that it must have, and counts.
    StorageReplaced(String),
    /// A replacement was undone, in this group.
    StorageKept(String),
    /// Nobody can take over from this storage process.
    StorageNotReplaced(String),
}

/// An event.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    /// What has happened.
    #[serde(flatten)]
    pub kind: EventKind,
    /// Why, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl Event {
    pub(crate) fn new(kind: EventKind, reason: &str) -> Event {
        Event { kind, reason: reason.to_owned() }
    }

    /// Aurora's number of such an event; of what Aurora does not tell its users, a number of our own.
    pub fn id(&self) -> &'static str {
        match self.kind {
            EventKind::Failed => "RDS-EVENT-0069",
            EventKind::PreviousPrimaryAgain(_) => "RDS-EVENT-0070",
            EventKind::Completed(_) => "RDS-EVENT-0071",
            EventKind::StartedSameAz(_) => "RDS-EVENT-0072",
            EventKind::StartedCrossAz(_) => "RDS-EVENT-0073",
            EventKind::StorageReplacing(_) => "AURIGA-EVENT-0001",
            EventKind::StorageReplaced(_) => "AURIGA-EVENT-0002",
            EventKind::StorageKept(_) => "AURIGA-EVENT-0003",
            EventKind::StorageNotReplaced(_) => "AURIGA-EVENT-0004",
        }
    }

    /// Aurora's text, or one of our own.
    pub fn message(&self) -> String {
        match &self.kind {
            EventKind::Failed => {
                "Cluster failover failed, check the health of your cluster instances and try again.".to_owned()
            }
            EventKind::PreviousPrimaryAgain(name) => format!("Promoting previous primary again: {name}."),
            EventKind::Completed(name) => format!("Completed failover to DB instance: {name}."),
            EventKind::StartedSameAz(name) => format!("Started same AZ failover to DB instance: {name}."),
            EventKind::StartedCrossAz(name) => format!("Started cross AZ failover to DB instance: {name}."),
            EventKind::StorageReplacing(name) => format!("Started repair of storage onto process: {name}."),
            EventKind::StorageReplaced(name) => format!("Completed repair of storage onto process: {name}."),
            EventKind::StorageKept(group) => format!("Repair of storage was undone: {group}."),
            EventKind::StorageNotReplaced(name) => format!("No storage process can take over from: {name}."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_aurora_has() {
        let event = |kind| Event::new(kind, "why");
        let cross = event(EventKind::StartedCrossAz("r1".to_owned()));
        assert_eq!(cross.id(), "RDS-EVENT-0073");
        assert_eq!(cross.message(), "Started cross AZ failover to DB instance: r1.");
        let json = serde_json::to_string(&cross).expect("JSON");
        assert_eq!(json, r#"{"kind":"started_cross_az","instance":"r1","reason":"why"}"#);
        assert_eq!(serde_json::from_str::<Event>(&json).expect("an event"), cross);
        let failed = event(EventKind::Failed);
        assert_eq!(serde_json::from_str::<Event>(&serde_json::to_string(&failed).expect("JSON")).ok(), Some(failed));
    }
}
