//! A forwarding endpoint before real servers: a writer, and a standby that follows it.

mod consistency;
mod history;
mod logins;
mod measure;
mod servers;
mod transactions;

use servers::{World, psql, value};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_go_where_they_can_be_done() {
    let world = World::start(|_| {}).await;
    let client = world.session().await;
    world
        .writer
        .client()
        .await
        .batch_execute("create table t (a int primary key, b text); create sequence s")
        .await
        .expect("made");
    world.caught_up().await;
    let ask = async |query: &str| client.simple_query(query).await.map(|rows| value(&rows));
    assert_eq!(ask("select pg_is_in_recovery()").await.expect("read").as_deref(), Some("t"));
    client.simple_query("insert into t values (1, 'one')").await.expect("forwarded");
    assert_eq!(ask("select b from t where a = 1").await.expect("read").as_deref(), Some("one"));
    assert_eq!(ask("select pg_is_in_recovery()").await.expect("read").as_deref(), Some("t"));
    // What only PostgreSQL knows to write.
    ask("with new as (insert into t values (2, 'two') returning a) select a from new").await.expect("forwarded");
    assert_eq!(ask("select b from t where a = 2 for update").await.expect("forwarded").as_deref(), Some("two"));
    assert_eq!(ask("select nextval('s')").await.expect("forwarded").as_deref(), Some("1"));
    ask("explain analyze delete from t where a = 2").await.expect("forwarded");
    assert_eq!(ask("select count(*) from t").await.expect("read").as_deref(), Some("1"));
    assert_eq!(
        ask("select 1; insert into t values (3, 'three'); select count(*) from t").await.expect("whole").as_deref(),
        Some("2")
    );
    // The extended protocol.
    assert_eq!(client.execute("update t set b = $1 where a = $2", &[&"uno", &1]).await.expect("forwarded"), 1);
    let statement = client.prepare("select b from t where a = $1").await.expect("prepared");
    assert_eq!(client.query_one(&statement, &[&1]).await.expect("read").get::<_, String>(0), "uno");
    let locking = client.prepare("select b from t where a = $1 for share").await.expect("prepared");
    for _ in 0..3 {
        assert_eq!(client.query_one(&locking, &[&1]).await.expect("forwarded").get::<_, String>(0), "uno");
    }
    // Errors are the writer's own.
    let error = client.execute("insert into t values (1, 'again')", &[]).await.expect_err("a duplicate");
    assert_eq!(error.code().map(|code| code.code()), Some("23505"));
    let error = ask("create table other ()").await.expect_err("refused");
    let error = error.as_db_error().expect("told");
    assert_eq!((error.code().code(), error.message()), ("25006", "CREATE TABLE is not forwarded to the writer"));
    let [open, connections, statements, ..] = world.shared.counted.shown();
    assert_eq!((open, connections), (1, 1), "one connection to the writer does for a session");
    assert!(statements >= 10, "{statements}");
    drop(client);
    let commands = "begin;\nselect count(*) from t;\nsavepoint a;\ninsert into t values (4, 'four');\nsavepoint b;\n\
         insert into t values (1, 'x');\nrollback to b;\nselect count(*), pg_is_in_recovery() from t;\ncommit;\n\
         select count(*), pg_is_in_recovery() from t;\n";
    let path = std::env::temp_dir().join(format!("forwarding-{}.sql", std::process::id()));
    let said = psql(world.endpoint, &path, commands);
    let _ = std::fs::remove_file(&path);
    assert!(said.starts_with("2\n3|f\n3|t\n"), "{said}");
    assert!(said.contains("23505"), "{said}");
}
