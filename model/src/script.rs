//! Counterexamples as scripts: the same commands as those of `conformance/scripts/`, so that what the model found can be
//! replayed on the bench, and become a golden script.
//!
//! The model's steps are coarser than the bench's: a step delivers answers at once, and disks that lose nothing are
//! prompt (`reductions.rs`). So a script is not translated from the steps: each is carried out once more, and whatever
//! happens to any machine is written down as it happens. What the bench has in flight beyond what the model still has
//! (spent messages, repetitions) is never delivered.
//!
//! What the commands mean: `conformance/src/script/command.rs`.

use crate::volume::Volume;
use auriga_protocol::Defect;

impl Volume {
    /// The commands that lead to the initial states.
    pub(crate) fn script_head(&self) -> Vec<String> {
        let scale = &self.scale;
        let members: usize = scale.zones.iter().map(Vec::len).sum();
        let planted = Defect::ALL.iter().filter(|defect| scale.defects.has(**defect)).map(|defect| defect.slug());
        let planted = planted.collect::<Vec<_>>().join(",");
        let planted = if planted.is_empty() { planted } else { format!(" defects={planted}") };
        let quorum = format!("members={members} write={} read={}", scale.write, scale.read);
        let linger = if scale.lingers { " linger=yes" } else { "" };
        let mut script =
            vec![format!("cluster {} {quorum} lal={}{linger}{planted}", scale.groups, scale.allocation_limit)];
        script.push(String::from("start w1"));
        if scale.begins_open {
            script.push(String::from("run"));
        }
        script
    }
}

/// A script as the text of a file.
pub fn render(title: &str, commands: &[String]) -> String {
    let line = |command: &String| format!("> {command}\n");
    format!("# {title}\n\n") + &commands.iter().map(line).collect::<String>()
}
