//! `knarr network`: the three networks that are always there, and those that users make (`record`), on which containers know
//! each other by name (`names`).

mod connect;
mod create;
pub(crate) mod endpoint;
pub(crate) mod membership;
pub(crate) mod names;
pub(crate) mod record;
pub(crate) mod remove;
pub(crate) mod wanted;

use super::facts::Facts;
use super::ps;
use crate::args::{LsNetworks, Network as Command};
use crate::events::{Event, Journal, Kind};
use crate::filter;
use crate::settings::Settings;
use crate::{confirm, inspection, output, template};
use anyhow::{Context, bail};
use jiff::Timestamp;
use knarr_agent::engine::network::cidr::Cidr;
use knarr_agent::engine::network::pod_range::PodRange;
use knarr_images::Digest;
use record::Record;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Name and driver of each that is always there.
const NETWORKS: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "null")];

/// Header and field of each column.
const COLUMNS: [(&str, &str); 4] =
    [("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("SCOPE", "Scope")];

/// One of the network commands.
pub(crate) async fn run(settings: &Settings, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Create(wanted) => create::run(settings, &wanted).await,
        Command::Connect(wanted) => connect::run(settings, &wanted).await,
        Command::Disconnect(wanted) => connect::undo(settings, &wanted).await,
        Command::Ls(arguments) => list(settings, &arguments).await,
        Command::Rm { names, force } => remove::run(settings, &names, force).await,
        Command::Prune { filter, force } => {
            match confirm::removal(force, " all custom networks not used by at least one container.")? {
                true => remove::prune(settings, &filter).await,
                false => Ok(()),
            }
        }
        Command::Inspect { format, names, verbose: _ } => {
            let facts = ps::facts(settings).await?;
            let found = names.iter().map(|name| document(settings, name, &facts)).collect();
            inspection::print(found, format.as_deref())
        }
    }
}

/// One of either kind.
pub(super) enum Known {
    BuiltIn(&'static str, &'static str),
    Made(Box<Record>),
}

impl Known {
    pub(super) fn all(settings: &Settings) -> anyhow::Result<Vec<Self>> {
        let mut all: Vec<Self> =
            NETWORKS.into_iter().map(|(name, driver)| Self::BuiltIn(name, driver)).collect();
        all.extend(record::all(settings)?.into_iter().map(|record| Self::Made(Box::new(record))));
        all.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(all)
    }

    /// The bridge of all who ask for nothing else.
    pub(super) fn shared() -> Self {
        Self::BuiltIn(NETWORKS[0].0, NETWORKS[0].1)
    }

    /// One that is always there.
    pub(super) fn named(name: &str) -> Option<Self> {
        NETWORKS
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(name, driver)| Self::BuiltIn(name, driver))
    }

    /// By name, by id, or by the beginning of an id.
    pub(super) fn find(settings: &Settings, wanted: &str) -> anyhow::Result<Self> {
        let mut all = Self::all(settings)?;
        let found = all.iter().position(|network| network.name() == wanted).or_else(|| {
            all.iter().position(|network| wanted.len() >= 3 && network.id(settings).starts_with(wanted))
        });
        Ok(all.swap_remove(found.with_context(|| format!("network {wanted} not found"))?))
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::BuiltIn(name, _) => name,
            Self::Made(record) => &record.name,
        }
    }

    fn driver(&self) -> &str {
        match self {
            Self::BuiltIn(_, driver) => driver,
            Self::Made(record) => &record.driver,
        }
    }

    /// That of one that is always there is the same for as long as the settings are the same.
    pub(super) fn id(&self, settings: &Settings) -> String {
        match self {
            Self::BuiltIn(name, _) => {
                let known = format!("{} {name}", settings.node.run_network.bridge);
                Digest::of(known.as_bytes()).hex().to_owned()
            }
            Self::Made(record) => record.id.clone(),
        }
    }

    /// Something that happened to it.
    fn tell(&self, settings: &Settings, action: &str, more: &[(&str, String)]) {
        let own = [("name", self.name().to_owned()), ("type", self.driver().to_owned())];
        let attributes = own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.clone()));
        let event = Event::now(Kind::Network, action, &self.id(settings), attributes.collect());
        Journal::of(settings).note(&event);
    }

    fn created(&self) -> Option<Timestamp> {
        match self {
            Self::BuiltIn(..) => None,
            Self::Made(record) => Some(record.created),
        }
    }

    fn row(&self, settings: &Settings, whole: bool) -> Value {
        let id = self.id(settings);
        let (internal, ipv6, labels) = match self {
            Self::BuiltIn(..) => (false, false, String::new()),
            Self::Made(record) => {
                let labels = record.labels.iter().map(|(name, value)| format!("{name}={value}"));
                (record.internal, record.second_subnet.is_some(), labels.collect::<Vec<_>>().join(","))
            }
        };
        json!({
            "ID": if whole { &id } else { &id[..12] }, "Name": self.name(), "Driver": self.driver(),
            "Scope": "local", "IPv4": "true", "IPv6": ipv6.to_string(), "Internal": internal.to_string(),
            "Labels": labels, "CreatedAt": crate::age::at(self.created()),
        })
    }

    /// Filters of one key are alternatives; labels all have to be there.
    fn passes_all(&self, settings: &Settings, filters: &[String], facts: &[Facts]) -> anyhow::Result<bool> {
        let key = |filter: &'_ str| filter.split('=').next().unwrap_or_default().to_owned();
        let mut passed = BTreeMap::new();
        for filter in filters {
            let passes = self.passes(settings, filter, facts)?;
            let of_key = passed.entry(key(filter)).or_insert(passes);
            *of_key = if key(filter) == "label" { *of_key && passes } else { *of_key || passes };
        }
        Ok(passed.into_values().all(|passes| passes))
    }

    fn passes(&self, settings: &Settings, filter: &str, facts: &[Facts]) -> anyhow::Result<bool> {
        let (key, value) = filter::pair(filter)?;
        Ok(match (key, self) {
            ("name", _) => filter::name(value)?.is_match(self.name()),
            ("id", _) => self.id(settings).starts_with(value),
            ("driver", _) => self.driver() == value,
            ("scope", _) => value == "local",
            ("type", Self::BuiltIn(..)) => value == "builtin",
            ("type", Self::Made(_)) => value == "custom",
            ("label", Self::Made(record)) => record.is_labelled(value),
            ("label" | "dangling", Self::BuiltIn(..)) => false,
            ("dangling", Self::Made(record)) => {
                let used = facts.iter().any(|facts| facts.is_on(&record.name));
                used != matches!(value, "true" | "1")
            }
            _ => bail!("invalid filter '{key}'"),
        })
    }
}

