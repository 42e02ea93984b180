//! A port as a program and a stranger see it: with certificates, in the clear, and when it is abused.

use auriga_certs::{Authority, USUAL_DAYS, Validity};
use auriga_http::axum::extract::Extension;
use auriga_http::axum::routing::{get, post};
use auriga_http::axum::{Json, Router};
use auriga_http::{Client, HttpError, Limits, Method, Peer, Refused, StatusCode, ask, serve};
use auriga_net::ClusterId;
use auriga_net::admin::Access;
use auriga_net::tls::{Certified, CertifiedRole, CredentialFiles, Credentials};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER: ClusterId = ClusterId(1);

fn credentials(dir: &Path, name: &str, role: CertifiedRole) -> Credentials {
    let volumes = if role == CertifiedRole::Instance { [1].into() } else { [].into() };
    let said = Certified { name: name.to_owned(), role, volumes };
    Authority::load(dir).unwrap().issue(dir, &said, Validity::days(USUAL_DAYS)).unwrap();
    let file = |ending: &str| dir.join(format!("{name}.{ending}"));
    Credentials::load(&CredentialFiles { ca: dir.join("ca.crt"), cert: file("crt"), key: file("key") }).unwrap()
}

fn router() -> Router {
    async fn change(Extension(peer): Extension<Peer>) -> Result<Json<u32>, Refused> {
        peer.may_change()?;
        Ok(Json(8))
    }
    let slow = || async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
    };
    let name = |Extension(Peer(peer)): Extension<Peer>| async move { Json(peer.map(|peer| peer.name)) };
    Router::new().route("/name", get(name)).route("/change", post(change)).route("/slow", get(slow))
}

async fn served(credentials: Option<Credentials>, limits: Limits) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, credentials, limits, router()));
    address
}

async fn look(address: SocketAddr, access: &Access) -> Result<Option<String>, HttpError> {
    ask(address, access, CertifiedRole::Instance, Method::GET, "/name", PATIENCE).await
}

async fn change(address: SocketAddr, access: &Access) -> Result<u32, HttpError> {
    ask(address, access, CertifiedRole::Instance, Method::POST, "/change", PATIENCE).await
}

#[tokio::test]
async fn a_certificate_says_who_asks_and_what_may_be_asked() {
    let dir = tempfile::tempdir().unwrap();
    Authority::init(dir.path()).unwrap();
    let address = served(Some(credentials(dir.path(), "i", CertifiedRole::Instance)), Limits::default()).await;
    let access = |name, role| Access { cluster: CLUSTER, credentials: Some(credentials(dir.path(), name, role)) };
    let (control, other) = (access("c", CertifiedRole::Control), access("j", CertifiedRole::Instance));
    assert_eq!(look(address, &control).await.unwrap().as_deref(), Some("c"));
    assert_eq!(look(address, &other).await.unwrap().as_deref(), Some("j"));
    assert_eq!(change(address, &control).await.unwrap(), 8);
    let refused = change(address, &other).await.unwrap_err();
    assert!(matches!(refused, HttpError::Refused { status: StatusCode::FORBIDDEN, .. }), "{refused}");
    assert_eq!(refused.to_string(), "j (role instance) may look at this process, and change nothing");

    let stranger = tempfile::tempdir().unwrap();
    Authority::init(stranger.path()).unwrap();
    let theirs = credentials(stranger.path(), "admin", CertifiedRole::Admin);
    let stranger = Access { cluster: CLUSTER, credentials: Some(theirs) };
    assert!(look(address, &stranger).await.is_err(), "another authority's");
    assert!(look(address, &Access::from(CLUSTER)).await.is_err(), "no certificate");
    // One that is not what it should be is not believed.
    let address = served(Some(credentials(dir.path(), "s", CertifiedRole::Storage)), Limits::default()).await;
    let error = look(address, &control).await.unwrap_err().to_string();
    assert!(error.contains("role storage, not of instance"), "{error}");
}

#[tokio::test]
async fn a_connection_is_kept_for_many_questions_and_made_again() {
    let access = Access::from(CLUSTER);
    let address = served(None, Limits { head_timeout: Duration::from_secs(2), ..Limits::default() }).await;
    let mut client = Client::new(address, &access, CertifiedRole::Instance);
    for pause in [0, 0, 4000, 0] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let changed: Result<u32, HttpError> = client.ask(Method::POST, "/change", None::<&()>, PATIENCE).await;
        assert_eq!(changed.unwrap(), 8);
    }
    let missing: Result<u32, HttpError> = client.ask(Method::GET, "/nothing", None::<&()>, PATIENCE).await;
    assert!(matches!(missing, Err(HttpError::Refused { status: StatusCode::NOT_FOUND, .. })));
    let slow: Result<u32, HttpError> = client.ask(Method::GET, "/slow", None::<&()>, Duration::from_millis(50)).await;
    assert!(matches!(slow, Err(HttpError::TimedOut { .. })));
    let changed: Result<u32, HttpError> = client.ask(Method::POST, "/change", None::<&()>, PATIENCE).await;
    assert_eq!(changed.unwrap(), 8);
    let nobody = "127.0.0.1:1".parse().unwrap();
    let refused = look(nobody, &access).await.unwrap_err();
    let HttpError::Unreachable { source, .. } = refused else { panic!("{refused}") };
    assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn silence_floods_and_rubbish_harm_nobody_else() {
    let access = Access::from(CLUSTER);
    let limits = Limits { connections_max: 4, head_timeout: Duration::from_secs(2), ..Limits::default() };
    let address = served(None, limits).await;
    let mut rubbish = TcpStream::connect(address).await.unwrap();
    rubbish.write_all(b"what?\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    rubbish.read_to_end(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400"), "{answer:?}");
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // The first four are closed when they have been silent for too long.
    for stream in &mut silent {
        let mut end = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut end)).await.expect("closed");
    }
    assert!(look(address, &access).await.is_ok(), "there is room again");
}
