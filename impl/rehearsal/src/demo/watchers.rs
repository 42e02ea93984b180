//! The controller and the gateway of a demo that has readers.

use super::layout::{ADMIN_PORT, Layout};
use auriga_admin::looking::InstanceAddress;
use auriga_control::config::ControlConfig;
use auriga_control::controller::Limits;
use auriga_control::healing::HealingConfig;
use auriga_gateway::config::{DnsConfig, GatewayConfig, connections_max, wait_s};
use auriga_gateway::forward::settings::ForwardConfig;
use std::net::SocketAddr;

/// A storage process that is lost so long is replaced, in seconds.
pub const REPLACE_AFTER_S: u64 = 5;
/// The name of the controller.
pub const CONTROL: &str = "control";
/// The name of the gateway.
pub const GATEWAY: &str = "gateway";
/// The port of the controller.
const CONTROL_PORT: u16 = 7403;
/// The port of the gateway's name server.
const DNS_PORT: u16 = 7404;
/// The host part of the controller's address.
const CONTROL_HOST: u8 = 31;
/// The host part of the writer endpoint.
const WRITER_ENDPOINT: u8 = 32;
/// The host part of the reader endpoint.
const READER_ENDPOINT: u8 = 33;
/// The host part of the endpoint that forwards writes.
const FORWARDING_ENDPOINT: u8 = 34;

impl Layout {
    /// Where the controller answers.
    pub fn control_address(&self) -> SocketAddr {
        self.address(CONTROL_HOST, CONTROL_PORT)
    }

    /// Where the gateway takes connections to whoever writes.
    pub fn writer_endpoint(&self) -> SocketAddr {
        self.address(WRITER_ENDPOINT, self.port)
    }

    /// Where the gateway takes connections to readers.
    pub fn reader_endpoint(&self) -> SocketAddr {
        self.address(READER_ENDPOINT, self.port)
    }

    /// Where the gateway takes connections to readers whose writes it forwards.
    pub fn forwarding_endpoint(&self) -> SocketAddr {
        self.address(FORWARDING_ENDPOINT, self.port)
    }

    /// Forwarding by the gateway.
    fn forward_config(&self) -> ForwardConfig {
        ForwardConfig { regions: self.forward_regions(), ..ForwardConfig::usual(self.forwarding_endpoint()) }
    }

    /// The gateway's name server.
    pub fn dns_config(&self) -> DnsConfig {
        DnsConfig {
            listen: self.address(WRITER_ENDPOINT, DNS_PORT),
            id: self.network.map(|byte| byte.to_string()).join("-"),
            domain: "local.auriga.internal".to_owned(),
        }
    }

    /// Configuration of the controller.
    pub(super) fn control_config(&self) -> ControlConfig {
        ControlConfig {
            cluster: self.cluster.clone(),
            name: CONTROL.to_owned(),
            directory: self.dir.join(CONTROL),
            listen: self.control_address(),
            insecure: false,
            tls: self.tls(CONTROL),
            // Eleven processes and more share one machine: one that is starved for a second is not frozen.
            limits: Limits { silent_ms: 2_000, ..Limits::default() },
            instances: self.watched_instances(),
            healing: HealingConfig { enabled: self.heals, replace_after_s: REPLACE_AFTER_S },
            storage: self.fleet(),
        }
    }

    /// Configuration of the gateway.
    pub(super) fn gateway_config(&self) -> GatewayConfig {
        GatewayConfig {
            cluster: self.cluster.clone(),
            name: GATEWAY.to_owned(),
            writer: self.writer_endpoint(),
            reader: self.reader_endpoint(),
            connections_max: connections_max(),
            wait_s: wait_s(),
            insecure: false,
            tls: self.tls(GATEWAY),
            dns: Some(self.dns_config()),
            forward: Some(self.forward_config()),
            instances: self.watched_instances(),
        }
    }

    fn watched_instances(&self) -> Vec<InstanceAddress> {
        let address = |number| SocketAddr::new(self.instance_host(number), ADMIN_PORT);
        (0..=self.readers)
            .map(|number| InstanceAddress { name: Self::instance_name(number), admin: address(number), size: 0 })
            .collect()
    }
}
