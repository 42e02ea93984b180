//! The instance's admin port: one line of JSON asks, one line answers.
//!
//! No authentication, as it shows nothing secret and can do no harm beyond a cold cache: keep it on a private address.

use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Longest line that is read.
const LINE_MAX: u64 = 1 << 20;
/// Connections served at one time; further ones are closed at once.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What an instance is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// How are you?
    Status,
    /// Forget every page that the mount has cached and that is durable.
    DropCaches,
}

/// Serves questions on `listener`, on threads of its own, as long as the process lives.
///
/// # Errors
/// The thread can't be started.
pub fn serve<A: Serialize>(
    listener: TcpListener,
    answer: impl Fn(Question) -> A + Send + Sync + 'static,
) -> io::Result<()> {
    let answer = Arc::new(answer);
    let open = Arc::new(AtomicUsize::new(0));
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            if open.load(Ordering::SeqCst) >= CONNECTIONS_MAX {
                tracing::warn!(CONNECTIONS_MAX, "too many admin connections: closing one");
                continue;
            }
            let (answer, open) = (answer.clone(), open.clone());
            open.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                if let Err(error) = converse(&stream, &*answer) {
                    tracing::debug!(%error, "an admin connection was closed");
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    })?;
    Ok(())
}

fn converse<A: Serialize>(stream: &TcpStream, answer: &impl Fn(Question) -> A) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.by_ref().take(LINE_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        write_line(stream, &answer(serde_json::from_str(&line)?))?;
    }
}

/// Asks the instance whose admin port is `address`.
///
/// # Errors
/// It isn't there, does not answer within `patience`, or says something else.
pub fn ask<A: serde::de::DeserializeOwned>(
    address: SocketAddr,
    question: Question,
    patience: Duration,
) -> io::Result<A> {
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write_line(&stream, &question)?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_MAX)).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn write_line(mut stream: &TcpStream, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_string(value)?;
    line.push('\n');
    stream.write_all(line.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        serve(listener, |question| format!("{question:?}")).unwrap();
        address
    }

    #[test]
    fn questions_are_answered_and_rubbish_closes_only_its_own_connection() {
        let address = served();
        let mut rubbish = TcpStream::connect(address).unwrap();
        rubbish.write_all(b"what?\n").unwrap();
        assert_eq!(rubbish.read(&mut [0; 8]).unwrap(), 0, "closed");
        let answer: String = ask(address, Question::Status, Duration::from_secs(5)).unwrap();
        assert_eq!(answer, "Status");
    }

    #[test]
    fn connections_beyond_the_limit_are_closed() {
        let address = served();
        let silent: Vec<TcpStream> = (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(address).unwrap()).collect();
        // Connections are accepted in order, so this one comes when all of those are open.
        let mut one_more = TcpStream::connect(address).unwrap();
        one_more.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(matches!(one_more.read(&mut [0; 8]), Ok(0) | Err(_)), "closed");
        drop(silent);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while ask::<String>(address, Question::Status, Duration::from_secs(1)).is_err() {
            assert!(std::time::Instant::now() < deadline, "never served again");
        }
    }
}
