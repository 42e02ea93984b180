//! What a bench prints: one line for each thing that happened, and where every node stands.

use super::bench::Bench;
use super::word::Word;
use crate::notation::{self, Names};
use auriga_protocol::segment::Segment;
use auriga_protocol::writer::Answer;
use auriga_protocol::{Token, WriterId};

impl Bench {
    pub(super) fn answer(&mut self, id: WriterId, token: Token, answer: Answer<Word>) {
        let asked = self.asked.remove(&token);
        let page = asked.map(|asked| format!("{:?} ", asked.page)).unwrap_or_default();
        if let (Some(asked), Answer::Page { read_point, version, page }) = (asked, &answer) {
            self.judge_page(asked, *read_point, (*version, page));
        }
        self.shown.push(match answer {
            Answer::Submitted(cpl) => format!("{id} submitted {cpl}"),
            Answer::NotSubmitted(why) => format!("{id} not submitted: {why:?}"),
            Answer::Page { read_point, version, page: content } => {
                format!("{id} page {page}at={read_point} version={version} {content:?}")
            }
            Answer::Published => format!("{id} published"),
            Answer::Replacing { new } => format!("{id} replacing by {new}"),
            Answer::Undoing => format!("{id} undoing"),
            Answer::NotReplaced(why) => format!("{id} not replaced: {why:?}"),
            Answer::NotRead(why) => format!("{id} not read: {why:?}"),
        });
    }

    pub(super) fn show(&mut self, line: impl FnOnce(Names) -> String) {
        if !self.brief {
            self.shown.push(line(self.names));
        }
    }

    pub(super) fn show_members(&mut self) {
        for (id, (machine, _)) in &self.segments {
            let known = machine.as_ref().map(|machine| notation::step(machine.membership_step()));
            self.shown.push(format!("{} {}", self.names.segment(*id), known.unwrap_or("down".into())));
        }
        for (id, writer) in &self.writers {
            let known: Vec<_> = writer.memberships().map(|(_, step)| notation::step(step)).collect();
            self.shown.push(format!("{id} {}", known.join(", ")));
        }
    }

    pub(super) fn show_all(&mut self) {
        for (id, (machine, _)) in &self.segments {
            let name = self.names.segment(*id);
            self.shown.push(match machine.as_ref().map(Segment::status) {
                None => format!("{name} down"),
                Some(it) => {
                    let flags = [
                        (it.hydrating, " hydrating"),
                        (it.rejoining, " rejoining"),
                        (it.unregistered, " unregistered"),
                        (it.disk_full, " full"),
                        (it.retired, " retired"),
                    ];
                    let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag).collect();
                    let (promised, installed, scl, vdl, floor) = (it.promised, it.installed, it.scl, it.vdl, it.floor);
                    format!("{name} promised={promised} installed={installed} scl={scl} vdl={vdl} floor={floor}{flags}")
                }
            });
        }
        for (id, machine) in &self.writers {
            let (role, epoch) = (machine.role(), machine.volume_epoch());
            let (vdl, vcl, allocated) = (machine.vdl(), machine.vcl(), machine.allocated());
            self.shown.push(format!("{id}@{epoch} {role:?} vdl={vdl} vcl={vcl} allocated={allocated}"));
        }
    }
}
