//! What a forwarding endpoint adds to a read that it has the reader do: `bench/forward.sh`.

use crate::servers::{World, connect};
use std::time::{Duration, Instant};

/// Reads at one time, by turns there and there.
const ROUND: usize = 2000;
const ROUNDS: usize = 8;

/// The time that this part of all takes at most.
fn at(times: &mut [Duration], percent: usize) -> u128 {
    times.sort_unstable();
    times.get(times.len() * percent / 100).map_or(0, Duration::as_micros)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a test"]
async fn what_it_adds_to_a_read() {
    let world = World::start(|_| {}).await;
    let writer = world.writer.client().await;
    let rows =
        "create table t (a int primary key, b text); insert into t select n, n::text from generate_series(1, 10000) n";
    writer.batch_execute(rows).await.expect("made");
    world.caught_up().await;
    let sessions = [connect(world.standby.address, "").await, connect(world.endpoint, "").await];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (session, times) in sessions.iter().zip(&mut times) {
            let session = session.as_ref().expect("connected");
            let select = session.prepare("select b from t where a = $1").await.expect("prepared");
            for n in 0..ROUND {
                let begun = Instant::now();
                session.query_one(&select, &[&((n % 10000) as i32 + 1)]).await.expect("read");
                // The first one is to warm up.
                times.extend((round > 0).then(|| begun.elapsed()));
            }
        }
    }
    let [direct, through] = &mut times;
    for (name, times) in [("at the reader", direct), ("through the gateway", through)] {
        println!("{name:<20} p50 {} us, p95 {} us, p99 {} us", at(times, 50), at(times, 95), at(times, 99));
    }
}
