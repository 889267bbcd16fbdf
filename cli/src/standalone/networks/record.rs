//! Networks that users make: a bridge, a range of addresses and a table of rules each, apart from all others; or, with the
//! driver macvlan, a range on a link of this machine. What is written down is enough to make them again after a reboot,
//! which the first container on them does.
//!
//! ```text
//! DATA_DIR/networks/NAME/record      what it is, as JSON
//! DATA_DIR/networks/NAME/names/...   who answers to which names (`names`)
//! ```

use crate::filter::labelled;
use crate::settings::Settings;
use crate::standalone::places;
use anyhow::{Context, bail};
use jiff::Timestamp;
use knarr_agent::config::Config;
use knarr_agent::engine::network::bridge::{Apart, BridgeNetwork};
use knarr_agent::engine::network::cidr::Cidr;
use knarr_agent::engine::network::macvlan::{self, MacvlanNetwork, Mode, Wire};
use knarr_agent::engine::network::part::PartNetwork;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) const BRIDGE_DRIVER: &str = "bridge";
pub(crate) const MACVLAN_DRIVER: &str = "macvlan";
/// What names of bridges begin with; twelve digits of the id follow, which the kernel has room for.
const BRIDGE: &str = "br-";
const MTU_OPTION: &str = "com.docker.network.driver.mtu";
const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";
const PARENT_OPTION: &str = "parent";
const MODE_OPTION: &str = "macvlan_mode";

/// One network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) created: Timestamp,
    #[serde(default = "bridge_driver")]
    pub(crate) driver: String,
    pub(crate) subnet: String,
    pub(crate) second_subnet: Option<String>,
    /// The bridge's own address, where it is not the first one.
    #[serde(default)]
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Where addresses come from.
    #[serde(default)]
    pub(crate) ip_range: Option<String>,
    /// Addresses that are nobody's, by names.
    #[serde(default)]
    pub(crate) reserved: BTreeMap<String, IpAddr>,
    pub(crate) internal: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) options: BTreeMap<String, String>,
}

fn bridge_driver() -> String {
    BRIDGE_DRIVER.to_owned()
}

impl Record {
    /// `NAME[=VALUE]`.
    pub(crate) fn is_labelled(&self, wanted: &str) -> bool {
        labelled(|name| self.labels.get(name).map(String::as_str), wanted)
    }

    pub(crate) fn is_bridge(&self) -> bool {
        self.driver == BRIDGE_DRIVER
    }

    /// The network itself, for containers in this directory; the kernel is not touched yet.
    pub(crate) fn open(
        &self,
        settings: &Settings,
        data_dir: PathBuf,
    ) -> anyhow::Result<Arc<dyn PartNetwork>> {
        let config = Config { data_dir, ..self.config(settings) };
        Ok(match self.is_bridge() {
            true => BridgeNetwork::apart(&config, self.apart(settings)?)?,
            false => MacvlanNetwork::new(&config, self.wire(settings)?)?,
        })
    }

    /// Whether nothing beyond it is reached.
    pub(crate) fn ends_here(&self) -> bool {
        self.internal || !self.is_bridge() && !self.options.contains_key(PARENT_OPTION)
    }

    /// The link that a macvlan network stands on.
    pub(crate) fn parent(&self) -> String {
        let own = self.options.get(PARENT_OPTION).cloned();
        own.unwrap_or_else(|| macvlan::inner(&self.id))
    }

    /// The same, and how.
    pub(crate) fn wire(&self, settings: &Settings) -> anyhow::Result<Wire> {
        let Apart { gateway, within, reserved, .. } = self.apart(settings)?;
        let parent = self.parent();
        let mode = Mode::named(self.options.get(MODE_OPTION).map_or("", String::as_str))?;
        let shared = self.beside(settings)?.next().is_some();
        Ok(Wire { parent, mode, shared, internal: self.ends_here(), gateway, within, reserved })
    }

    /// Other networks on the same link.
    pub(crate) fn beside(&self, settings: &Settings) -> anyhow::Result<impl Iterator<Item = Self>> {
        let (parent, id) = (self.parent(), self.id.clone());
        let same = move |other: &Self| !other.is_bridge() && other.id != id && other.parent() == parent;
        Ok(all(settings)?.into_iter().filter(same))
    }

    pub(crate) fn bridge(&self) -> String {
        let own = self.options.get(BRIDGE_OPTION).cloned();
        own.unwrap_or_else(|| format!("{BRIDGE}{}", &self.id[..12]))
    }

    /// The node's settings with this network in the place of the one that all containers share.
    pub(crate) fn config(&self, settings: &Settings) -> Config {
        let mut config = settings.node.clone();
        config.network = config.run_network.clone();
        config.network.dir = Some(settings.node.data_dir.join("run-network"));
        config.network.bridge = self.bridge();
        config.network.table = format!("knarr-net-{}", &self.id[..12]);
        config.network.pod_cidr.clone_from(&self.subnet);
        config.network.cluster_cidr.clone_from(&self.subnet);
        config.network.pod_cidr_v6.clone_from(&self.second_subnet);
        config.network.cluster_cidr_v6.clone_from(&self.second_subnet);
        config.network.mtu = self.options.get(MTU_OPTION).and_then(|text| text.parse().ok());
        config
    }

