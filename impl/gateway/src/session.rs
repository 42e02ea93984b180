//! One connection of a client.

use crate::endpoints::{Endpoint, Places};
use crate::topology::Topology;
use crate::wire::{ADMIN_SHUTDOWN, Boundaries, CANNOT_CONNECT_NOW, First, STARTUP_BYTES_MAX, fatal, first};
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a connection to an instance may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// The pause before the next attempt, where the last one failed.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// How long one who is turned away may take to send its first messages, and to read why.
const FAREWELL_LIMIT: Duration = Duration::from_secs(5);
/// Bytes that are copied at one time.
const CHUNK: usize = 16 << 10;
/// What a client is told whose writer was replaced.
const REPLACED: &str =
    "another instance is the writer now: connect again; whether what was not answered is committed is not known";
/// A peer that is gone is noticed after about twice this long.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Serves a client to its end.
///
/// # Errors
/// A connection broke.
pub async fn serve(
    client: TcpStream,
    endpoint: Endpoint,
    places: &Places,
    mut topology: watch::Receiver<Topology>,
    wait: Duration,
) -> io::Result<()> {
    prepare(&client)?;
    let Some((server, address)) = reach(endpoint, places, &mut topology, wait).await else {
        return turn_away(client, CANNOT_CONNECT_NOW, endpoint.nobody()).await;
    };
    prepare(&server)?;
    let _counted = places.count(address);
    match endpoint {
        Endpoint::Reader => copy(client, server, std::future::pending()).await,
        Endpoint::Writer => {
            let replaced = async {
                // The sender lives as long as the process.
                let _ = topology.wait_for(|topology| topology.has_replaced(address)).await;
            };
            copy(client, server, replaced).await
        }
    }
}

/// Connects to an instance; `None`: none could be reached in time.
pub(crate) async fn reach(
    endpoint: Endpoint,
    places: &Places,
    topology: &mut watch::Receiver<Topology>,
    wait: Duration,
) -> Option<(TcpStream, SocketAddr)> {
    let deadline = Instant::now() + wait;
    let mut failed = Vec::new();
    loop {
        let now = topology.borrow_and_update().clone();
        let pause = match places.choose(endpoint, &now, &failed) {
            None => {
                failed.clear();
                deadline
            }
            Some(address) => match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
                // It may have been replaced meanwhile.
                Ok(Ok(_)) if endpoint == Endpoint::Writer && topology.borrow().writer != Some(address) => {
                    Instant::now()
                }
                Ok(Ok(server)) => return Some((server, address)),
                Ok(Err(_)) | Err(_) => {
                    failed.push(address);
                    Instant::now() + RETRY_PAUSE
                }
            },
        };
        if Instant::now() >= deadline {
            return None;
        }
        tokio::select! {
            () = sleep_until(pause.min(deadline)) => {}
            changed = topology.changed() => {
                // Nobody watches any more: the process ends.
                changed.ok()?;
            }
        }
    }
}

/// Tells a client why it is not served, where it can understand that.
///
/// # Errors
/// It is gone, or sends something else.
pub async fn turn_away(mut client: TcpStream, sqlstate: &str, text: &str) -> io::Result<()> {
    let telling = async {
        // It may ask for both kinds of encryption first.
        for _ in 0..3 {
            let mut head = [0; 8];
            client.read_exact(&mut head).await?;
            match first(head) {
                First::Encryption => client.write_all(b"N").await?,
                First::StartUp(length) => {
                    let mut rest = vec![0; length.min(STARTUP_BYTES_MAX) - head.len()];
                    client.read_exact(&mut rest).await?;
                    client.write_all(&fatal(sqlstate, text)).await?;
                    client.shutdown().await?;
                    // It reads, and closes: a socket that is closed first may take back what it has sent.
                    while client.read(&mut head).await? > 0 {}
                    return Ok(());
                }
                First::Cancel | First::Nonsense => return Ok(()),
            }
        }
        Ok(())
    };
    timeout(FAREWELL_LIMIT, telling).await.unwrap_or(Ok(()))
}

/// Copies both ways until both have ended, or `ended` says that the server is the wrong one. Then the client is told, where it
/// is known to be between two messages; otherwise its connection is closed.
async fn copy(client: TcpStream, server: TcpStream, ended: impl Future<Output = ()>) -> io::Result<()> {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let boundaries = Mutex::new(Boundaries::default());
    let up = one_way(from_client, to_server, |bytes| lock(&boundaries).client_sent(bytes));
    let down = down(from_server, to_client, &boundaries, ended);
    tokio::try_join!(up, down).map(drop)
}

/// Copies what the server sends. The error that ends both directions may be that the server was replaced.
async fn down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    boundaries: &Mutex<Boundaries>,
    ended: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut ended = std::pin::pin!(ended);
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read?,
            () = &mut ended => break,
        };
        if read == 0 {
            return to.shutdown().await;
        }
        lock(boundaries).server_sent(&buffer[..read]);
        tokio::select! {
            biased;
            written = to.write_all(&buffer[..read]) => written?,
            // Perhaps within a message: there is no place for another one.
            () = &mut ended => return Err(replaced()),
        }
    }
    if lock(boundaries).is_between_messages() {
        let _ = timeout(FAREWELL_LIMIT, to.write_all(&fatal(ADMIN_SHUTDOWN, REPLACED))).await;
        let _ = to.shutdown().await;
    }
    Err(replaced())
}

fn replaced() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, REPLACED)
}

fn lock(boundaries: &Mutex<Boundaries>) -> MutexGuard<'_, Boundaries> {
    boundaries.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, note: impl Fn(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            // The other direction goes on: PostgreSQL may still answer.
            return to.shutdown().await;
        }
        note(&buffer[..read]);
        to.write_all(&buffer[..read]).await?;
    }
}

pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
