//! The instance's admin port: HTTP with JSON, on a thread of its own.
//!
//! It answers whatever the instance waits for. What may be asked is in [`crate::node`]; who may ask is decided by
//! certificates, where the instance has one, and by where it listens, where it has none.

use auriga_http::axum::Router;
use auriga_http::{Limits, serve as serve_http};
use auriga_net::tls::Credentials;
use std::io;
use std::net::TcpListener;

/// Serves `router` on `listener` as long as the process lives.
///
/// # Errors
/// The thread can't be started.
pub fn serve(listener: TcpListener, credentials: Option<Credentials>, router: Router) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _within = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || runtime.block_on(serve_http(listener, credentials, Limits::default(), router)))?;
    Ok(())
}
