//! What the other instances of a cluster say, asked again and again.

use crate::instance::{self, PATIENCE};
use auriga_instance::sql::{Heard, Others};
use auriga_net::admin::Access;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// How often each is asked.
const EVERY: Duration = Duration::from_millis(500);
/// An instance that was silent for this long counts as absent.
const FORGOTTEN: Duration = Duration::from_secs(10);

type Said = Mutex<BTreeMap<SocketAddr, Heard>>;

/// Asks the instances at these admin ports, on a thread of its own, as long as the process lives.
///
/// # Errors
/// The operating system has no thread, or no more of what tokio needs.
pub fn watch(addresses: Vec<SocketAddr>, access: Access) -> io::Result<Others> {
    let said = Arc::new(Said::default());
    let seen = Arc::clone(&said);
    if !addresses.is_empty() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("others".to_owned()).spawn(move || {
            runtime.block_on(async {
                // Each in its own time: one that stands still does not keep the others back.
                let mut asking = tokio::task::JoinSet::new();
                for address in addresses {
                    asking.spawn(ask(address, access.clone(), said.clone()));
                }
                while asking.join_next().await.is_some() {}
            });
        })?;
    }
    Ok(Arc::new(move || {
        let is_there = |heard: &&Heard| heard.at.elapsed().unwrap_or_default() < FORGOTTEN;
        lock(&seen).values().filter(is_there).cloned().collect()
    }))
}

/// Asks one, again and again.
async fn ask(address: SocketAddr, access: Access, said: Arc<Said>) {
    loop {
        if let Ok(status) = instance::status(address, &access, PATIENCE).await {
            lock(&said).insert(address, Heard { status, at: SystemTime::now() });
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
