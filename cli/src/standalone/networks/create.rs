//! `knarr network create`: what is asked for is checked and written down; the first container makes the bridge. The link that
//! a macvlan network stands on is made at once: whether it can be is what may be wrong with it.

use super::Known;
use super::record::{self, BRIDGE_DRIVER, MACVLAN_DRIVER, Record};
use crate::args::CreateNetwork;
use crate::output;
use crate::settings::Settings;
use crate::standalone::plan;
use anyhow::{Context, bail};
use jiff::Timestamp;
use knarr_agent::engine::network::cidr::Cidr;
use knarr_agent::engine::network::macvlan::Mode;
use knarr_agent::engine::network::pod_range::PodRange;
use knarr_images::Digest;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Makes it, and prints its id.
pub(super) async fn run(settings: &Settings, wanted: &CreateNetwork) -> anyhow::Result<()> {
    check(wanted)?;
    let _alone = record::alone(settings).await?;
    let known = record::all(settings)?;
    if known.iter().any(|record| record.name == wanted.name) {
        bail!("network with name {} already exists", wanted.name);
    }
    let (first, second) = subnets(wanted)?;
    if first.is_none() && !(wanted.ip_range.is_empty() && wanted.gateway.is_empty()) && second.is_none() {
        bail!("every ip-range or gateway must have a corresponding subnet");
    }
    let subnet = range(settings, &known, first)?;
    let created = Timestamp::now();
    let id =
        Digest::of(format!("{} {created} {}", wanted.name, std::process::id()).as_bytes()).hex().to_owned();
    let second = second.or_else(|| wanted.ipv6.then(|| unique_local(&id)));
    let both = PodRange::parse(
        &second.iter().fold(subnet.to_string(), |first, second| format!("{first},{second}")),
    )?;
    let record = Record {
        name: wanted.name.clone(),
        id,
        created,
        driver: wanted.driver.clone(),
        subnet: subnet.to_string(),
        second_subnet: both.to_string().split_once(',').map(|(_, second)| second.to_owned()),
        gateway: gateway(wanted, both)?,
        ip_range: ip_range(wanted, subnet)?,
        reserved: reserved(wanted, both)?,
        internal: wanted.internal,
        labels: pairs(&wanted.label),
        options: pairs(&wanted.opt),
    };
    // Whatever is wrong with it is said now, not by the first container.
    match record.is_bridge() {
        true => bridge_is_free(settings, &known, &record.bridge())?,
        false => wire_is_free(settings, &record)?,
    }
    let network = record.open(settings, settings.node.data_dir.clone())?;
    if !record.is_bridge() {
        network.ready().await.map_err(anyhow::Error::msg)?;
    }
    record.keep(settings)?;
    Known::Made(Box::new(record.clone())).tell(settings, "create", &[]);
    output::line(&record.id);
    Ok(())
}

