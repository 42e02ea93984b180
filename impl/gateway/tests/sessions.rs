//! Connections through a gateway's endpoints, to servers that are only sockets.

use auriga_gateway::endpoints::{Endpoint, serve};
use auriga_gateway::topology::Topology;
use auriga_gateway::wire::fatal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// A start-up message: its length, the version, `user`.
const STARTUP: &[u8] = b"\0\0\0\x11\0\x03\0\0user\0app\0";
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// What a server says when it waits for a statement.
const READY: &[u8] = b"Z\0\0\0\x05I";
const PATIENCE: Duration = Duration::from_secs(60);

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// An endpoint, and the means to change where it leads.
async fn endpoint(endpoint: Endpoint, places: usize, wait: Duration) -> (SocketAddr, watch::Sender<Topology>) {
    let (listener, address) = listen().await;
    let (sender, topology) = watch::channel(Topology::default());
    tokio::spawn(serve(listener, endpoint, topology, Arc::new(Semaphore::new(places)), wait));
    (address, sender)
}

fn writer_at(address: SocketAddr) -> Topology {
    Topology { writer: Some(address), ..Topology::default() }
}

async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("in time").expect("bytes");
    bytes
}

/// Everything up to the end of the connection, however it ends.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("in time");
    bytes
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("in time").expect("a connection").0
}

#[tokio::test]
async fn a_connection_waits_for_a_writer_and_each_direction_ends_by_itself() {
    let (gateway, topology) = endpoint(Endpoint::Writer, 8, PATIENCE).await;
    let mut client = TcpStream::connect(gateway).await.expect("connected");
    client.write_all(STARTUP).await.expect("sent");
    let (listener, address) = listen().await;
    topology.send_replace(writer_at(address));
    let mut server = accept(&listener).await;
    assert_eq!(read(&mut server, STARTUP.len()).await, STARTUP);
    client.shutdown().await.expect("half closed");
    assert_eq!(rest(&mut server).await, b"", "the end is passed on");
    server.write_all(READY).await.expect("the other direction goes on");
    drop(server);
    assert_eq!(rest(&mut client).await, READY);
}

#[tokio::test]
async fn who_waits_in_vain_is_told() {
    let (gateway, _topology) = endpoint(Endpoint::Writer, 8, Duration::from_millis(50)).await;
    let mut client = TcpStream::connect(gateway).await.expect("connected");
    client.write_all(&SSL_REQUEST).await.expect("sent");
    assert_eq!(read(&mut client, 1).await, b"N");
    client.write_all(STARTUP).await.expect("sent");
    assert_eq!(rest(&mut client).await, fatal("57P03", Endpoint::Writer.nobody()));
}

#[tokio::test]
async fn one_too_many_is_told() {
    let (gateway, topology) = endpoint(Endpoint::Reader, 1, PATIENCE).await;
    let (listener, address) = listen().await;
    topology.send_replace(writer_at(address));
    let first = TcpStream::connect(gateway).await.expect("connected");
    let _server = accept(&listener).await;
    let mut second = TcpStream::connect(gateway).await.expect("connected");
    second.write_all(STARTUP).await.expect("sent");
    assert!(String::from_utf8_lossy(&rest(&mut second).await).contains("C53300"));
    drop(first);
}

#[tokio::test]
async fn a_client_whose_writer_is_replaced_is_told_between_messages_and_cut_off_within_one() {
    for (said, is_told) in [(READY, true), (&READY[..3], false)] {
        let (gateway, topology) = endpoint(Endpoint::Writer, 8, PATIENCE).await;
        let (listener, address) = listen().await;
        topology.send_replace(writer_at(address));
        let mut client = TcpStream::connect(gateway).await.expect("connected");
        client.write_all(STARTUP).await.expect("sent");
        let mut old = accept(&listener).await;
        read(&mut old, STARTUP.len()).await;
        old.write_all(said).await.expect("sent");
        assert_eq!(read(&mut client, said.len()).await, said);
        let (_other, newer) = listen().await;
        topology.send_replace(writer_at(newer));
        let told = rest(&mut client).await;
        assert_eq!(String::from_utf8_lossy(&told).contains("C57P01"), is_told, "{told:?}");
        assert_eq!(rest(&mut old).await, b"");
    }
}

#[tokio::test]
async fn readers_are_not_disturbed_and_one_that_is_gone_is_passed_over() {
    let (gateway, topology) = endpoint(Endpoint::Reader, 8, PATIENCE).await;
    let (gone, gone_at) = listen().await;
    drop(gone);
    let (listener, address) = listen().await;
    let readers = vec![gone_at, address];
    topology.send_replace(Topology { readers, ..Topology::default() });
    let mut client = TcpStream::connect(gateway).await.expect("connected");
    let mut server = accept(&listener).await;
    topology.send_replace(writer_at(gone_at));
    client.write_all(b"still there").await.expect("sent");
    assert_eq!(read(&mut server, 11).await, b"still there");
}
