//! TCP between nodes: framed, counted, bounded.
//!
//! - [`frame`]: what a message looks like as bytes.
//! - [`handshake`]: who may speak at all.
//! - [`tls`]: what a certificate says of who speaks, and encryption; [`session`]: a connection with or without it.
//! - [`outbox`]: what waits to be sent to one peer; full or disconnected, it drops. The protocol tolerates loss (the
//!   writer sends again, segments gossip), so nothing here retries, and one slow peer never makes another one slow.
//! - [`connection`]: one connection's life: read many frames per system call, write many frames per system call.
//! - [`dialler`] and [`listener`]: how connections come about.
//! - [`peers`]: which connections there are, as memberships say.
//! - [`places`]: how many connections there may be, and how much memory they may take.
//! - [`traffic`]: bytes by kind of message.
//! - [`admin`]: what a storage process can be asked as a process, in the same frames.
//!
//! Input that is oversized, malformed or foreign closes the connection that it came from, with a logged reason, and
//! harms nothing else.

pub mod admin;
pub mod connection;
pub mod dialler;
pub mod frame;
pub mod handshake;
pub mod listener;
pub mod outbox;
pub mod peers;
pub mod places;
pub mod session;
pub mod tls;
pub mod traffic;

pub use frame::{Encoded, Frame, FrameError, Mtr};
pub use handshake::{ClusterId, ConnectionRole, Hello};
pub use outbox::Outbox;
pub use peers::{Homes, Peers};
pub use session::Session;
pub use tls::Credentials;
pub use traffic::Traffic;

use auriga_page::Delta;
use auriga_protocol::Message;

/// Returns whether the message belongs on a connection for reads: a writer's second one, or that of a process that only
/// reads.
pub fn is_page_traffic(message: &Message<Delta>) -> bool {
    let is_log = matches!(message, Message::LogPull { .. } | Message::LogPush { .. });
    is_log || matches!(message, Message::ReadPage { .. } | Message::Page { .. } | Message::ReadRefused { .. })
}
