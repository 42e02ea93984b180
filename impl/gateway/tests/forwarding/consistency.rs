//! What reads wait for, with a standby whose replay is paused; and statements that are cancelled.

use crate::servers::{PATIENCE, World, connect, value};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, NoTls};

const COUNT: &str = "select count(*) from t";

async fn count(client: &Client) -> String {
    value(&client.simple_query(COUNT).await.expect("read")).expect("a row")
}

async fn set_mode(client: &Client, mode: &str) {
    client.batch_execute(&format!("set apg_write_forward.consistency_mode = '{mode}'")).await.expect("set");
}

/// The standby replays nothing from here on.
async fn pause(world: &World) {
    world.standby.ask("select pg_wal_replay_pause()").await;
    let begun = Instant::now();
    while world.standby.ask("select pg_get_wal_replay_pause_state()").await != "paused" {
        assert!(begun.elapsed() < PATIENCE, "it is not paused");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn resume(world: &World) {
    world.standby.ask("select pg_wal_replay_resume()").await;
}

/// A read that can't end before replay goes on, and then answers `expected`.
async fn waits(world: &World, client: &Client, expected: &str) {
    let mut reading = std::pin::pin!(count(client));
    assert!(timeout(Duration::from_millis(300), &mut reading).await.is_err(), "it must wait");
    resume(world).await;
    assert_eq!(timeout(PATIENCE, reading).await.expect("in time"), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_wait_for_what_their_mode_says() {
    let world = World::start(|_| {}).await;
    let writer = world.writer.client().await;
    writer.batch_execute("create table t (a int)").await.expect("made");
    world.caught_up().await;
    let client = world.session().await;

    pause(&world).await;
    client.simple_query("insert into t values (1)").await.expect("forwarded");
    let other = world.session().await;
    assert_eq!(count(&other).await, "0", "another session need not see it");
    waits(&world, &client, "1").await;

    pause(&world).await;
    client.batch_execute("begin; insert into t values (2)").await.expect("forwarded");
    assert_eq!(count(&client).await, "2", "its transaction is at the writer");
    client.batch_execute("commit").await.expect("forwarded");
    waits(&world, &client, "2").await;

    set_mode(&client, "eventual").await;
    pause(&world).await;
    client.simple_query("insert into t values (3)").await.expect("forwarded");
    assert_eq!(count(&client).await, "2");
    resume(&world).await;

    set_mode(&other, "global").await;
    pause(&world).await;
    writer.batch_execute("insert into t values (4)").await.expect("written");
    waits(&world, &other, "4").await;
    // Of each statement, where each one has a snapshot of its own.
    other.batch_execute("begin").await.expect("begun");
    assert_eq!(count(&other).await, "4");
    pause(&world).await;
    writer.batch_execute("insert into t values (5)").await.expect("written");
    waits(&world, &other, "5").await;
    other.batch_execute("commit").await.expect("ended");
    // What is prepared reads the catalogs.
    pause(&world).await;
    writer.batch_execute("create table just_made (a int)").await.expect("made");
    {
        let mut preparing = std::pin::pin!(other.prepare("select count(*) from just_made"));
        assert!(timeout(Duration::from_millis(300), &mut preparing).await.is_err(), "it must wait");
        resume(&world).await;
        timeout(PATIENCE, preparing).await.expect("in time").expect("prepared");
    }

    set_mode(&client, "off").await;
    let error = client.simple_query("insert into t values (6)").await.expect_err("refused");
    let told = error.as_db_error().expect("told");
    assert_eq!((told.code().code(), told.message()), ("25006", "cannot execute INSERT in a read-only transaction"));
    client.batch_execute("reset apg_write_forward.consistency_mode").await.expect("reset");
    client.simple_query("insert into t values (6)").await.expect("forwarded");
    assert_eq!(count(&client).await, "6");
    let off = connect(world.endpoint, "-c apg_write_forward.consistency_mode=off").await.expect("connected");
    off.simple_query("insert into t values (7)").await.expect_err("refused");
    cancels(&world, &client).await;
}

async fn cancels(world: &World, client: &Client) {
    // One that waits for the reader, one on the reader, one at the writer.
    pause(world).await;
    client.simple_query("insert into t values (7)").await.expect("forwarded");
    cancelled(client, COUNT).await;
    resume(world).await;
    assert_eq!(count(client).await, "7");
    cancelled(client, "select pg_sleep(600)").await;
    cancelled(client, "update t set a = 1 where pg_sleep(600) is null").await;
    assert_eq!(count(client).await, "7");
}

async fn cancelled(client: &Client, query: &str) {
    let token = client.cancel_token();
    let mut running = std::pin::pin!(client.simple_query(query));
    let begun = Instant::now();
    let ended = loop {
        // A request that comes too early does nothing.
        match timeout(Duration::from_millis(100), &mut running).await {
            Ok(ended) => break ended,
            Err(_) => token.cancel_query(NoTls).await.expect("asked"),
        }
        assert!(begun.elapsed() < PATIENCE, "{query}");
    };
    let error = ended.expect_err("cancelled");
    assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{query}");
}
