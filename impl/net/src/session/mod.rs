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
mod tests;
