//! The name server of a gateway: answers for [`names`](crate::names) by UDP and TCP.

use crate::names::{Found, Names};
use crate::topology::Topology;
use hickory_server::net::NetError;
use hickory_server::net::runtime::Time;
use hickory_server::proto::op::{Header, HeaderCounts, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

/// How long an answer may be kept, in seconds.
const TTL_S: u32 = 5;
/// A TCP connection without a question for this long is closed.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Answers that wait for one slow TCP connection.
const WAITING_MAX: usize = 16;

/// Answers until the future is dropped.
///
/// # Errors
/// The sockets have failed.
pub async fn serve(
    udp: UdpSocket,
    tcp: TcpListener,
    names: Names,
    topology: watch::Receiver<Topology>,
) -> Result<(), NetError> {
    let mut server = Server::new(Answering { names, topology });
    server.register_socket(udp);
    server.register_listener(tcp, SILENCE_MAX, WAITING_MAX);
    server.block_until_done().await
}

struct Answering {
    names: Names,
    topology: watch::Receiver<Topology>,
}

impl Answering {
    /// Finds what the answer to a question is.
    fn answer(&self, name: &Name, class: DNSClass, kind: RecordType) -> (ResponseCode, Vec<Record>) {
        if class != DNSClass::IN {
            return (ResponseCode::Refused, Vec::new());
        }
        let addresses = match self.names.look_up(&name.to_ascii(), &self.topology.borrow()) {
            Found::Addresses(addresses) => addresses,
            Found::Nobody => return (ResponseCode::ServFail, Vec::new()),
            Found::Unknown => return (ResponseCode::NXDomain, Vec::new()),
            Found::Elsewhere => return (ResponseCode::Refused, Vec::new()),
        };
        let data = addresses.into_iter().filter_map(|address| match address {
            IpAddr::V4(address) if kind == RecordType::A => Some(RData::A(address.into())),
            IpAddr::V6(address) if kind == RecordType::AAAA => Some(RData::AAAA(address.into())),
            // A name that has addresses, but none of this kind.
            _ => None,
        });
        let mut records: Vec<Record> = data.map(|data| Record::from_rdata(name.clone(), TTL_S, data)).collect();
        fastrand::shuffle(&mut records);
        (ResponseCode::NoError, records)
    }
}

#[async_trait::async_trait]
impl RequestHandler for Answering {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut respond: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let (code, records) = match request.request_info() {
            Ok(asked) if request.metadata.op_code == OpCode::Query => {
                let query = asked.query.original();
                self.answer(query.name(), query.query_class(), query.query_type())
            }
            Ok(_) => (ResponseCode::NotImp, Vec::new()),
            Err(_) => (ResponseCode::FormErr, Vec::new()),
        };
        metadata.response_code = code;
        metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        let response = MessageResponseBuilder::from_message_request(request).build(metadata, &records, [], [], []);
        match respond.send_response(response).await {
            Ok(sent) => sent,
            Err(error) => {
                tracing::debug!(%error, "an answer could not be sent");
                metadata.response_code = ResponseCode::ServFail;
                Header { metadata, counts: HeaderCounts::default() }.into()
            }
        }
    }
}
