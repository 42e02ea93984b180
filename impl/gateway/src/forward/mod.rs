//! Write forwarding: sessions read from a reader of their region, and what they write is done by the writer, wherever it is.
//!
//! **How a statement gets to its server.** PostgreSQL decides. What begins with `INSERT`, `UPDATE`, `DELETE` or `MERGE` goes to
//! the writer; everything else to the reader first, which refuses what writes (SQLSTATE 25006) and says which command it was.
//! Then the writer does it, before the client has seen anything. After the first such statement a transaction goes on at the
//! writer.
//!
//! **What it never does.** It runs no statement twice: the reader has refused it, or has only read. It sends nothing to an
//! instance that it knows not to be the newest writer, or where two say that they are. In the modes `session` and `global` it
//! lets no read begin before the reader shows what the mode promises; it gives the read up instead, with an error.
//!
//! **Where to go next.** [`start`] (a session begins), [`session`] (which server does what), [`relay`] (one unit, done by one
//! server), [`writing`], [`waiting`], [`words`] (what is seen of a statement), [`journal`] (what the other server must be told),
//! [`writers`], [`board`], [`shared`], [`settings`], and the protocol: [`pipe`], [`messages`], [`mod@unit`], [`server`],
//! [`login`], [`scram`].

pub mod board;
pub mod journal;
pub mod login;
pub mod messages;
pub mod pipe;
pub mod relay;
pub mod scram;
pub mod server;
pub mod session;
pub mod settings;
pub mod shared;
pub mod start;
pub mod unit;
pub mod waiting;
pub mod words;
pub mod writers;
pub mod writing;

use crate::endpoints::{Places, accept};
use crate::topology::Topology;
use shared::Shared;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::time::sleep;

/// How often what has happened is logged.
const SHOW_EVERY: Duration = Duration::from_secs(10);

/// Serves a forwarding endpoint until the future is dropped, which ends every session. `free` is shared by all endpoints.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    topology: watch::Receiver<Topology>,
    free: Arc<Semaphore>,
    wait: Duration,
) {
    let places = Arc::new(Places::default());
    let accepting = accept(listener, free, |client, from| {
        let (topology, places, shared) = (topology.clone(), places.clone(), shared.clone());
        async move {
            if let Err(error) = start::serve(client, &shared, &places, topology, wait).await {
                tracing::debug!(%from, %error, "a forwarding session has ended");
            }
        }
    });
    tokio::join!(accepting, show(&shared));
}

/// Logs what has happened, now and then.
async fn show(shared: &Shared) {
    let mut last = shared.counted.shown();
    loop {
        sleep(SHOW_EVERY).await;
        let now = shared.counted.shown();
        if now != last {
            let [open, connections, statements, turned_away, waits, waited_us] = now;
            tracing::info!(
                AuroraForwardingReplicaOpenSessions = open,
                AuroraForwardingReplicaDMLThroughput = statements - last[2],
                AuroraForwardingReplicaErrorSessionsLimit = turned_away,
                waits = waits - last[4],
                waited_us = waited_us - last[5],
                connections,
                statements,
                "FORWARDING"
            );
            last = now;
        }
    }
}