async fn list(settings: &Settings, arguments: &LsNetworks) -> anyhow::Result<()> {
    let wants_uses = arguments.filter.iter().any(|filter| filter.starts_with("dangling"));
    let facts = if wants_uses { ps::facts(settings).await? } else { Vec::new() };
    let mut rows = Vec::new();
    for network in Known::all(settings)? {
        if network.passes_all(settings, &arguments.filter, &facts)? {
            rows.push(network.row(settings, arguments.no_trunc));
        }
    }
    if arguments.quiet {
        rows.iter().for_each(|row| output::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(());
    }
    template::print(&rows, arguments.format.as_deref(), &COLUMNS)
}

pub(super) fn document(settings: &Settings, wanted: &str, facts: &[Facts]) -> anyhow::Result<Value> {
    let network = &Known::find(settings, wanted)?;
    let mut document = json!({
        "Name": network.name(),
        "Id": network.id(settings),
        "Scope": "local",
        "Driver": network.driver(),
        "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": Value::Null, "Config": []},
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "Containers": members(network, &network.id(settings), facts),
        "Options": {},
        "Labels": {},
    });
    match network {
        Known::BuiltIn("bridge", _) => {
            let shared = &settings.node.run_network;
            let ranges = (shared.pod_cidr.as_str(), shared.pod_cidr_v6.as_deref());
            let gateway = Cidr::parse(ranges.0)?.gateway();
            describe(&mut document, ranges, gateway)?;
            document["Options"] = json!({"com.docker.network.bridge.name": shared.bridge});
        }
        Known::BuiltIn(..) => {}
        Known::Made(record) => {
            describe(&mut document, (&record.subnet, record.second_subnet.as_deref()), record.gateway()?)?;
            let first = &mut document["IPAM"]["Config"][0];
            record.ip_range.iter().for_each(|range| first["IPRange"] = json!(range));
            if !record.reserved.is_empty() {
                first["AuxiliaryAddresses"] = json!(record.reserved);
            }
            document["Created"] = json!(record.created.to_string());
            document["Internal"] = json!(record.internal);
            document["Options"] = json!(record.options);
            document["Labels"] = json!(record.labels);
        }
    }
    Ok(document)
}

fn describe(
    document: &mut Value,
    (first, second): (&str, Option<&str>),
    gateway: Ipv4Addr,
) -> anyhow::Result<()> {
    let both =
        PodRange::parse(&second.iter().fold(first.to_owned(), |first, second| format!("{first},{second}")))?;
    let mut ranges = vec![json!({"Subnet": first, "Gateway": gateway})];
    let second = second.zip(both.second_gateway());
    ranges.extend(second.map(|(range, (gateway, _))| json!({"Subnet": range, "Gateway": gateway})));
    document["EnableIPv6"] = json!(ranges.len() > 1);
    document["IPAM"]["Config"] = json!(ranges);
    Ok(())
}

/// The running containers that have it, by id.
fn members(network: &Known, id: &str, facts: &[Facts]) -> Map<String, Value> {
    let running = facts.iter().filter(|facts| matches!(facts.state(), "running" | "paused"));
    let member = |facts: &Facts| {
        let end = facts.ends.iter().find(|end| end.network() == network.name());
        if end.is_none() && !facts.is_on(network.name()) {
            return None;
        }
        let held = end.and_then(|end| end.held.as_ref());
        let first = held.map(|held| format!("{}/{}", held.address, held.gateway.1));
        let second =
            held.and_then(|held| held.second).map(|(address, (_, prefix))| format!("{address}/{prefix}"));
        let container = facts.status.id.clone();
        let document = json!({
            "Name": facts.name,
            "EndpointID": endpoint::endpoint_id(id, &container),
            "MacAddress": held.map(endpoint::hardware).unwrap_or_default(),
            "IPv4Address": first.unwrap_or_default(),
            "IPv6Address": second.unwrap_or_default(),
        });
        Some((container, document))
    };
    running.filter_map(member).collect()
}
