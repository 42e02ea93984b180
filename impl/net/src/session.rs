//! A connection's two halves, in the clear or under TLS.
//!
//! The halves work apart: one thread writes while the connection's task reads. Under TLS they share the keys, behind a lock
//! that is held for as long as some kilobytes take to be encrypted.

use crate::tls::Certified;
use auriga_driver::lock;
use bytes::{Buf, BufMut, BytesMut};
use rustls::Connection;
use std::io::{self, BufRead, ErrorKind, Write};
use std::sync::{Arc, Mutex};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Bytes that are read from the network at one time, under TLS.
const CIPHER_BYTES: usize = 64 << 10;

/// A connection with its handshake behind it.
pub struct Session {
    tcp: TcpStream,
    tls: Option<Arc<Mutex<Connection>>>,
    certified: Option<Certified>,
}

impl Session {
    /// A connection that anybody on its way can read and change.
    pub fn plain(tcp: TcpStream) -> Session {
        Session { tcp, tls: None, certified: None }
    }

    /// A connection under TLS, with the peer that its certificate names.
    pub(crate) fn secure(tcp: TcpStream, mut tls: Connection, certified: Certified) -> Session {
        tls.set_buffer_limit(None); // What is written is taken out at once.
        Session { tcp, tls: Some(Arc::new(Mutex::new(tls))), certified: Some(certified) }
    }

    /// What the peer's certificate says; `None` in the clear.
    pub fn certified(&self) -> Option<&Certified> {
        self.certified.as_ref()
    }

    /// Takes it apart.
    pub(crate) fn into_split(self) -> (ReadHalf, WriteHalf) {
        let (reader, writer) = self.tcp.into_split();
        let tls = self.tls.clone().map(|tls| Opening { tls, cipher: BytesMut::new(), is_closed: false });
        (ReadHalf { tcp: reader, tls }, WriteHalf { tcp: writer, tls: self.tls })
    }
}

/// Reads.
pub(crate) struct ReadHalf {
    tcp: OwnedReadHalf,
    tls: Option<Opening>,
}

struct Opening {
    tls: Arc<Mutex<Connection>>,
    /// From the network, not decrypted yet.
    cipher: BytesMut,
    is_closed: bool,
}

impl ReadHalf {
    /// Appends what comes next to `buffer`; answers its size, which is 0 when nothing comes any more.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        // Not `readable` and `try_read`: only this takes a short read for what it is, the last one for now. Those ask the
        // kernel a second time after each frame.
        let Some(tls) = &mut self.tls else { return self.tcp.read_buf(buffer).await };
        loop {
            // First what the handshake has read too much.
            let opened = tls.open(buffer)?;
            if opened > 0 || tls.is_closed {
                return Ok(opened);
            }
            tls.cipher.reserve(CIPHER_BYTES);
            if self.tcp.read_buf(&mut tls.cipher).await? == 0 {
                return Ok(0);
            }
        }
    }
}

impl Opening {
    /// Decrypts what is there into `buffer`; answers how much that is.
    fn open(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let mut tls = lock(&self.tls);
        let before = buffer.len();
        take_plaintext(&mut tls, buffer)?;
        while !self.cipher.is_empty() && !self.is_closed {
            let taken = tls.read_tls(&mut &self.cipher[..])?;
            self.cipher.advance(taken);
            let state = tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            self.is_closed = state.peer_has_closed() || taken == 0;
            take_plaintext(&mut tls, buffer)?;
        }
        Ok(buffer.len() - before)
    }
}

