//! Transactions and settings that begin on the reader and go on at the writer.

use crate::servers::{World, connect, value};
use tokio_postgres::{Client, Error};

async fn ask(client: &Client, query: &str) -> Result<Option<String>, Error> {
    client.simple_query(query).await.map(|rows| value(&rows))
}

async fn read(client: &Client, query: &str) -> String {
    ask(client, query).await.unwrap_or_else(|error| panic!("{query}: {error:?}")).unwrap_or_default()
}

async fn code(client: &Client, query: &str) -> String {
    let error = ask(client, query).await.expect_err(query);
    error.code().map(|code| code.code().to_owned()).unwrap_or_else(|| format!("{error:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_goes_on_at_the_writer() {
    let world = World::start(|_| {}).await;
    world.writer.client().await.batch_execute("create table t (a int primary key, b text)").await.expect("made");
    world.caught_up().await;
    let client = world.session().await;
    settings_are_the_same(&client).await;
    isolation_is_kept(&client).await;
    what_is_not_forwarded(&client).await;
    many_at_one_time(&client).await;
    prepared_in_sql(&client).await;
    a_writer_that_is_replaced(&world, &client).await;
    what_cannot_be_told(&world).await;
    limits(&world).await;
}

/// A setting that the writer can't be given is never left out.
async fn what_cannot_be_told(world: &World) {
    let client = world.session().await;
    client.query_one("select set_config('my.tenant', $1, false)", &[&"ann"]).await.expect("set");
    assert_eq!(read(&client, "select current_setting('my.tenant')").await, "ann");
    assert_eq!(code(&client, "insert into t values (500, current_setting('my.tenant'))").await, "08004");
    let client = world.session().await;
    read(&client, "begin").await;
    client.query_one("select set_config('my.tenant', $1, true)", &[&"ann"]).await.expect("set");
    assert_eq!(code(&client, "insert into t values (500, 'without')").await, "0A000");
    read(&client, "rollback").await;
    assert_eq!(read(&client, "select count(*) from t where a = 500").await, "0");
}

async fn settings_are_the_same(client: &Client) {
    read(client, "set my.name = 'ann'").await;
    read(client, "insert into t values (1, current_setting('my.name'))").await;
    assert_eq!(read(client, "select b from t where a = 1").await, "ann");
    read(client, "begin").await;
    read(client, "set local my.name = 'bob'").await;
    read(client, "insert into t values (2, current_setting('my.name'))").await;
    read(client, "set my.other = 'there'").await;
    assert_eq!(read(client, "select pg_is_in_recovery()").await, "f");
    read(client, "commit").await;
    assert_eq!(read(client, "select b from t where a = 2").await, "bob");
    assert_eq!(read(client, "select current_setting('my.name')").await, "ann");
    assert_eq!(
        read(client, "select current_setting('my.other')").await,
        "there",
        "set at the writer, read on the reader"
    );
    assert_eq!(read(client, "select pg_is_in_recovery()").await, "t");
    read(client, "begin").await;
    read(client, "set my.name = 'nobody'").await;
    read(client, "rollback").await;
    read(client, "insert into t values (3, current_setting('my.name'))").await;
    assert_eq!(read(client, "select b from t where a = 3").await, "ann");
    read(client, "reset all").await;
}

async fn isolation_is_kept(client: &Client) {
    read(client, "begin isolation level repeatable read").await;
    read(client, "update t set b = 'first' where a = 1").await;
    assert_eq!(read(client, "show transaction_isolation").await, "repeatable read");
    read(client, "commit").await;
    read(client, "begin isolation level repeatable read").await;
    read(client, "select count(*) from t").await;
    assert_eq!(code(client, "update t set b = 'late' where a = 1").await, "0A000");
    assert_eq!(code(client, "select 1").await, "25P02", "it has failed");
    read(client, "rollback").await;
    read(client, "begin read write, isolation level repeatable read").await;
    assert_eq!(read(client, "select pg_is_in_recovery()").await, "f", "it was said to write");
    read(client, "update t set b = 'second' where a = 1").await;
    read(client, "commit").await;
    read(client, "begin read only").await;
    assert_eq!(code(client, "update t set b = 'never' where a = 1").await, "25006");
    read(client, "rollback").await;
    assert_eq!(code(client, "begin isolation level serializable").await, "0A000", "PostgreSQL's own");
    read(client, "rollback").await;
    assert_eq!(read(client, "select b from t where a = 1").await, "second");
    // Savepoints that were made on the reader are there.
    read(client, "begin").await;
    read(client, "savepoint a").await;
    read(client, "insert into t values (10, 'ten')").await;
    assert_eq!(code(client, "insert into t values (10, 'ten')").await, "23505");
    read(client, "rollback to a").await;
    read(client, "insert into t values (11, 'eleven')").await;
    read(client, "commit").await;
    assert_eq!(read(client, "select string_agg(b, ',') from t where a > 9").await, "eleven");
}

async fn what_is_not_forwarded(client: &Client) {
    let refused = [
        "create table u ()",
        "alter table t add c int",
        "drop table t",
        "truncate t",
        "vacuum t",
        "analyze t",
        "cluster",
        "reindex table t",
        "copy t from stdin",
        "grant select on t to public",
        "lock table t in exclusive mode",
        "listen a",
        "notify a",
        "select * into u from t",
        "prepare transaction 'x'",
        "comment on table t is 'x'",
    ];
    for statement in refused {
        let error = ask(client, statement).await.expect_err(statement);
        let told = error.as_db_error().unwrap_or_else(|| panic!("{statement}: {error:?}"));
        let is_plain = statement.starts_with("prepare") || statement.starts_with("lock");
        assert!(is_plain || told.code().code() == "25006", "{statement}: {told:?}");
        assert!(is_plain || told.message().contains("is not forwarded to the writer"), "{statement}: {told:?}");
    }
    read(client, "begin").await;
    read(client, "update t set b = 'x' where a = 1").await;
    assert_eq!(code(client, "truncate t").await, "25006");
    assert_eq!(code(client, "select 1").await, "25P02");
    read(client, "rollback").await;
    read(client, "begin").await;
    read(client, "declare c cursor for select a from t").await;
    assert_eq!(code(client, "update t set b = 'x' where a = 1").await, "0A000");
    read(client, "rollback").await;
    assert_eq!(read(client, "select b from t where a = 1").await, "second");
}

async fn many_at_one_time(client: &Client) {
    let insert = client.prepare("insert into t values ($1, 'many')").await.expect("prepared");
    let count = client.prepare("select count(*) from t where a >= 100").await.expect("prepared");
    let inserts = (100..120).map(|a| {
        let insert = &insert;
        async move { client.execute(insert, &[&a]).await }
    });
    let all: Vec<_> = inserts.collect();
    let mut waiting: Vec<_> = all.into_iter().map(Box::pin).collect();
    // Each is sent before the first one is answered.
    let done = std::future::poll_fn(|context| {
        waiting.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(done) => {
                done.expect("forwarded");
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    done.await;
    assert_eq!(client.query_one(&count, &[]).await.expect("read").get::<_, i64>(0), 20);
}

async fn prepared_in_sql(client: &Client) {
    read(client, "prepare p (int) as insert into t values ($1, 'p')").await;
    read(client, "execute p (200)").await;
    read(client, "execute p (201)").await;
    assert_eq!(read(client, "select count(*) from t where b = 'p'").await, "2");
    read(client, "deallocate p").await;
    assert_eq!(code(client, "execute p (202)").await, "26000");
    // A batch with a transaction's beginning in it, as some drivers send it.
    client.batch_execute("begin; insert into t values (300, 'batch'); commit").await.expect("whole");
    assert_eq!(read(client, "select b from t where a = 300").await, "batch");
}

async fn a_writer_that_is_replaced(world: &World, client: &Client) {
    read(client, "begin").await;
    read(client, "insert into t values (400, 'lost')").await;
    world.crash_writer();
    assert_eq!(code(client, "insert into t values (401, 'lost')").await, "40001");
    assert_eq!(code(client, "select 1").await, "25P02");
    read(client, "rollback").await;
    read(client, "insert into t values (402, 'kept')").await;
    assert_eq!(read(client, "select string_agg(b, ',') from t where a >= 400").await, "kept");
}

async fn limits(world: &World) {
    let sessions = world.writer.ask("show max_connections").await.parse::<usize>().expect("a number") / 4;
    let mut open = Vec::new();
    for _ in 0..sessions {
        let client = connect(world.endpoint, "").await.expect("connected");
        match ask(&client, "delete from t where false").await {
            Ok(_) => open.push(client),
            Err(error) => {
                assert_eq!(error.code().map(|code| code.code()), Some("53300"));
                assert_eq!(read(&client, "select 1").await, "1", "it can read");
                break;
            }
        }
    }
    // One of them is this test's first session.
    assert_eq!(open.len(), sessions - 1);
}
