//! Being asked to stop: SIGINT, SIGTERM and SIGHUP, as messages.

use nix::sys::signal::{SigSet, Signal};
use std::io;

/// Calls `stop` on a thread of its own for each signal that asks us to stop. To be called before any other thread
/// exists: they inherit the mask, so that the signals reach this one only. (Children get an empty mask again.)
///
/// # Errors
/// Returns the operating system's error.
pub fn on_stop(mut stop: impl FnMut() + Send + 'static) -> io::Result<()> {
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        while signals.wait().is_ok() {
            stop();
        }
    })?;
    Ok(())
}
