//! The processes that watch over a cluster, a controller and a gateway, and what people ask a controller.

use crate::{log, signals};
use auriga_admin::config;
use auriga_admin::storage::cluster_id;
use auriga_control::client;
use auriga_control::config::ControlConfig;
use auriga_control::driver::Control;
use auriga_control::serve::router;
use auriga_control::store::StoredEvent;
use auriga_gateway::config::GatewayConfig;
use auriga_net::admin::Access;
use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{Receiver, channel};

type Failure = Box<dyn Error>;

/// A controller, and what is needed to ask it.
pub struct Asked {
    address: SocketAddr,
    access: Access,
}

/// Runs a controller.
///
/// # Errors
/// Its store can't be used, or it can't listen.
pub fn control(config: ControlConfig) -> Result<ExitCode, Failure> {
    let mut stop = begin()?;
    let credentials = config.credentials()?;
    let access = Access { cluster: cluster_id(&config.cluster), credentials: credentials.clone() };
    let listen = config.listen;
    let control = Control::open(config, access)?;
    runtime()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| format!("listening on {listen}: {error}"))?;
        let port = auriga_http::serve(listener, credentials, auriga_http::Limits::default(), router(control.clone()));
        tokio::select! {
            () = control.run() => {}
            () = port => {}
            _ = stop.recv() => tracing::info!("stopped"),
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs a gateway.
///
/// # Errors
/// It can't listen.
pub fn gateway(config: &GatewayConfig) -> Result<ExitCode, Failure> {
    let mut stop = begin()?;
    let access = Access { cluster: cluster_id(&config.cluster), credentials: config.credentials()? };
    runtime()?.block_on(async {
        tokio::select! {
            ended = auriga_gateway::run::run(config, access) => ended?,
            _ = stop.recv() => tracing::info!("stopped"),
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn begin() -> std::io::Result<Receiver<()>> {
    log::to_stderr();
    let (sender, asked) = channel(1);
    signals::on_stop(move || {
        let _ = sender.try_send(());
    })?;
    Ok(asked)
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// The controller that a configuration file is of, or that of a running demo.
///
/// # Errors
/// There is none.
pub fn find(file: Option<&Path>, dir: Option<PathBuf>) -> Result<Asked, Failure> {
    match file {
        Some(file) => {
            let config: ControlConfig = config::read(file)?;
            let access = Access { cluster: cluster_id(&config.cluster), credentials: config.credentials()? };
            Ok(Asked { address: config.listen, access })
        }
        None => of_demo(dir),
    }
}

#[cfg(feature = "rehearsal")]
fn of_demo(dir: Option<PathBuf>) -> Result<Asked, Failure> {
    use auriga_rehearsal::demo::control::{self, Ask, Reply};
    match control::ask(&auriga_rehearsal::cli::find_demo(dir)?, &Ask::Describe)? {
        Reply::Described { layout, .. } if layout.watched => {
            Ok(Asked { address: layout.control_address(), access: layout.access()? })
        }
        Reply::Described { .. } => {
            Err("this demo has no controller: it was started without readers, or --unwatched".into())
        }
        Reply::Regions(_) => {
            Err("this demo has several regions, each with one instance: move the role with `auriga switchover`, or \
                 `auriga failover --allow-data-loss`"
                .into())
        }
        _ => Err("the demo answered something else".into()),
    }
}

#[cfg(not(feature = "rehearsal"))]
fn of_demo(_: Option<PathBuf>) -> Result<Asked, Failure> {
    Err("this program was built without the demo: name a controller's configuration with --config".into())
}

/// Has another instance take over.
///
/// # Errors
/// It was refused, or the controller does not answer.
pub fn failover(asked: &Asked, to: Option<&str>) -> Result<ExitCode, Failure> {
    let shown = runtime()?.block_on(client::failover(asked.address, &asked.access, to))?;
    match shown.writer {
        Some(writer) if writer == shown.to => {
            println!("{writer} is the writer, after {} ms", shown.took_ms);
            Ok(ExitCode::SUCCESS)
        }
        writer => {
            let writer = writer.unwrap_or_else(|| "nobody".to_owned());
            println!("{} is not the writer: {writer} is; `auriga events` says more", shown.to);
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Shows the last events.
///
/// # Errors
/// The controller does not answer.
pub fn events(asked: &Asked, count: usize, json: bool) -> Result<ExitCode, Failure> {
    for event in runtime()?.block_on(client::events(asked.address, &asked.access, 0, count))? {
        match json {
            true => println!("{}", serde_json::to_string(&event)?),
            false => println!("{}", line(&event)),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(event: &StoredEvent) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(event.at_ms) * 1_000_000).ok();
    let at = at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
    let reason = if event.event.reason.is_empty() { String::new() } else { format!("  ({})", event.event.reason) };
    format!("{at}  {}  {}{reason}", event.id, event.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use auriga_control::controller::{Event, EventKind};

    #[test]
    fn an_event_is_one_line_with_its_time() {
        let event = Event { kind: EventKind::StartedCrossAz("r1".to_owned()), reason: "asked for".to_owned() };
        let (id, message) = (event.id().to_owned(), event.message());
        let stored = StoredEvent { number: 1, at_ms: 1_764_547_200_250, id, message, event };
        assert_eq!(
            line(&stored),
            "2025-12-01T00:00:00.25Z  RDS-EVENT-0073  Started cross AZ failover to DB instance: r1.  (asked for)"
        );
    }
}
