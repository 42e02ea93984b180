//! Clients that write through a gateway and remember, while the writer crashes: what they read is checked against what they
//! must see.
//!
//! Each client has a row with a counter of its own, which only goes up. In any mode but `eventual` a client must see at
//! least what it has had written, and never less of any row than it has seen. In `global` mode it must see at least what
//! anybody had been told is committed when its read began.

use crate::servers::{PATIENCE, World, connect};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

const CLIENTS: usize = 4;
/// Reads of all clients together, of which each one is checked.
const READS: usize = 160;

/// What all clients know.
#[derive(Default)]
struct Known {
    /// Of each client, the highest counter that it was told is committed.
    acknowledged: [AtomicI64; CLIENTS],
    reads: AtomicUsize,
    is_over: AtomicBool,
}

/// One client's view.
struct Viewer {
    own: usize,
    is_global: bool,
    /// Of each row, the highest counter that it has seen.
    seen: [i64; CLIENTS],
    /// The last counter that it was told, and the highest that may be there.
    told: i64,
    tried: i64,
}

impl Viewer {
    /// Reads all rows, and says what is wrong with them.
    async fn read(&mut self, client: &Client, known: &Known) -> Result<Vec<String>, Error> {
        let before: Vec<i64> = known.acknowledged.iter().map(|counter| counter.load(SeqCst)).collect();
        let rows = client.simple_query("select n from counters order by id").await?;
        let rows = rows.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).and_then(|n| n.parse::<i64>().ok()),
            _ => None,
        });
        known.reads.fetch_add(1, SeqCst);
        let mut wrong = Vec::new();
        for (id, n) in rows.enumerate() {
            if n < self.seen[id] {
                wrong.push(format!("client {} has seen {} of row {id}, and then {n}", self.own, self.seen[id]));
            }
            if id == self.own && (n < self.told || n > self.tried) {
                wrong.push(format!("client {id} was told {} and reads {n} of its own", self.told));
            }
            if self.is_global && n < before[id] {
                wrong.push(format!("row {id} was {} before client {} read {n}", before[id], self.own));
            }
            self.seen[id] = self.seen[id].max(n);
        }
        Ok(wrong)
    }

    /// Counts up. Whether it is done may not be known.
    async fn write(&mut self, client: &Client, known: &Known) -> Result<(), Error> {
        let next = self.tried + 1;
        let update = format!("update counters set n = {next} where id = {}", self.own);
        self.tried = next;
        match fastrand::u8(..3) {
            0 => client.batch_execute(&update).await?,
            1 => client.execute(&update, &[]).await.map(drop)?,
            _ => {
                client.batch_execute("begin").await?;
                client.batch_execute(&update).await?;
                client.batch_execute("commit").await?;
            }
        }
        self.told = next;
        known.acknowledged[self.own].fetch_max(next, SeqCst);
        Ok(())
    }
}

/// One client, until all is over. Returns what was wrong.
async fn client(world: Arc<World>, known: Arc<Known>, own: usize, mode: &'static str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut viewer = Viewer { own, is_global: mode == "global", seen: [0; CLIENTS], told: 0, tried: 0 };
    while !known.is_over.load(SeqCst) {
        // The reader stays: a session that ends here would hide what it should have seen.
        let session = connect(world.endpoint, &format!("-c apg_write_forward.consistency_mode={mode}")).await;
        let session = session.expect("connected");
        while !known.is_over.load(SeqCst) {
            if viewer.write(&session, &known).await.is_err() {
                assert!(!session.is_closed(), "a session survives its writer");
                let _ = session.batch_execute("rollback").await;
            }
            for _ in 0..2 {
                match viewer.read(&session, &known).await {
                    Ok(found) => wrong.extend(found),
                    Err(error) => assert!(!session.is_closed(), "{error:?}"),
                }
            }
        }
    }
    wrong
}

/// Clients in this mode, while the writer crashes `crashes` times. Returns what was wrong.
async fn run(mode: &'static str, crashes: usize, never_waits: bool) -> Vec<String> {
    let world = Arc::new(World::start(|shared| shared.never_waits = never_waits).await);
    let writer = world.writer.client().await;
    let rows =
        "create table counters (id int primary key, n bigint); insert into counters select id, 0 from generate_series";
    writer.batch_execute(&format!("{rows}(0, {}) as id", CLIENTS - 1)).await.expect("made");
    drop(writer);
    world.caught_up().await;
    // Late enough that who does not wait is found out.
    world.standby.ask("alter system set recovery_min_apply_delay = '20ms'").await;
    world.standby.ask("select pg_reload_conf()").await;
    let known = Arc::new(Known::default());
    let clients: Vec<_> =
        (0..CLIENTS).map(|own| tokio::spawn(client(world.clone(), known.clone(), own, mode))).collect();
    let begun = Instant::now();
    for phase in 1..=crashes + 1 {
        while known.reads.load(SeqCst) < READS * phase / 3 {
            assert!(begun.elapsed() < PATIENCE * 2, "{} reads", known.reads.load(SeqCst));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if phase <= crashes {
            let world = world.clone();
            tokio::task::spawn_blocking(move || world.crash_writer()).await.expect("crashed");
        }
    }
    known.is_over.store(true, SeqCst);
    let mut wrong = Vec::new();
    for client in clients {
        wrong.extend(client.await.expect("a client"));
    }
    assert!(known.acknowledged.iter().all(|counter| counter.load(SeqCst) > 0), "everybody has written");
    wrong
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_see_what_they_wrote_and_never_less_than_before() {
    assert_eq!(run("session", 2, false).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn global_reads_see_all_that_was_committed_before() {
    assert_eq!(run("global", 2, false).await, Vec::<String>::new());
}

/// The check itself is checked: a gateway that does not wait is found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_does_not_wait_is_caught() {
    let wrong = run("session", 0, true).await;
    assert!(wrong.iter().any(|what| what.contains("was told")), "{wrong:?}");
}
