//! The network between regions: a small relay at each region's end, which is late, has a bound, and can be cut.
//!
//! ```text
//!   region 1's process ──► 127.0.1.52 ══ late by half a round trip, cut or not ══► region 2's process
//! ```
//!
//! What is on its way when a line is cut waits, as TCP has it, and goes on when the line is healed.

use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Most bytes in one piece.
const PIECE_MAX: usize = 64 << 10;
/// Pieces on their way in one direction of one connection. Beyond it the sender waits.
const PIECES_MAX: usize = 256;
/// Connections of one wire. A further one waits.
const CONNECTIONS_MAX: usize = 64;
/// How long the other end may take to accept.
const DIAL_LIMIT: Duration = Duration::from_secs(2);

/// How a network between regions begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WanOptions {
    /// A round trip, in milliseconds.
    pub round_trip_ms: u32,
    /// Megabits per second of each line, in each direction.
    pub megabits: u32,
}

/// One line, as people see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LineShown {
    /// The two regions; the first one has the lower number.
    pub between: (u16, u16),
    /// Whether nothing gets through.
    pub is_cut: bool,
    /// A round trip, in milliseconds.
    pub round_trip_ms: u32,
    /// Bytes from the first to the second.
    pub there: u64,
    /// Bytes from the second to the first.
    pub back: u64,
}

/// The lines between all regions.
pub struct Wan {
    lines: Vec<Arc<Line>>,
}

/// What two regions have between them.
struct Line {
    between: (u16, u16),
    is_cut: watch::Sender<bool>,
    round_trip_ms: AtomicU32,
    bytes_per_s: u64,
    /// From the first region to the second, and back.
    ways: [Way; 2],
}

struct Way {
    bytes: AtomicU64,
    /// When the last byte so far has left.
    busy_until: Mutex<Instant>,
}

impl Wan {
    /// Lays lines between `regions`, and wires to them: `wires` says where a region reaches what of another one, and where that
    /// listens.
    ///
    /// # Errors
    /// An address can't be listened on.
    pub fn lay(
        handle: &Handle,
        regions: u16,
        options: WanOptions,
        wires: impl Fn(u16, u16) -> Vec<(SocketAddr, SocketAddr)>,
    ) -> io::Result<Wan> {
        let mut lines = Vec::new();
        for first in 1..=regions {
            for second in first + 1..=regions {
                let line = Arc::new(Line::new((first, second), options));
                for (from, to, way) in [(first, second, 0), (second, first, 1)] {
                    for (wire, process) in wires(from, to) {
                        let listener = handle.block_on(TcpListener::bind(wire));
                        let listener =
                            listener.map_err(|error| io::Error::new(error.kind(), format!("{wire}: {error}")))?;
                        handle.spawn(accept(listener, process, line.clone(), way));
                    }
                }
                lines.push(line);
            }
        }
        Ok(Wan { lines })
    }

    /// Cuts or heals every line that `is_meant` says yes to. Returns the lines that this changes.
    pub fn set_cut(&self, is_cut: bool, is_meant: impl Fn((u16, u16)) -> bool) -> Vec<(u16, u16)> {
        let meant = self.lines.iter().filter(|line| is_meant(line.between));
        let changed = meant.filter(|line| line.is_cut.send_replace(is_cut) != is_cut);
        changed.map(|line| line.between).collect()
    }

    /// Sets the round trip of every line that `is_meant` says yes to. Returns those lines.
    pub fn set_round_trip(&self, ms: u32, is_meant: impl Fn((u16, u16)) -> bool) -> Vec<(u16, u16)> {
        let meant = self.lines.iter().filter(|line| is_meant(line.between));
        meant.inspect(|line| line.round_trip_ms.store(ms, Relaxed)).map(|line| line.between).collect()
    }

    /// Every line as people see it.
    pub fn shown(&self) -> Vec<LineShown> {
        let shown = |line: &Arc<Line>| LineShown {
            between: line.between,
            is_cut: *line.is_cut.borrow(),
            round_trip_ms: line.round_trip_ms.load(Relaxed),
            there: line.ways[0].bytes.load(Relaxed),
            back: line.ways[1].bytes.load(Relaxed),
        };
        self.lines.iter().map(shown).collect()
    }

    /// Bytes that one region has sent to another one so far.
    pub fn bytes(&self, from: u16, to: u16) -> u64 {
        let line = self.lines.iter().find(|line| line.between == (from.min(to), from.max(to)));
        line.map_or(0, |line| line.ways[usize::from(from > to)].bytes.load(Relaxed))
    }
}

impl Line {
    fn new(between: (u16, u16), options: WanOptions) -> Line {
        let way = || Way { bytes: AtomicU64::new(0), busy_until: Mutex::new(Instant::now()) };
        Line {
            between,
            is_cut: watch::channel(false).0,
            round_trip_ms: AtomicU32::new(options.round_trip_ms),
            bytes_per_s: u64::from(options.megabits.max(1)) * 1_000_000 / 8,
            ways: [way(), way()],
        }
    }

