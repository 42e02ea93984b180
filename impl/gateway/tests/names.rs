//! Names, asked for by a client of another make than ours, by UDP and TCP.

use auriga_gateway::dns;
use auriga_gateway::names::Names;
use auriga_gateway::topology::Topology;
use hickory_server::net::client::{Client, ClientHandle};
use hickory_server::net::runtime::TokioRuntimeProvider;
use hickory_server::net::tcp::TcpClientStream;
use hickory_server::net::udp::UdpClientStream;
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{DNSClass, Name, RecordType};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

type Provider = TokioRuntimeProvider;

fn at(host: u8) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, host], 5432))
}

/// A name server, and the means to change what it answers.
async fn name_server() -> (SocketAddr, watch::Sender<Topology>) {
    // A port that is free for both.
    let (tcp, udp) = loop {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("an address")).await {
            break (tcp, udp);
        }
    };
    let address = tcp.local_addr().expect("an address");
    let names = Names::new("shop", "c1", "eu.example.org", ["w", "r1"].map(str::to_owned).into_iter());
    let (sender, topology) = watch::channel(Topology::default());
    tokio::spawn(dns::serve(udp, tcp, names, topology));
    (address, sender)
}

async fn by_udp(server: SocketAddr) -> Client<Provider> {
    let (client, background) =
        Client::<Provider>::from_sender(UdpClientStream::builder(server, Provider::default()).build());
    tokio::spawn(background);
    client
}

async fn by_tcp(server: SocketAddr) -> Client<Provider> {
    let (stream, sender) = TcpClientStream::new(server, None, None, Provider::default());
    let (client, background) = Client::<Provider>::new(stream.await.expect("a connection"), sender);
    tokio::spawn(background);
    client
}

/// Asks; answers the code, and each address with its time to live.
async fn ask(client: &mut Client<Provider>, name: &str, kind: RecordType) -> (ResponseCode, Vec<(String, u32)>) {
    let name = Name::from_ascii(name).expect("a name");
    let asked = tokio::time::timeout(Duration::from_secs(60), client.query(name, DNSClass::IN, kind)).await;
    let answer = asked.expect("in time").expect("an answer");
    let mut records: Vec<_> = answer.answers.iter().map(|record| (record.data.to_string(), record.ttl)).collect();
    records.sort();
    (answer.metadata.response_code, records)
}

#[tokio::test]
async fn names_are_answered_by_udp_and_tcp() {
    let (server, topology) = name_server().await;
    for mut client in [by_udp(server).await, by_tcp(server).await] {
        topology.send_replace(Topology {
            writer: Some(at(1)),
            readers: vec![at(2), at(3)],
            instances: [("w".to_owned(), at(1))].into(),
            ..Topology::default()
        });
        let address = |host: u8| (format!("127.0.0.{host}"), 5);
        let found = |hosts: &[u8]| (ResponseCode::NoError, hosts.iter().map(|host| address(*host)).collect::<Vec<_>>());
        let client = &mut client;
        assert_eq!(ask(client, "Shop.cluster-c1.eu.example.org.", RecordType::A).await, found(&[1]));
        assert_eq!(ask(client, "shop.cluster-ro-c1.eu.example.org.", RecordType::A).await, found(&[2, 3]));
        assert_eq!(ask(client, "w.c1.eu.example.org.", RecordType::A).await, found(&[1]));
        assert_eq!(
            ask(client, "w.c1.eu.example.org.", RecordType::AAAA).await,
            found(&[]),
            "there, but no such address"
        );
        let nothing = |code| (code, Vec::new());
        assert_eq!(ask(client, "r1.c1.eu.example.org.", RecordType::A).await, nothing(ResponseCode::ServFail));
        assert_eq!(ask(client, "r9.c1.eu.example.org.", RecordType::A).await, nothing(ResponseCode::NXDomain));
        assert_eq!(ask(client, "example.com.", RecordType::A).await, nothing(ResponseCode::Refused));
        topology.send_modify(|topology| topology.writer = Some(at(2)));
        assert_eq!(
            ask(client, "shop.cluster-c1.eu.example.org.", RecordType::A).await,
            found(&[2]),
            "after a failover"
        );
        topology.send_replace(Topology::default());
        let nobody = ask(client, "shop.cluster-c1.eu.example.org.", RecordType::A).await;
        assert_eq!(nobody, nothing(ResponseCode::ServFail), "never an old writer");
    }
}

/// Rubbish does no harm: whoever asks next is answered.
#[tokio::test]
async fn rubbish_harms_nobody() {
    let (server, topology) = name_server().await;
    topology.send_replace(Topology { writer: Some(at(1)), ..Topology::default() });
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    for rubbish in [&b""[..], b"x", &[0xff; 12], &[0; 12], &[0xc0; 600]] {
        socket.send_to(rubbish, server).await.expect("sent");
    }
    let (code, records) = ask(&mut by_udp(server).await, "shop.cluster-c1.eu.example.org.", RecordType::A).await;
    assert_eq!((code, records.len()), (ResponseCode::NoError, 1));
}
