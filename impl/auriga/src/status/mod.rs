//! `auriga status`: who is where, how far, and what it costs.
//!
//! [`gather`] asks every storage process and instance for its numbers; [`table`] shows them.

pub mod gather;
pub mod table;

use auriga_admin::terminal;
use gather::{Report, Where};
use std::io::{ErrorKind, Write};
use std::time::Duration;

/// Between two looks; rates are over this time.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows the status once, or until interrupted. Returns whether anyone has answered.
///
/// # Errors
/// The demo can't be asked, or the output can't be written.
pub fn run(place: &Where, watch: bool, json: bool) -> Result<bool, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut before: Option<Report> = None;
    loop {
        let mut now = runtime.block_on(gather::gather(place))?;
        if let Some(before) = &before {
            now.compare_with(before);
        }
        // The first look knows no rates.
        let show = before.is_some();
        if show {
            let text = match json {
                true => serde_json::to_string(&now)?,
                false => table::render(&now, terminal::width()),
            };
            let clear = if watch && !json { "\x1b[H\x1b[2J" } else { "" };
            let mut out = std::io::stdout().lock();
            let written = writeln!(out, "{clear}{text}").and_then(|()| out.flush());
            match written {
                // The reader (`head`, say) has seen enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(now.is_answered()),
                written => written?,
            }
            if !watch {
                return Ok(now.is_answered());
            }
        }
        before = Some(now);
        std::thread::sleep(INTERVAL);
    }
}
