//! An instance whose role may change: a reader, until it is promoted; the writer, until it is demoted or fenced.
//!
//! ```text
//!   reader ──── promoted: the volume was opened ────► writer
//!     ▲                                                 │
//!     └──────────── fenced, demoted, failed ◄───────────┘
//! ```
//!
//! It never becomes the writer without being told, so one that comes back after its successor has taken over is a reader.
//! The volume is opened on a thread of its own while the reader goes on: a promotion that finds no quorum disturbs nobody.

use super::env::Env;
use super::opening::{self, Opened};
use super::reader::{self, ReaderNodeConfig};
use super::writer::{self, Machine};
use super::{InstanceRole, NodeConfig, NodeError, Turn, io_error, standby};
use crate::health::Phase;
use crate::supervise::{Ended, Event};
use auriga_volume::RemoteVolume;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

/// How long a promotion may wait for a quorum of storage. Whoever asks may ask again.
const PROMOTION_LIMIT: Duration = Duration::from_secs(20);

/// Runs an instance of either role until it is told to stop (through `receiver`). To be called on the main thread, in a private
/// mount namespace.
///
/// # Errors
/// Something is missing, it isn't clear which volume is meant, or it fails again and again as a reader.
pub fn run(config: &NodeConfig, as_reader: &ReaderNodeConfig, receiver: Receiver<Event>) -> Result<Ended, NodeError> {
    let machine = Machine::look(config)?;
    standby::check(&as_reader.standby)?;
    let postgres = SocketAddr::new(config.listen, config.port);
    let role = (InstanceRole::Reader, true);
    let sql = config.reports();
    let env = Env::start(&config.about, &config.volume, postgres, config.cache_bytes, role, receiver, sql)?;
    let env = Arc::new(env);
    if config.is_regions {
        super::region::watch(&env, config.volume.clone(), config.identity);
    }
    let promoter = {
        let (config, env) = (config.clone(), env.clone());
        std::thread::Builder::new().name("promoting".to_owned()).spawn(move || promote(&config, &env))
    };
    let promoter = promoter.map_err(io_error("starting a thread"))?;
    loop {
        reader::live(as_reader, &env)?;
        let Some(volume) = env.roles.take_opened() else { break };
        if let Some(ended) = write(config, &env, &machine, &volume)? {
            return Ok(ended);
        }
    }
    let _ = promoter.join();
    tracing::info!("the instance has ended");
    Ok(Ended::Stopped)
}

/// Opens the volume whenever a promotion is asked for, as long as the process lives.
fn promote(config: &NodeConfig, env: &Env) {
    while env.roles.next_promotion().is_some() {
        match opening::open(config, env, PROMOTION_LIMIT) {
            Ok(Opened::Volume(volume)) => {
                let reader = env.shown.parts().reader.clone();
                env.roles.hand_over(volume);
                // The standby's processes can't end while they wait for pages, and their writer is gone.
                reader.iter().for_each(|reader| reader.close());
            }
            Ok(Opened::Not(Ended::Fenced(by))) => {
                env.roles.settle(Err(format!("another instance has taken over meanwhile, in volume epoch {by}")));
            }
            Ok(Opened::Not(_)) => env.roles.settle(Err("this instance is stopping".to_owned())),
            Err(error) => env.roles.settle(Err(error.to_string())),
        }
    }
    env.roles.settle(Err("this instance is stopping".to_owned()));
}

/// Writes, until another instance does, or until it is to end or to be a reader: `None`, for the latter.
fn write(
    config: &NodeConfig,
    env: &Arc<Env>,
    machine: &Machine,
    volume: &Arc<RemoteVolume>,
) -> Result<Option<Ended>, NodeError> {
    let epoch = volume.status().writer.volume_epoch;
    let (roles, health) = (&env.roles, &env.shown.health);
    health.set_phase(Phase::Recovering);
    roles.becomes(InstanceRole::Switching, Some(epoch), "promoted: the volume is open");
    let ready = roles.clone();
    health.when_ready(move || {
        ready.becomes(InstanceRole::Writer, Some(epoch), "promoted: PostgreSQL is ready");
        ready.settle(Ok(()));
    });
    let ended = writer::live(config, env, machine, volume);
    health.never_mind();
    let (why, by) = match &ended {
        // PostgreSQL does not stay up. Another instance, or a person, must look.
        Ok(Ended::GaveUp | Ended::Crashed) => return Ok(Some(Ended::GaveUp)),
        Ok(Ended::Stopped) if roles.is_stopping() => return Ok(Some(Ended::Stopped)),
        Ok(Ended::Stopped) => ("demoted".to_owned(), Some(epoch)),
        Ok(Ended::Fenced(by)) => ("fenced: another instance has taken over".to_owned(), Some(*by)),
        Err(error) => (error.to_string(), Some(epoch)),
    };
    if let Err(error) = &ended {
        tracing::error!(%error, "this instance can't write: it becomes a reader");
    }
    health.set_phase(Phase::Connecting);
    roles.becomes(InstanceRole::Reader, by, &why);
    // Fenced or not, one that was to be demoted is a reader now.
    roles.settle(if roles.turn() == Some(Turn::Demote) { Ok(()) } else { Err(why) });
    Ok(None)
}