    /// Waits until the line is whole.
    async fn whole(&self) {
        // The sender lives as long as the line.
        let _ = self.is_cut.subscribe().wait_for(|is_cut| !is_cut).await;
    }

    /// Takes bytes; answers when they arrive.
    fn take(&self, way: usize, bytes: usize) -> Instant {
        let way = &self.ways[way];
        way.bytes.fetch_add(bytes as u64, Relaxed);
        let mut busy_until = way.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let lasts = Duration::from_micros(bytes as u64 * 1_000_000 / self.bytes_per_s);
        *busy_until = (*busy_until).max(Instant::now()) + lasts;
        *busy_until + Duration::from_millis(self.round_trip_ms.load(Relaxed).into()) / 2
    }
}

/// Takes one connection after the other, each to `process`; what is sent there goes the way `way`.
async fn accept(listener: TcpListener, process: SocketAddr, line: Arc<Line>, way: usize) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // It is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let near = match listener.accept().await {
            Ok((near, _)) => near,
            Err(error) => {
                tracing::warn!(%error, "a wire between regions");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let line = line.clone();
        tokio::spawn(async move {
            if let Err(error) = relay(near, process, &line, way).await {
                tracing::debug!(%error, between = ?line.between, "a connection between regions has ended");
            }
            drop(place);
        });
    }
}

/// Carries one connection, until either side ends it.
async fn relay(near: TcpStream, process: SocketAddr, line: &Line, way: usize) -> io::Result<()> {
    line.whole().await;
    let far = tokio::time::timeout(DIAL_LIMIT, TcpStream::connect(process)).await;
    let far = far.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::select! {
        ended = carry(near_in, far_out, line, way) => ended,
        ended = carry(far_in, near_out, line, 1 - way) => ended,
    }
}

/// Carries one direction of a connection.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, line: &Line, way: usize) -> io::Result<()> {
    let (sender, mut pieces) = mpsc::channel::<(Vec<u8>, Instant)>(PIECES_MAX);
    let takes = async move {
        let mut buffer = vec![0; PIECE_MAX];
        loop {
            let n = from.read(&mut buffer).await?;
            if n == 0 {
                return io::Result::Ok(());
            }
            line.whole().await;
            // Nobody takes it any more where the other side has ended.
            let _ = sender.send((buffer[..n].to_vec(), line.take(way, n))).await;
        }
    };
    let gives = async move {
        while let Some((piece, at)) = pieces.recv().await {
            sleep_until(at).await;
            line.whole().await;
            to.write_all(&piece).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(takes, gives).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGIONS: [&str; 2] = ["127.0.142.1:7405", "127.0.142.2:7405"];
    const WIRES: [&str; 2] = ["127.0.142.51:7405", "127.0.142.52:7405"];

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_line_is_late_and_can_be_cut_and_healed() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let options = WanOptions { round_trip_ms: 100, megabits: 1000 };
        let wire = |from: u16, _| address(WIRES[usize::from(from) - 1]);
        let process = |to: u16| address(REGIONS[usize::from(to) - 1]);
        let wires = |from, to| vec![(wire(from, to), process(to))];
        let wan = Wan::lay(runtime.handle(), 2, options, wires).expect("lines");
        runtime.block_on(async {
            let echo = TcpListener::bind(process(2)).await.expect("a listener");
            tokio::spawn(async move {
                let (stream, _) = echo.accept().await.expect("a connection");
                let (mut from, mut to) = stream.into_split();
                tokio::io::copy(&mut from, &mut to).await.expect("copied");
            });
            let begun = Instant::now();
            let mut stream = TcpStream::connect(wire(1, 2)).await.expect("connected");
            let mut answer = [0; 5];
            stream.write_all(b"hello").await.expect("written");
            stream.read_exact(&mut answer).await.expect("read");
            assert_eq!(&answer, b"hello");
            assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());

            assert_eq!(wan.set_cut(true, |_| true), [(1, 2)]);
            assert_eq!(wan.set_cut(true, |_| true), [], "it is cut already");
            stream.write_all(b"again").await.expect("written");
            let early = tokio::time::timeout(Duration::from_millis(400), stream.read_exact(&mut answer)).await;
            assert!(early.is_err(), "nothing gets through");
            assert_eq!(wan.set_cut(false, |between| between == (1, 2)), [(1, 2)]);
            stream.read_exact(&mut answer).await.expect("read");
            assert_eq!(&answer, b"again");
        });
        assert_eq!((wan.bytes(1, 2), wan.bytes(2, 1)), (10, 10));
        assert_eq!(wan.shown().len(), 1);
    }
}