    /// What keeps it apart from others.
    pub(crate) fn apart(&self, settings: &Settings) -> anyhow::Result<Apart> {
        Ok(Apart {
            internal: self.internal,
            others: vec![settings.node.run_network.bridge.clone()],
            gateway: self.gateway,
            within: self.ip_range.as_deref().map(Cidr::parse).transpose()?,
            reserved: self.reserved.values().copied().collect(),
        })
    }

    /// The bridge's own address.
    pub(crate) fn gateway(&self) -> anyhow::Result<Ipv4Addr> {
        Ok(self.gateway.unwrap_or(Cidr::parse(&self.subnet)?.gateway()))
    }

    pub(crate) fn directory(&self, settings: &Settings) -> PathBuf {
        directory(settings).join(&self.name)
    }

    /// Writes it down for the first time.
    pub(crate) fn keep(&self, settings: &Settings) -> anyhow::Result<()> {
        let directory = self.directory(settings);
        std::fs::create_dir_all(&directory).with_context(|| format!("mkdir {}", directory.display()))?;
        let (file, new) = (directory.join("record"), directory.join("record.new"));
        let written =
            std::fs::write(&new, serde_json::to_vec(self)?).and_then(|()| std::fs::rename(&new, &file));
        written.with_context(|| format!("write {}", file.display()))
    }
}

fn directory(settings: &Settings) -> PathBuf {
    settings.node.data_dir.join("networks")
}

/// All of them, by name.
pub(crate) fn all(settings: &Settings) -> anyhow::Result<Vec<Record>> {
    let directory = directory(settings);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("{}", directory.display())),
    };
    let mut found: Vec<Record> = Vec::new();
    for entry in entries {
        // One whose record was never written was never made.
        let Ok(text) = std::fs::read(entry?.path().join("record")) else { continue };
        let record = serde_json::from_slice::<Record>(&text).ok();
        found.extend(record.filter(|record| is_id(&record.id)));
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Names of bridges and tables are made of it.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// By name, by id, or by the beginning of an id.
pub(crate) fn find(settings: &Settings, wanted: &str) -> anyhow::Result<Option<Record>> {
    let all = all(settings)?;
    let found = all.iter().find(|record| record.name == wanted).or_else(|| {
        let mut by_id = all.iter().filter(|record| wanted.len() >= 3 && record.id.starts_with(wanted));
        by_id.next().filter(|_| by_id.next().is_none())
    });
    Ok(found.cloned())
}

/// The same where there must be one, in the words of a container that wants it.
pub(crate) fn expect(settings: &Settings, wanted: &str) -> anyhow::Result<Record> {
    find(settings, wanted)?.with_context(|| format!("network {wanted} not found"))
}

/// Held while networks are made or removed.
pub(crate) async fn alone(settings: &Settings) -> anyhow::Result<places::Lock> {
    places::alone_with(settings, ".networks").await
}

/// Ranges of which the first that meets nothing is a new network's: Docker's own.
pub(crate) fn free_range(taken: &[Cidr]) -> anyhow::Result<Cidr> {
    let large = (17..32).map(|second| format!("172.{second}.0.0/16"));
    let small = (0..16).map(|part| format!("192.168.{}.0/20", part * 16));
    for text in large.chain(small) {
        let range = Cidr::parse(&text)?;
        if !taken.iter().any(|other| other.meets(range)) {
            return Ok(range);
        }
    }
    bail!(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )
}

/// The ranges that this machine has routes to, but for the default route.
pub(crate) fn routed(table: &str) -> Vec<Cidr> {
    let range = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |place: usize| u32::from_str_radix(fields.get(place)?, 16).ok().map(u32::swap_bytes);
        let (destination, mask) = (number(1)?, number(7)?);
        let network = Ipv4Addr::from(destination & mask);
        Cidr::parse(&format!("{network}/{}", mask.count_ones())).ok().filter(|range| range.prefix() > 0)
    };
    table.lines().skip(1).filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_range_meets_nothing() {
        let table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                     eth0 00000000 0100000A 0003 0 0 0 00000000 0 0 0\n\
                     br 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n";
        let taken = routed(table);
        assert_eq!(taken.len(), 1);
        assert_eq!(taken[0].to_string(), "172.17.0.0/16");
        assert_eq!(free_range(&taken).unwrap().to_string(), "172.18.0.0/16");
        let all = [Cidr::parse("172.16.0.0/12").unwrap(), Cidr::parse("192.168.0.0/16").unwrap()];
        assert_eq!(free_range(&all[..1]).unwrap().to_string(), "192.168.0.0/20");
        assert!(free_range(&all).is_err());
    }
}
