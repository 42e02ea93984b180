//! Names of a cluster's endpoints, in Aurora's form, and the addresses that they stand for: decided without I/O.
//!
//! | name | stands for |
//! |---|---|
//! | `CLUSTER.cluster-ID.DOMAIN` | the newest writer |
//! | `CLUSTER.cluster-ro-ID.DOMAIN` | the readers, in any order; the writer where there is none |
//! | `INSTANCE.ID.DOMAIN` | this instance, whatever it does |

use crate::topology::Topology;
use std::net::{IpAddr, SocketAddr};

/// The names of one cluster, in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Names {
    cluster: String,
    id: String,
    domain: String,
    instances: Vec<String>,
}

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// These addresses, the first one to be tried first.
    Addresses(Vec<IpAddr>),
    /// The name is the cluster's, and nobody is there who could serve it: to be asked again.
    Nobody,
    /// There is no such name in the cluster's domain.
    Unknown,
    /// The domain is not the cluster's.
    Elsewhere,
}

impl Names {
    /// The names of a cluster of these instances.
    pub fn new(cluster: &str, id: &str, domain: &str, instances: impl Iterator<Item = String>) -> Names {
        let lower = |text: &str| text.trim_matches('.').to_ascii_lowercase();
        let instances = instances.map(|name| lower(&name)).collect();
        Names { cluster: lower(cluster), id: lower(id), domain: lower(domain), instances }
    }

    /// The name of the writer endpoint.
    pub fn writer(&self) -> String {
        format!("{}.cluster-{}.{}", self.cluster, self.id, self.domain)
    }

    /// The name of the reader endpoint.
    pub fn reader(&self) -> String {
        format!("{}.cluster-ro-{}.{}", self.cluster, self.id, self.domain)
    }

    /// Looks a name up, with or without a dot at its end.
    pub fn look_up(&self, name: &str, topology: &Topology) -> Found {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let Some(below) = name.strip_suffix(&self.domain) else { return Found::Elsewhere };
        if below.is_empty() {
            return Found::Unknown;
        }
        let Some(below) = below.strip_suffix('.') else { return Found::Elsewhere };
        let Some((host, zone)) = below.rsplit_once('.') else { return Found::Unknown };
        match zone.strip_prefix("cluster-") {
            Some(id) if id == self.id && host == self.cluster => stands_for(topology.writer),
            Some(id) if id.strip_prefix("ro-") == Some(&self.id) && host == self.cluster => {
                match topology.readers.is_empty() {
                    true => stands_for(topology.writer),
                    false => stands_for(topology.readers.iter().copied()),
                }
            }
            None if zone == self.id && self.instances.iter().any(|instance| instance == host) => {
                let is_meant = |(name, _): &(&String, &SocketAddr)| name.eq_ignore_ascii_case(host);
                stands_for(topology.instances.iter().find(is_meant).map(|(_, address)| *address))
            }
            _ => Found::Unknown,
        }
    }
}

fn stands_for(addresses: impl IntoIterator<Item = SocketAddr>) -> Found {
    let addresses: Vec<IpAddr> = addresses.into_iter().map(|address| address.ip()).collect();
    if addresses.is_empty() { Found::Nobody } else { Found::Addresses(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, host], 5432))
    }

    fn found(hosts: &[u8]) -> Found {
        Found::Addresses(hosts.iter().map(|host| at(*host).ip()).collect())
    }

    #[test]
    fn each_name_stands_for_who_is_there_now() {
        let instances = ["w", "R1", "r2"].map(str::to_owned).into_iter();
        let names = Names::new("Shop", "c1", "eu.example.org.", instances);
        let mut topology = Topology { writer: Some(at(1)), readers: vec![at(2), at(3)], ..Topology::default() };
        topology.instances = [("w", 1), ("R1", 2)].map(|(name, host)| (name.to_owned(), at(host))).into();
        let look = |topology: &Topology, name: &str| names.look_up(name, topology);
        assert_eq!(look(&topology, &names.writer()), found(&[1]));
        assert_eq!(look(&topology, "SHOP.cluster-c1.eu.example.org."), found(&[1]));
        assert_eq!(look(&topology, &names.reader()), found(&[2, 3]));
        assert_eq!(look(&topology, "r1.c1.eu.example.org"), found(&[2]));
        assert_eq!(look(&topology, "r2.c1.eu.example.org"), Found::Nobody, "it has not been seen");
        let unknown = ["eu.example.org", "r3.c1.eu.example.org", "w.cluster-c1.eu.example.org", "c1.eu.example.org"];
        unknown.iter().for_each(|name| assert_eq!(look(&topology, name), Found::Unknown, "{name}"));
        let unknown = ["shop.cluster-c2.eu.example.org", "shop.cluster-ro-c2.eu.example.org", "w.c2.eu.example.org"];
        unknown.iter().for_each(|name| assert_eq!(look(&topology, name), Found::Unknown, "{name}"));
        for name in ["example.org", "w.c1.neu.example.org", "", "xeu.example.org"] {
            assert_eq!(look(&topology, name), Found::Elsewhere, "{name}");
        }
        topology.readers.clear();
        assert_eq!(look(&topology, &names.reader()), found(&[1]), "the writer, where there is no reader");
        topology.writer = None;
        assert_eq!(look(&topology, &names.reader()), Found::Nobody);
        assert_eq!(look(&topology, &names.writer()), Found::Nobody, "never an old writer");
    }
}
