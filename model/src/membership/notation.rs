//! Steps of the membership model, told in one line each.

use super::{Action, MembershipModel, Message, World, properties};
use crate::checking::Checkable;
use auriga_protocol::membership::{ChangerMessage, Step};

impl Checkable for MembershipModel {
    fn line(&self, _: &World, action: &Action) -> String {
        let epochs = |step: &Step| format!("{}→{}", step.before.membership_epoch, step.next.membership_epoch);
        match action {
            Action::Request => String::from("the changer is asked"),
            Action::Submit => String::from("the writer writes the next LSN"),
            Action::Deliver(message) => match &**message {
                Message::Change(to, ChangerMessage::Install(step), _) => {
                    format!("changer → {to} Install {}", epochs(step))
                }
                Message::Change(to, ChangerMessage::Hydrate(m), _) => {
                    format!("changer → {to} Hydrate {}", m.membership_epoch)
                }
                Message::Change(from, message, _) => format!("{from} → changer {message:?}"),
                Message::Write(to, lsn, epoch) => format!("writer@{epoch} → {to} Write {}", lsn + 1),
                Message::Acknowledge(from, lsn) => format!("{from} → writer Acknowledge {}", lsn + 1),
                Message::Refused(step) => format!("a member → writer Refused: {} is known", epochs(step)),
            },
            Action::Hydrate(member, from) => format!("{member} hydrates from {from:?}"),
            Action::Fsync(member) => format!("{member} fsync"),
            Action::FsyncChanger => String::from("changer fsync"),
            Action::Crash(member, keep) => format!("{member} crashes, keeps {keep} of what was pending"),
            Action::CrashChanger(keep) => format!("the changer crashes, keeps {keep} of what was pending"),
        }
    }

    fn last_word(&self, world: &World) -> String {
        properties::last_word(self, world)
    }
}
