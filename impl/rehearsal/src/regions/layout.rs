//! Who is where in a demo of several regions: each region is a demo of its own, on a network of its own.

use super::wan::WanOptions;
use crate::demo::certificates;
use crate::demo::layout::Layout;
use crate::demo::region::{RegionLayout, name};
use crate::demo::{DemoError, Options, place};
use auriga_admin::storage::cluster_id;
use auriga_admin::trust;
use auriga_net::tls::CredentialError;
use auriga_protocol::RegionId;
use auriga_region::LinkConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The name of the global database.
const GLOBAL: &str = "demo";
/// The primary at first.
const FIRST_PRIMARY: u16 = 1;
/// Regions of a demo where nobody says how many.
pub const REGIONS_USUAL: u16 = 2;
/// Most regions of a demo.
pub const REGIONS_MAX: u16 = 6;

/// A demo's fixed facts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GlobalLayout {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// Each region, in the order of their numbers.
    pub regions: Vec<Layout>,
    /// The network between them at first.
    pub wan: WanOptions,
}

impl GlobalLayout {
    /// The facts of a demo of so many regions, of which each is made from `options`; networks count up by region.
    pub(crate) fn new(options: &Options, regions: u16, wan: WanOptions) -> Result<GlobalLayout, DemoError> {
        let dir = place::directory(options.dir.as_ref())?;
        let [a, b, c] = options.network;
        let layout = |number: u16| {
            let region = RegionLayout { global: GLOBAL.to_owned(), number, first_primary: FIRST_PRIMARY, regions };
            place::layout(Options {
                dir: Some(dir.join(name(number))),
                // The command line has seen to it that there are so many.
                network: [a, b, c.saturating_add(number as u8 - 1)],
                region: Some(region),
                ..options.clone()
            })
        };
        let layouts = (1..=regions).map(layout).collect::<Result<_, _>>()?;
        Ok(GlobalLayout { dir, regions: layouts, wan })
    }

    /// The numbers of the regions.
    pub fn numbers(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.regions.len() as u16
    }

    /// The facts of one region; `None`: there is no such region.
    pub fn region(&self, number: u16) -> Option<&Layout> {
        self.regions.get(usize::from(number).checked_sub(1)?)
    }

    /// How regions are asked by somebody to whom the network between them is nothing.
    ///
    /// # Errors
    /// The demo's certificates can't be read.
    pub fn beside(&self) -> Result<LinkConfig, CredentialError> {
        let regions = self.numbers().zip(&self.regions);
        self.link(regions.map(|(number, layout)| (RegionId(number), layout.region_address())).collect())
    }

    /// How regions are asked by somebody who is in one of them, and reaches the others over the network between them.
    ///
    /// # Errors
    /// The demo's certificates can't be read, or there is no such region.
    pub fn within(&self, number: u16) -> Result<LinkConfig, Box<dyn std::error::Error>> {
        let there_are = || self.numbers().map(name).collect::<Vec<_>>().join(", ");
        let unknown = || format!("there is no {}; there are: {}", name(number), there_are());
        let layout = self.region(number).ok_or_else(unknown)?;
        let addresses = layout.region.iter().flat_map(|region| layout.region_addresses(region));
        Ok(self.link(addresses.map(|region| (RegionId(region.region), region.address)).collect())?)
    }

    fn link(
        &self,
        regions: std::collections::BTreeMap<RegionId, std::net::SocketAddr>,
    ) -> Result<LinkConfig, CredentialError> {
        let tls = self.regions.iter().find_map(|layout| layout.tls(certificates::ADMIN));
        let credentials = trust::credentials(tls.as_ref())?;
        Ok(LinkConfig { name: certificates::ADMIN.to_owned(), global: cluster_id(GLOBAL), credentials, regions })
    }
}
