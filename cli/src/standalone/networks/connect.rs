//! `knarr network connect` and `disconnect`: a container's networks change, while it runs or before its next start.

use super::membership::{self, Membership};
use super::{Known, record, wanted};
use crate::args::{ConnectNetwork, DisconnectNetwork};
use crate::settings::Settings;
use crate::standalone::facts::Facts;
use crate::standalone::{Standalone, hosts, plan};
use anyhow::{Context, bail};
use knarr_agent::engine::network::{PodAttachment, host_ports};
use std::path::PathBuf;

/// One container, and its networks as they are written down.
struct Change {
    place: Standalone,
    facts: Facts,
    before: Vec<Membership>,
}

/// Connects one container to one network.
pub(super) async fn run(settings: &Settings, wanted: &ConnectNetwork) -> anyhow::Result<()> {
    let _alone = record::alone(settings).await?;
    let network = Known::find(settings, &wanted.network)?;
    let change = Change::of(settings, &wanted.container).await?;
    change.is_possible(&network)?;
    let mut own = asked(&network, wanted)?.further();
    let mut after = change.before.clone();
    match after.iter_mut().find(|known| known.network == own.network) {
        Some(_) if change.runs() => {
            bail!("endpoint with name {} already exists in network {}", change.facts.name, network.name())
        }
        // What was asked for before its start is asked for anew.
        Some(known) => {
            own.take_place_of(known);
            *known = own;
        }
        None => after.push(own),
    }
    change.make(&after).await?;
    change.tell(settings, "connect", &network)
}

/// Takes one container out of one network.
pub(super) async fn undo(settings: &Settings, wanted: &DisconnectNetwork) -> anyhow::Result<()> {
    let _alone = record::alone(settings).await?;
    let network = Known::find(settings, &wanted.network)?;
    let change = match Change::of(settings, &wanted.container).await {
        Err(_) if wanted.force => {
            bail!("endpoint {} not found in network {}", wanted.container, network.name())
        }
        found => found?,
    };
    if matches!(network, Known::BuiltIn("host", _)) && change.facts.network() == "host" {
        bail!("container cannot be disconnected from host network or connected to host network");
    }
    let gone = id(&network);
    let after: Vec<Membership> = change.before.iter().filter(|own| own.network != gone).cloned().collect();
    if after.len() == change.before.len() || change.facts.ends.is_empty() {
        bail!("container {} is not connected to the network {}", change.facts.status.id, network.name());
    }
    change.make(&after).await?;
    change.tell(settings, "disconnect", &network)
}

impl Change {
    async fn of(settings: &Settings, name: &str) -> anyhow::Result<Self> {
        let place = Standalone::find(settings, name).await?;
        let facts = Facts::expect(&place).await?;
        let before = membership::of_container(place.data_dir())?;
        Ok(Self { place, facts, before })
    }

    fn runs(&self) -> bool {
        matches!(self.facts.state(), "running" | "paused")
    }

    /// Docker's refusals.
    fn is_possible(&self, network: &Known) -> anyhow::Result<()> {
        match (self.facts.network(), network) {
            ("host", _) | (_, Known::BuiltIn("host", _)) => {
                bail!("container cannot be disconnected from host network or connected to host network")
            }
            ("none", _) | (_, Known::BuiltIn("none", _)) => {
                bail!(
                    "container cannot be connected to multiple networks with one of the networks in private (none) mode"
                )
            }
            (mode, _) if mode.starts_with("container:") => {
                bail!(
                    "container sharing network namespace with another container or host cannot be connected to any other network"
                )
            }
            _ => Ok(()),
        }
    }

    /// Written down first: whoever takes the container apart finds all that it has.
    async fn make(&self, after: &[Membership]) -> anyhow::Result<()> {
        if !self.runs() {
            return membership::keep(self.place.data_dir(), after);
        }
        let (pod, all) = (self.pod()?, [&self.before[..], after].concat());
        membership::keep(self.place.data_dir(), &unique(all))?;
        let changed = self.place.networks.change(&pod, &self.before, after).await;
        if changed.is_err() {
            let back = self.place.networks.change(&pod, after, &self.before).await;
            membership::keep(self.place.data_dir(), &self.before)?;
            return changed
                .context(back.err().map_or_else(String::new, |error| format!("and undoing it: {error:#}")));
        }
        membership::keep(self.place.data_dir(), after)?;
        hosts::write(&self.place, &pod.sandbox_id, &self.facts.env("HOSTNAME")).await?;
        self.still_runs().await
    }

    /// One that has ended meanwhile, as nobody saw its new network, has none of it.
    async fn still_runs(&self) -> anyhow::Result<()> {
        let ended = self.place.status().await?.is_none_or(|status| status.finished_at != 0);
        if ended { self.place.disconnect().await } else { Ok(()) }
    }

    fn pod(&self) -> anyhow::Result<PodAttachment> {
        Ok(PodAttachment {
            sandbox_id: self.facts.sandbox_id.clone(),
            namespace: String::new(),
            name: self.facts.name.clone(),
            uid: String::new(),
            netns: PathBuf::from(format!("/proc/{}/ns/net", self.facts.pid())),
            host_ports: host_ports(&plan::ports::of_bindings(&self.facts.options["PortBindings"])),
            annotations: Default::default(),
        })
    }

    fn tell(&self, settings: &Settings, action: &str, network: &Known) -> anyhow::Result<()> {
        network.tell(settings, action, &[("container", self.facts.status.id.clone())]);
        Ok(())
    }
}

fn unique(all: Vec<Membership>) -> Vec<Membership> {
    let mut unique: Vec<Membership> = Vec::new();
    for one in all {
        if !unique.iter().any(|known| known.network == one.network) {
            unique.push(one);
        }
    }
    unique
}

fn id(network: &Known) -> String {
    match network {
        Known::Made(record) => record.id.clone(),
        Known::BuiltIn(name, _) => (*name).to_owned(),
    }
}

fn asked(network: &Known, wanted: &ConnectNetwork) -> anyhow::Result<Membership> {
    let own = Membership {
        network: id(network),
        aliases: wanted.alias.clone(),
        address: wanted.ip,
        second: wanted.ip6,
        priority: wanted.gw_priority,
        links: wanted.link.iter().map(|text| wanted::link(text)).collect::<anyhow::Result<_>>()?,
        ..Membership::default()
    };
    match network {
        Known::Made(record) => wanted::checked(own, record),
        Known::BuiltIn(..) if own.address.is_some() || own.second.is_some() => {
            bail!("user specified IP address is supported on user defined networks only")
        }
        Known::BuiltIn(..) if !own.aliases.is_empty() => {
            bail!("network-scoped alias is supported only for containers in user defined networks")
        }
        Known::BuiltIn(..) => Ok(own),
    }
}
