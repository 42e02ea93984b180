//! How a session begins: the client is let in by a reader, and the gateway looks on.

use super::login::{Proof, request};
use super::messages::{self, Told};
use super::pipe::{Message, Piece, Pipe};
use super::server::Server;
use super::session::{At, Ended, Session};
use super::settings::Mode;
use super::shared::{Key, Shared};
use crate::endpoints::{Endpoint, Places};
use crate::session::reach;
use crate::topology::Topology;
use crate::wire::{First, first};
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How long a client may take until it is let in.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);
/// Asks what a session's mode is.
pub const MODE: &[u8] = b"SELECT pg_catalog.current_setting('apg_write_forward.consistency_mode', true)";

/// What a client that has connected wants.
enum Wants {
    /// A session, by this message.
    Session(Bytes),
    /// A statement to be cancelled, by this key.
    Cancel(Bytes),
}

/// Serves a client to its end.
///
/// # Errors
/// A connection broke.
pub async fn serve(
    client: TcpStream,
    shared: &Arc<Shared>,
    places: &Places,
    topology: watch::Receiver<Topology>,
    wait: Duration,
) -> Result<(), Ended> {
    crate::session::prepare(&client).map_err(Ended::Client)?;
    let mut client = Pipe::new(client);
    let wants = timeout(LOGIN_LIMIT, first_message(&mut client)).await;
    let startup = match wants.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Ended::Client)? {
        Wants::Session(startup) => startup,
        Wants::Cancel(key) => {
            shared.keys.cancel(&key).await;
            return Ok(());
        }
    };
    let mut topology = topology;
    let begun = begin(client, startup, shared, &mut topology, (places, wait)).await?;
    let (mut session, address) = begun;
    let _counted = places.count(address);
    let ended = session.run().await;
    match &ended {
        Err(Ended::Told(told)) => {
            session.out.put_slice(&told.bytes());
            let _ = session.flush().await;
        }
        Err(Ended::Reader(_)) if session.out.is_empty() => {
            let told = Told::fatal("57P01", "the reader has ended the connection: connect again");
            session.out.put_slice(&told.bytes());
            let _ = session.flush().await;
        }
        Err(Ended::Reader(_)) => drop(session.flush().await),
        _ => {}
    }
    session.leave().await;
    ended
}

/// Reads what a client sends first. Encryption is refused: what it sends must be read.
async fn first_message(client: &mut Pipe) -> io::Result<Wants> {
    for _ in 0..3 {
        let head = client.head().await?;
        match first(head) {
            First::Encryption => {
                client.skip(head.len());
                client.send(b"N").await?;
            }
            First::Cancel => {
                let [a, b, c, d, ..] = head;
                let length = (u32::from_be_bytes([a, b, c, d]) as usize).clamp(8, 512);
                return Ok(Wants::Cancel(client.bytes(length).await?.slice(8..)));
            }
            First::StartUp(length) => return Ok(Wants::Session(client.bytes(length).await?)),
            First::Nonsense => break,
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// Has a reader let the client in.
async fn begin(
    mut client: Pipe,
    startup: Bytes,
    shared: &Arc<Shared>,
    topology: &mut watch::Receiver<Topology>,
    (places, wait): (&Places, Duration),
) -> Result<(Session, SocketAddr), Ended> {
    let replicates = messages::parameters(&startup).iter().any(|(name, _)| name == "replication");
    if replicates {
        return turn_away(&mut client, Told::fatal("0A000", "replication connections are not forwarded")).await;
    }
    let Some((stream, address)) = reach(Endpoint::Reader, places, topology, wait).await else {
        return turn_away(&mut client, Told::fatal("57P03", Endpoint::Reader.nobody())).await;
    };
    let mut reader = Server::new(stream, address).map_err(Ended::Reader)?;
    let key = Key::new(shared).map_err(Ended::Client)?;
    let letting_in = let_in(&mut client, &mut reader, &startup, &key);
    let (out, proof) =
        timeout(LOGIN_LIMIT, letting_in).await.unwrap_or(Err(Ended::Client(io::ErrorKind::TimedOut.into())))?;
    let asked = [
        Bytes::from_static(MODE),
        Bytes::from_static(b"SELECT pg_catalog.pg_postmaster_start_time()"),
        Bytes::from_static(b"SELECT pg_catalog.pg_is_in_recovery()"),
    ];
    let answers = reader.ask(&asked).await.map_err(Ended::Reader)?;
    let mut answers = answers.into_iter().map(|answer| answer.ok().flatten());
    let (mode, life) = (answers.next().flatten(), answers.next().flatten().unwrap_or_default());
    let reader_writes = answers.next().flatten().as_deref() == Some("f");
    let mut session = Session {
        shared: shared.clone(),
        writers: shared.writers.clone(),
        client,
        out,
        reader,
        writer: None,
        startup,
        proof,
        key,
        prepared: super::unit::Prepared::default(),
        batch: super::unit::Batch::default(),
        segment: None,
        done: Vec::new(),
        journal: super::journal::Journal::default(),
        transaction: super::journal::Transaction::default(),
        at: At::Reader,
        reader_writes,
        mode: Mode::default(),
        mode_is_stale: false,
        point: None,
        board: shared.boards.of(address, life),
        learnt: HashSet::new(),
        lost: None,
        writer_used: Instant::now(),
    };
    session.set_mode(mode);
    session.out.put_slice(&messages::ready(b'I'));
    session.flush().await?;
    Ok((session, address))
}

async fn turn_away<T>(client: &mut Pipe, told: Told) -> Result<T, Ended> {
    client.send(&told.bytes()).await.map_err(Ended::Client)?;
    Err(Ended::Told(told))
}

/// Passes on what a reader and a client say to each other until it is let in. Returns what the client is to be told with the
/// end of it, and what it has shown.
async fn let_in(
    client: &mut Pipe,
    reader: &mut Server,
    startup: &Bytes,
    key: &Key,
) -> Result<(BytesMut, Proof), Ended> {
    reader.pipe.send(startup).await.map_err(Ended::Reader)?;
    let (mut out, mut proof) = (BytesMut::new(), Proof::Nothing);
    loop {
        let Piece::Whole(message) = reader.pipe.reading().piece().await.map_err(Ended::Reader)? else { continue };
        match message.kind() {
            b'K' => {
                reader.key = message.body();
                out.put_slice(&key.message());
            }
            b'Z' => return Ok((out, proof)),
            b'R' if asks(&message) => {
                out.put_slice(&message.0);
                client.send(&out).await.map_err(Ended::Client)?;
                out.clear();
                let answer = client.message().await.map_err(Ended::Client)?;
                if answer.kind() != b'p' {
                    return Err(Ended::Client(io::ErrorKind::InvalidData.into()));
                }
                proof.shown(&message.body(), &answer.body());
                reader.pipe.send(&answer.0).await.map_err(Ended::Reader)?;
            }
            b'E' => {
                out.put_slice(&message.0);
                client.send(&out).await.map_err(Ended::Client)?;
                return Err(Ended::Reader(io::Error::other(super::server::described(&message))));
            }
            _ => {
                out.put_slice(&message.0);
            }
        }
    }
}

/// Whether the client has to answer an `AuthenticationRequest`.
fn asks(message: &Message) -> bool {
    let code = message.body().first_chunk().map(|code| u32::from_be_bytes(*code));
    !matches!(code, Some(request::OK | request::SASL_FINAL))
}
