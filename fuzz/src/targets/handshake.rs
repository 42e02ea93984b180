//! The first bytes of a connection, on either side of it.

use super::{Target, kind};
use auriga_net::ClusterId;
use auriga_net::handshake::{ConnectionRole, HandshakeError, Hello, accept, dial};
use tokio::io::{AsyncReadExt, duplex, join, sink};
use tokio::runtime::{Builder, Runtime};

/// An input is what the other side sends. The first byte says which side reads it.
pub struct Handshake(Runtime);

fn hello(name: &str, role: ConnectionRole) -> Hello {
    Hello { cluster: ClusterId(7), role, name: name.to_owned() }
}

impl Handshake {
    /// A target.
    pub fn new() -> Handshake {
        Handshake(Builder::new_current_thread().build().expect("a runtime"))
    }

    /// What a dialler and an acceptor say to each other.
    async fn sound() -> [Vec<u8>; 2] {
        let (mut near, mut far) = duplex(1 << 12);
        let own = hello("b2", ConnectionRole::Storage);
        let dialled = dial(&mut near, &own);
        let (mut said, mut answered) = (vec![0], vec![1]);
        let taken = async {
            let mut bytes = vec![0; 512];
            let length = far.read(&mut bytes).await.expect("a hello");
            said.extend_from_slice(&bytes[..length]);
            let mut out = Vec::new();
            accept(&mut join(&bytes[..length], &mut out), &hello("a1", ConnectionRole::Storage)).await.expect("sound");
            answered.extend_from_slice(&out);
            drop(far);
        };
        let _ = tokio::join!(dialled, taken);
        [said, answered]
    }
}

impl Target for Handshake {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let mut corpus = self.0.block_on(Handshake::sound()).to_vec();
        corpus.push([&[0][..], b"\x16\x03\x01\x02\x00\x01"].concat());
        corpus.push([&[1][..], b"\x15\x03\x03\x00\x02\x02\x28"].concat());
        corpus
    }

    fn run(&mut self, input: &[u8]) -> String {
        let Some((side, said)) = input.split_first() else { return "nothing".into() };
        let own = hello("a1", ConnectionRole::Storage);
        let ended = self.0.block_on(async {
            let mut stream = join(said, sink());
            if side % 2 == 0 { accept(&mut stream, &own).await } else { dial(&mut stream, &own).await }
        });
        match ended {
            Ok(theirs) => format!("{side}: {}", kind(&theirs.role)),
            Err(HandshakeError::Malformed(why)) => format!("{}: {why}", side % 2 == 0),
            Err(error) => format!("{} {}", side % 2 == 0, kind(&error)),
        }
    }
}
