//! A client that has to show a password is let in by the writer as well, which the gateway is not told.

use crate::servers::{PATIENCE, Server, World, connect, value};
use auriga_admin::storage::cluster_id;
use auriga_gateway::forward::login::Verifiers;
use auriga_http::axum::extract::Query;
use auriga_http::axum::routing::post;
use auriga_http::axum::{Json, Router};
use auriga_http::{Limits, serve};
use auriga_instance::node::Verifier;
use auriga_net::admin::Access;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::net::TcpListener;
use tokio_postgres::{Client, Config, Error, NoTls};

async fn log_in(at: SocketAddr, user: &str, password: &str) -> Result<Client, Error> {
    let mut config = Config::new();
    config.host(at.ip().to_string()).port(at.port()).user(user).password(password).dbname("postgres");
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn code(client: &Client, query: &str) -> Option<String> {
    let error = client.simple_query(query).await.expect_err(query);
    error.code().map(|code| code.code().to_owned())
}

/// An instance's admin port that knows these verifiers.
async fn instance(known: Arc<Mutex<HashMap<String, String>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.151.4:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = move |Query(asked): Query<HashMap<String, String>>| {
        let verifier = known.lock().expect("known").get(&asked["user"]).cloned();
        async move { Json(Verifier { verifier }) }
    };
    tokio::spawn(serve(listener, None, Limits::default(), Router::new().route("/verifier", post(answer))));
    address
}

async fn wait_for_user(server: &Server, user: &str) {
    let begun = Instant::now();
    while server.ask(&format!("select count(*) from pg_roles where rolname = '{user}'")).await != "1" {
        assert!(begun.elapsed() < PATIENCE, "no {user}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_let_in_by_the_reader_is_let_in_by_the_writer() {
    let known = Arc::new(Mutex::new(HashMap::new()));
    let address = instance(known.clone()).await;
    let access = Access { cluster: cluster_id("test"), credentials: None };
    let world = World::start(|shared| shared.verifiers = Some(Verifiers { instances: vec![address], access })).await;
    let writer = world.writer.client().await;
    writer
        .batch_execute("create table t (a int); create user ann password 'secret'; create user bob password 'plain'")
        .await
        .expect("made");
    writer.batch_execute("grant all on t to ann, bob").await.expect("granted");
    world.caught_up().await;
    wait_for_user(&world.standby, "bob").await;
    let verifier = world.writer.ask("select rolpassword from pg_authid where rolname = 'ann'").await;
    let hba = "host all ann all scram-sha-256\nhost all bob all password\nhost all all all trust\n";
    world.writer.let_in(hba).await;
    world.standby.let_in(hba).await;
    assert!(log_in(world.endpoint, "ann", "wrong").await.is_err(), "turned away");
    let ann = log_in(world.endpoint, "ann", "secret").await.expect("let in");
    assert_eq!(code(&ann, "insert into t values (1)").await.as_deref(), Some("28000"), "nobody knows the verifier");
    let hex: String = "ann".bytes().map(|byte| format!("{byte:02x}")).collect();
    known.lock().expect("known").insert(hex, verifier);
    ann.simple_query("insert into t values (1)").await.expect("forwarded");
    let found = ann.simple_query("select current_user || count(*) from t").await.expect("read");
    assert_eq!(value(&found).as_deref(), Some("ann1"));
    assert_eq!(world.writer.ask("select count(*) from pg_stat_activity where usename = 'ann'").await, "1");
    assert_eq!(code(&ann, "update pg_authid set rolname = 'x'").await.as_deref(), Some("42501"), "as nobody else");
    let bob = log_in(world.endpoint, "bob", "plain").await.expect("let in");
    bob.simple_query("insert into t values (2)").await.expect("forwarded");
    let other = connect(world.endpoint, "").await.expect("let in");
    other.simple_query("insert into t values (3)").await.expect("forwarded");
}
