//! A demo as one region of a global database: the region's process, and where it reaches the others.

use super::layout::{ADMIN_PORT, Layout, READERS_PORT};
use auriga_admin::config::{ReadersConfig, RegionAddress, RegionConfig};
use auriga_admin::looking::InstanceAddress;
pub use auriga_admin::member::{parse_region as parse, region_name as name};
use auriga_gateway::forward::settings::ForwardRegion;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The port of a region's process, and of the wires to others.
const REGION_PORT: u16 = 7405;
/// The host part of the address of a region's process.
const REGION_HOST: u8 = 41;
/// The host part of the first wire's address: that to region 1.
const FIRST_WIRE: u8 = 51;

/// Which region it is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegionLayout {
    /// The global database's name.
    pub global: String,
    /// Its number: 1 and on.
    pub number: u16,
    /// The primary when the global database was created.
    pub first_primary: u16,
    /// The regions that there are, this one included.
    pub regions: u16,
}

impl Layout {
    /// Where this region's process listens.
    pub fn region_address(&self) -> SocketAddr {
        self.address(REGION_HOST, REGION_PORT)
    }

    /// Where this region's process listens for readers, while its region is a secondary.
    pub fn region_readers(&self) -> SocketAddr {
        self.address(REGION_HOST, READERS_PORT)
    }

    /// Where this region's process answers about itself.
    pub fn region_admin(&self) -> SocketAddr {
        self.address(REGION_HOST, ADMIN_PORT)
    }

    /// Where this region reaches another one: its end of the wire.
    pub fn wire_address(&self, to: u16) -> SocketAddr {
        // There are far fewer regions than addresses.
        self.address(FIRST_WIRE.saturating_add(to as u8 - 1), REGION_PORT)
    }

    /// Where this region reaches the admin port of another one's instance.
    pub fn wire_to_admin(&self, to: u16) -> SocketAddr {
        SocketAddr::new(self.wire_address(to).ip(), ADMIN_PORT)
    }

    /// Where this region reaches PostgreSQL of another one's instance.
    pub fn wire_to_postgres(&self, to: u16) -> SocketAddr {
        SocketAddr::new(self.wire_address(to).ip(), self.port)
    }

    /// The other regions, as this one's gateway finds the one that writes.
    pub(super) fn forward_regions(&self) -> Vec<ForwardRegion> {
        let region = |to: u16| ForwardRegion {
            region: to,
            cluster: name(to),
            postgres: Some(self.wire_to_postgres(to)),
            instances: vec![InstanceAddress { name: Layout::instance_name(0), admin: self.wire_to_admin(to), size: 0 }],
        };
        let own = self.region.iter();
        own.flat_map(|own| (1..=own.regions).filter(|to| *to != own.number).map(region)).collect()
    }

    /// Where each region is, as seen from this one.
    pub fn region_addresses(&self, region: &RegionLayout) -> Vec<RegionAddress> {
        let address = |to| if to == region.number { self.region_address() } else { self.wire_address(to) };
        (1..=region.regions).map(|to| RegionAddress { region: to, address: address(to) }).collect()
    }

    /// Configuration of this region's process.
    pub(super) fn region_config(&self, region: &RegionLayout, name: &str) -> RegionConfig {
        RegionConfig {
            global: region.global.clone(),
            region: region.number,
            first_primary: region.first_primary,
            name: name.to_owned(),
            regions: self.region_addresses(region),
            cluster: self.cluster.clone(),
            volume: 1,
            identity: std::fs::read_to_string(self.identity_file()).ok().map(|text| text.trim().to_owned()),
            groups: self.groups,
            allocation_limit: self.allocation_limit,
            instances: (0..=self.readers)
                .map(|number| SocketAddr::new(self.instance_host(number), READERS_PORT))
                .collect(),
            admin: Some(self.region_admin()),
            readers: Some(ReadersConfig { listen: self.region_readers() }),
            trace: self.trace_file(name),
            insecure: false,
            tls: self.tls(name),
            storage: self.storage_addresses(),
        }
    }
}