fn take_plaintext(tls: &mut Connection, buffer: &mut BytesMut) -> io::Result<()> {
    let mut reader = tls.reader();
    loop {
        let plain = match reader.fill_buf() {
            Ok(plain) => plain,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        if plain.is_empty() {
            return Ok(());
        }
        buffer.extend_from_slice(plain);
        let taken = plain.len();
        reader.consume(taken);
    }
}

/// Writes.
pub(crate) struct WriteHalf {
    tcp: OwnedWriteHalf,
    tls: Option<Arc<Mutex<Connection>>>,
}

impl WriteHalf {
    /// Makes of `plain` what is to be written; answers that, and a buffer that is free again. The order of calls is the
    /// order in which the peer must get the results.
    pub fn seal(&self, plain: BytesMut) -> io::Result<(BytesMut, BytesMut)> {
        let Some(tls) = &self.tls else { return Ok((plain, BytesMut::new())) };
        let mut tls = lock(tls);
        tls.writer().write_all(&plain)?;
        let mut sealed = BytesMut::with_capacity(plain.len() + plain.len() / 128 + 64).writer();
        while tls.wants_write() {
            tls.write_tls(&mut sealed)?;
        }
        Ok((sealed.into_inner(), plain))
    }

    /// Writes until `chunk` is empty or the kernel takes no more.
    pub fn write_now(&self, chunk: &mut BytesMut) -> io::Result<()> {
        while !chunk.is_empty() {
            match self.tcp.try_write(chunk) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => chunk.advance(written),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the kernel takes more.
    pub async fn writable(&self) -> io::Result<()> {
        self.tcp.writable().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::{ConnectionError, Receiver, run};
    use crate::frame::{FRAME_PAYLOAD_MAX, Frame, FrameError};
    use crate::handshake::{ClusterId, Hello, Role};
    use crate::tls::{Credentials, accept, dial};
    use crate::{Outbox, Traffic};
    use auriga_certs::{Authority, Validity};
    use std::time::Duration;
    use tokio::net::TcpListener;

    fn issue(authority: &Authority, name: &str, role: auriga_certs::CertifiedRole) -> Credentials {
        let said = auriga_certs::Certified { name: name.to_owned(), role, volumes: [].into() };
        let issued = authority.sign(&said, Validity::days(1)).expect("signed");
        Credentials::from_pem(authority.certificate(), &issued.certificate, &issued.key).expect("good")
    }

    /// Both ends of a connection under TLS: that of the acceptor, and what the dialler writes with.
    async fn pair() -> (Session, (ReadHalf, WriteHalf)) {
        let authority = Authority::generate().expect("new");
        let storage = issue(&authority, "s1", auriga_certs::CertifiedRole::Storage);
        let admin = issue(&authority, "x", auriga_certs::CertifiedRole::Admin);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let here = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (there, _) = listener.accept().await.expect("connected");
        let hello = |name: &str| Hello { cluster: ClusterId(1), role: Role::Admin, name: name.into() };
        let (ours, theirs) = (hello("s1"), hello("x"));
        let (dialled, accepted) = tokio::join!(dial(here, &theirs, Some(&admin)), accept(there, &ours, Some(&storage)));
        let accepted = accepted.map_err(|(error, _)| error).expect("its certificate is good");
        (accepted.0, dialled.expect("welcome").0.into_split())
    }

    struct Nobody;

    impl Receiver for Nobody {
        async fn receive(&mut self, _: Frame, _: usize) -> Result<(), ConnectionError> {
            Ok(())
        }
    }

    async fn ended(session: Session) -> ConnectionError {
        let outbox = Outbox::new(Arc::new(Traffic::default()), 1000);
        run(session, "peer", None, &outbox, &mut Nobody).await
    }

    fn send(writer: &WriteHalf, bytes: &[u8]) -> io::Result<()> {
        let (mut sealed, _) = writer.seal(BytesMut::from(bytes))?;
        writer.write_now(&mut sealed)
    }

    /// What comes out of TLS is believed no more than what comes in the clear.
    #[tokio::test]
    async fn what_is_no_frame_ends_the_connection_by_name() {
        let oversized = [(FRAME_PAYLOAD_MAX as u32 + 1).to_le_bytes(), [0; 4]].concat();
        let damaged = [&2u32.to_le_bytes()[..], &[0; 4], &[1, 1]].concat();
        let (session, (_reader, writer)) = pair().await;
        send(&writer, &oversized).expect("sent");
        assert!(matches!(ended(session).await, ConnectionError::Frame(FrameError::TooLarge { .. })));
        let (session, (_reader, writer)) = pair().await;
        send(&writer, &damaged).expect("sent");
        assert!(matches!(ended(session).await, ConnectionError::Frame(FrameError::Checksum { .. })));
    }

    /// One bit of what is on the wire is changed: TLS notices, before any checksum of ours.
    #[tokio::test]
    async fn what_was_changed_on_its_way_ends_the_connection() {
        let (session, (_reader, writer)) = pair().await;
        let (mut sealed, _) = writer.seal(BytesMut::from(&[1, 2, 3][..])).expect("sealed");
        let last = sealed.len() - 1;
        sealed[last] ^= 1;
        writer.write_now(&mut sealed).expect("sent");
        let reason = ended(session).await;
        assert!(matches!(&reason, ConnectionError::Io(error) if error.kind() == ErrorKind::InvalidData), "{reason:?}");
    }

    /// A byte now and then, each in a record of its own, does not keep a frame alive.
    #[tokio::test]
    async fn a_frame_that_drips_is_not_waited_for() {
        let (session, (_reader, writer)) = pair().await;
        tokio::time::pause();
        let dripping = tokio::spawn(async move {
            while send(&writer, &[0]).is_ok() {
                tokio::time::sleep(Duration::from_secs(4)).await;
            }
        });
        let reason = ended(session).await;
        assert!(matches!(reason, ConnectionError::Stalled), "{reason:?}");
        dripping.abort();
    }
}
