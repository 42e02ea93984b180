//! The files that people write for each role.

use super::{Target, text};
use auriga_admin::backup::BackupConfig;
use auriga_admin::config::{InstanceConfig, RegionConfig, StorageConfig};
use auriga_control::config::ControlConfig;
use auriga_gateway::config::GatewayConfig;

/// An input is a file.
pub struct Config;

fn read<T: serde::de::DeserializeOwned>(input: &str) -> String {
    // What is said of a file that is none quotes it.
    match toml::from_str::<T>(input) {
        Ok(_) => "sound".into(),
        Err(error) => error.message().chars().filter(char::is_ascii_lowercase).take(24).collect(),
    }
}

impl Target for Config {
    fn corpus(&self) -> Vec<Vec<u8>> {
        let names = ["storage", "instance", "reader", "control", "gateway", "any", "region", "backup"];
        names.iter().map(|name| text(&format!("examples/{name}.toml")).into_bytes()).collect()
    }

    fn run(&mut self, input: &[u8]) -> String {
        let Ok(input) = std::str::from_utf8(input) else { return "no text".into() };
        let all = [
            read::<StorageConfig>,
            read::<InstanceConfig>,
            read::<ControlConfig>,
            read::<GatewayConfig>,
            read::<RegionConfig>,
            read::<BackupConfig>,
        ];
        all.map(|read| read(input)).join(", ")
    }
}