fn check(wanted: &CreateNetwork) -> anyhow::Result<()> {
    if plan::is_built_in(&wanted.name) {
        bail!("operation is not permitted on predefined {} network", wanted.name);
    }
    if ![BRIDGE_DRIVER, MACVLAN_DRIVER].contains(&wanted.driver.as_str()) {
        bail!("plugin \"{}\" not found", wanted.driver);
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let first = wanted.name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if !first || wanted.name.len() > 128 || !wanted.name.chars().all(legal) {
        bail!("invalid network name ({}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", wanted.name);
    }
    Ok(())
}

/// One range of each family at most.
fn subnets(wanted: &CreateNetwork) -> anyhow::Result<(Option<Cidr>, Option<String>)> {
    let (second, first): (Vec<&String>, Vec<&String>) =
        wanted.subnet.iter().partition(|text| text.contains(':'));
    if first.len() > 1 || second.len() > 1 {
        bail!("{} driver doesn't support multiple subnets", wanted.driver);
    }
    let first = first.first().map(|text| Cidr::parse(text)).transpose()?;
    Ok((first, second.first().map(|text| (*text).clone())))
}

/// The range that was asked for, or a free one.
fn range(settings: &Settings, known: &[Record], wanted: Option<Cidr>) -> anyhow::Result<Cidr> {
    let node = &settings.node;
    let own = known.iter().map(|record| record.subnet.as_str());
    let own = own.chain([node.run_network.pod_cidr.as_str(), &node.network.pod_cidr]);
    let mut taken = own.map(Cidr::parse).collect::<anyhow::Result<Vec<_>>>()?;
    let Some(wanted) = wanted else {
        let routes = std::fs::read_to_string("/proc/net/route").context("read /proc/net/route")?;
        taken.extend(record::routed(&routes));
        return record::free_range(&taken);
    };
    if taken.iter().any(|other| other.meets(wanted)) {
        bail!("invalid pool request: Pool overlaps with other one on this address space");
    }
    Ok(wanted)
}

/// A bridge goes with its network, so it is no other one's, nor the machine's own.
fn bridge_is_free(settings: &Settings, known: &[Record], bridge: &str) -> anyhow::Result<()> {
    let node = &settings.node;
    let taken = known.iter().any(|other| other.bridge() == bridge)
        || [&*node.run_network.bridge, &*node.network.bridge].contains(&bridge);
    if taken {
        bail!("bridge name {bridge:?} conflicts with another network: networks have same bridge name");
    }
    if Path::new("/sys/class/net").join(bridge).symlink_metadata().is_ok() {
        bail!("bridge name {bridge:?} is taken by a link of this machine");
    }
    Ok(())
}

/// A link that is passed through to one container has room for no other network.
fn wire_is_free(settings: &Settings, record: &Record) -> anyhow::Result<()> {
    let wire = record.wire(settings)?;
    if wire.parent == "lo" {
        bail!("loopback interface is not a valid macvlan parent link");
    }
    for other in record.beside(settings)? {
        if wire.mode == Mode::Passthru {
            bail!(
                "cannot use mode passthru, macvlan network {} is already using parent interface {}",
                other.id,
                wire.parent
            );
        }
        if other.wire(settings)?.mode == Mode::Passthru {
            bail!(
                "macvlan network {} is already using parent interface {} in mode passthru",
                other.id,
                wire.parent
            );
        }
    }
    Ok(())
}

/// The bridge's own address, where it is not the first of the range.
fn gateway(wanted: &CreateNetwork, both: PodRange) -> anyhow::Result<Option<Ipv4Addr>> {
    let (first, _) = both.gateway();
    let mut chosen = None;
    for address in &wanted.gateway {
        match address {
            IpAddr::V4(own) if both.has(*address) => {
                chosen = Some(*own).filter(|own| *own != first);
            }
            IpAddr::V6(own) if both.second_gateway().is_some_and(|(first, _)| first == *own) => {}
            IpAddr::V6(_) if both.has(*address) => {
                bail!("--gateway {address}: of IPv6 it is the first address, and no other one can be chosen")
            }
            _ => bail!("no matching subnet for gateway {address}"),
        }
    }
    Ok(chosen)
}

fn ip_range(wanted: &CreateNetwork, subnet: Cidr) -> anyhow::Result<Option<String>> {
    let mut chosen = None;
    for text in &wanted.ip_range {
        if text.contains(':') {
            bail!(
                "--ip-range {text}: an IPv6 address has the place of its IPv4 address, so there is no range of their own"
            );
        }
        let range = Cidr::parse(text)?;
        if !subnet.holds(range) {
            bail!("no matching subnet for range {text}");
        }
        chosen = Some(range.to_string());
    }
    Ok(chosen)
}

fn reserved(wanted: &CreateNetwork, both: PodRange) -> anyhow::Result<BTreeMap<String, IpAddr>> {
    let mut reserved = BTreeMap::new();
    for text in &wanted.aux_address {
        let (name, address) = text.split_once('=').unwrap_or(("", text));
        let address: IpAddr = address
            .parse()
            .with_context(|| format!("invalid argument \"{text}\" for \"--aux-address\" flag"))?;
        if !both.has(address) {
            bail!("no matching subnet for aux-address {address}");
        }
        reserved.insert(name.to_owned(), address);
    }
    Ok(reserved)
}

/// A range of its own, as RFC 4193 has it: its bits are the id's.
fn unique_local(id: &str) -> String {
    format!("fd{}:{}:{}::/64", &id[..2], &id[2..6], &id[6..10])
}

fn pairs(given: &[String]) -> BTreeMap<String, String> {
    let split = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    given.iter().map(split).collect()
}
