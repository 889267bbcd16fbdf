//! What connects a stand-alone container: the bridge that all share who ask for no other, with its own link, range and
//! table, apart from the pods'; and networks that somebody made (`networks/record`). Which of them it has is read when it is
//! asked for (`networks/membership`): any process may have changed that since this one began.

use super::networks::membership::{self, Membership, SHARED};
use super::networks::names::Names;
use super::networks::record::{self, Record};
use super::places::Place;
use crate::settings::Settings;
use anyhow::Context;
use async_trait::async_trait;
use knarr_agent::config::Config;
use knarr_agent::engine::network::bridge::BridgeNetwork;
use knarr_agent::engine::network::macvlan::{MacvlanNetwork, Wire};
use knarr_agent::engine::network::part::{Held, Part, PartNetwork, held};
use knarr_agent::engine::network::{self, PodAttachment, PodNetwork};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::spawn_blocking;

/// The networks of one container, as its engine may use them: that engine knows only its own container, so what looks like
/// garbage to it are its neighbours.
pub(super) struct Networks {
    settings: Settings,
    place: Place,
    /// Those that were used, by their ids: each keeps a socket open.
    open: Mutex<BTreeMap<String, Arc<dyn PartNetwork>>>,
}

/// The container's part in one of them.
struct Joined {
    membership: Membership,
    /// None of the bridge of all.
    record: Option<Record>,
    network: Arc<dyn PartNetwork>,
    /// What is for none of its networks goes this way.
    way_out: bool,
}

impl Networks {
    pub(super) fn new(settings: &Settings, place: &Place) -> Self {
        Self { settings: settings.clone(), place: place.clone(), open: Mutex::default() }
    }

    /// Those that are there: of one that is gone nothing is left.
    fn joined(&self, all: Vec<Membership>) -> anyhow::Result<Vec<Joined>> {
        let mut joined = Vec::new();
        for (membership, record) in known(&self.settings, all)? {
            let network = self.network(&membership.network, record.as_ref())?;
            joined.push(Joined { membership, record, network, way_out: false });
        }
        if let Some(out) = way_out(&joined) {
            joined[out].way_out = true;
        }
        Ok(joined)
    }

    fn own(&self) -> anyhow::Result<Vec<Joined>> {
        self.joined(membership::of_container(&self.place.data_dir(&self.settings))?)
    }

    fn network(&self, id: &str, record: Option<&Record>) -> anyhow::Result<Arc<dyn PartNetwork>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(network) = open.get(id) {
            return Ok(network.clone());
        }
        let data_dir = self.place.data_dir(&self.settings);
        let network = match record {
            None => BridgeNetwork::new(Arc::new(Config { data_dir, ..config(&self.settings) }))?,
            Some(record) => record.open(&self.settings, data_dir)?,
        };
        open.insert(id.to_owned(), network.clone());
        Ok(network)
    }

    /// Links, addresses and names of these parts; the way out comes last, which takes over from another one.
    async fn join(&self, pod: &PodAttachment, parts: &[&Joined]) -> anyhow::Result<Vec<IpAddr>> {
        let mut addresses = BTreeMap::new();
        let mut in_order: Vec<(usize, &&Joined)> = parts.iter().enumerate().collect();
        in_order.sort_by_key(|(_, part)| part.way_out);
        let links = self.links(&pod.sandbox_id, parts)?;
        for (place, part) in in_order {
            let own = PodAttachment {
                sandbox_id: part.membership.key(&pod.sandbox_id),
                host_ports: if part.way_out { pod.host_ports.clone() } else { Vec::new() },
                ..pod.clone()
            };
            let Membership { address, second, hardware, .. } = part.membership;
            let link = links[place].clone();
            let wanted = Part { link, address, second, hardware, way_out: part.way_out };
            let given = part.network.join(&own, &wanted).await?;
            if let Some(names) = self.names(part) {
                // It may have another name than it was made with.
                names.add(&self.place.directory, &self.place.name, &given).await?;
            }
            addresses.insert(place, given);
        }
        Ok(addresses.into_values().flatten().collect())
    }

    /// Names of their links, in the order of `parts`: that which it has, or the first free one.
    fn links(&self, sandbox_id: &str, parts: &[&Joined]) -> anyhow::Result<Vec<String>> {
        let own = of(&self.settings, &self.place, sandbox_id)?;
        let mut taken: BTreeSet<String> =
            own.iter().filter_map(|end| Some(end.held.as_ref()?.link.clone())).collect();
        let mut links = Vec::new();
        for part in parts {
            let mut known = own.iter().filter(|end| end.membership.network == part.membership.network);
            let link = match known.find_map(|end| end.held.as_ref()) {
                Some(held) => held.link.clone(),
                None => {
                    (0..).map(|n| format!("eth{n}")).find(|link| !taken.contains(link)).unwrap_or_default()
                }
            };
            taken.insert(link.clone());
            links.push(link);
        }
        Ok(links)
    }

    fn names(&self, part: &Joined) -> Option<Names> {
        part.record.as_ref().map(|record| Names::new(&self.settings, record, &part.membership))
    }

    /// Goes from the networks that it had to those that it has, while it runs.
    pub(super) async fn change(
        &self,
        pod: &PodAttachment,
        before: &[Membership],
        after: &[Membership],
    ) -> anyhow::Result<()> {
        let (before, after) = (self.joined(before.to_vec())?, self.joined(after.to_vec())?);
        let same = |one: &Joined, other: &Joined| one.membership.network == other.membership.network;
        for gone in before.iter().filter(|one| !after.iter().any(|other| same(one, other))) {
            self.forget_names(gone).await?;
            gone.network.leave(&gone.membership.key(&pod.sandbox_id), &pod.netns).await?;
        }
        let changed = |now: &&Joined| {
            let then = before.iter().find(|then| same(then, now));
            then.is_none_or(|then| then.way_out != now.way_out)
        };
        let changed: Vec<&Joined> = after.iter().filter(changed).collect();
        self.join(pod, &changed).await.map(drop)
    }

    async fn forget_names(&self, part: &Joined) -> anyhow::Result<()> {
        match self.names(part) {
            Some(names) => names.remove(&self.place.directory).await,
            None => Ok(()),
        }
    }
}

/// The most wanted of those that lead anywhere, the first where they are alike.
fn way_out(all: &[Joined]) -> Option<usize> {
    let internal = |one: &Joined| one.record.as_ref().is_some_and(Record::ends_here);
    let rank = |one: &Joined| (internal(one), -i64::from(one.membership.priority));
    all.iter().enumerate().min_by_key(|(_, one)| rank(one)).map(|(place, _)| place)
}

#[async_trait]
impl PodNetwork for Networks {
    async fn setup(&self, pod: &PodAttachment) -> anyhow::Result<Vec<IpAddr>> {
        let own = self.own()?;
        if own.is_empty() {
            let netns = pod.netns.clone();
            spawn_blocking(move || network::loopback_alone(&netns))
                .await
                .context("the thread panicked")??;
        }
        self.join(pod, &own.iter().collect::<Vec<_>>()).await
    }

    async fn teardown(&self, sandbox_id: &str) -> anyhow::Result<()> {
        for part in self.own()? {
            self.forget_names(&part).await?;
            part.network.teardown(&part.membership.key(sandbox_id)).await?;
        }
        Ok(())
    }

    async fn release(&self, sandbox_id: &str) -> anyhow::Result<()> {
        for part in self.own()? {
            self.forget_names(&part).await?;
            part.network.release(&part.membership.key(sandbox_id)).await?;
        }
        Ok(())
    }

    async fn collect_garbage(&self, _living: &BTreeSet<String>) -> anyhow::Result<()> {
        Ok(())
    }

    async fn set_pod_cidr(&self, _pod_cidr: &str) -> anyhow::Result<()> {
        Ok(())
    }

    async fn ready(&self) -> Result<(), String> {
        for part in self.own().map_err(|error| format!("{error:#}"))? {
            part.network.ready().await?;
        }
        Ok(())
    }

    async fn remove_all(&self) -> anyhow::Result<()> {
        for part in self.own()? {
            part.network.remove_all().await?;
        }
        Ok(())
    }
}

/// What a container has of one network.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) membership: Membership,
    /// None of the bridge of all.
    pub(crate) record: Option<Record>,
    /// None where it does not run.
    pub(crate) held: Option<Held>,
}

impl End {
    /// That of IPv4 first.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        let held = self.held.iter();
        held.flat_map(|held| [Some(held.address.into()), held.second.map(|(second, _)| second.into())])
            .flatten()
            .collect()
    }

    /// Its network's id begins like this.
    pub(crate) fn has_id(&self, prefix: &str) -> bool {
        prefix.len() >= 3 && self.record.as_ref().is_some_and(|record| record.id.starts_with(prefix))
    }

    pub(crate) fn network(&self) -> &str {
        self.record.as_ref().map_or(SHARED, |record| &record.name)
    }
}

/// What the container in this place has of its networks.
pub(super) fn of(settings: &Settings, place: &Place, sandbox_id: &str) -> anyhow::Result<Vec<End>> {
    let directory = config(settings).network_dir();
    let all = membership::of_container(&place.data_dir(settings))?;
    let end = |(membership, record): (Membership, Option<Record>)| {
        let held = held(&directory, &membership.key(sandbox_id))?;
        Ok(End { membership, record, held })
    };
    known(settings, all)?.into_iter().map(end).collect()
}

/// With what is known of them; one that somebody has removed is none. Then a container can be looked at and removed, and
/// `expect` tells whoever wants to start it.
fn known(settings: &Settings, all: Vec<Membership>) -> anyhow::Result<Vec<(Membership, Option<Record>)>> {
    let mut found = Vec::new();
    for membership in all {
        if membership.network == SHARED {
            found.push((membership, None));
        } else if let Some(record) = record::find(settings, &membership.network)? {
            found.push((membership, Some(record)));
        }
    }
    Ok(found)
}

/// Fails where one of the container's networks is gone.
pub(super) fn expect(settings: &Settings, data_dir: &Path) -> anyhow::Result<()> {
    for membership in membership::of_container(data_dir)? {
        if membership.network != SHARED {
            record::expect(settings, &membership.network)?;
        }
    }
    Ok(())
}

/// The names that the container in this place hears of, one for each network that somebody made.
pub(super) fn names(settings: &Settings, data_dir: &Path) -> anyhow::Result<Vec<Names>> {
    let own = known(settings, membership::of_container(data_dir)?)?;
    let names = |(membership, record): (Membership, Option<Record>)| {
        record.map(|record| Names::new(settings, &record, &membership))
    };
    Ok(own.into_iter().filter_map(names).collect())
}

/// Removes one network that somebody made: its bridge and its table, or the link that was made for it.
pub(super) async fn take_apart(settings: &Settings, record: &Record) -> anyhow::Result<()> {
    record.open(settings, settings.node.data_dir.clone())?.remove_all().await
}

/// Removes all bridges with their tables, and all links that were made for others. What is written down of networks stays.
pub(super) async fn remove(settings: &Settings) -> anyhow::Result<()> {
    for record in record::all(settings)? {
        match record.is_bridge() {
            true => take_apart(settings, &record).await?,
            // Those beside it go too.
            false => {
                let wire = Wire { shared: false, ..record.wire(settings)? };
                MacvlanNetwork::new(&record.config(settings), wire)?.remove_all().await?;
            }
        }
    }
    BridgeNetwork::new(Arc::new(config(settings)))?.remove_all().await
}

fn config(settings: &Settings) -> Config {
    let mut config = settings.node.clone();
    config.network = config.run_network.clone();
    config.network.dir = Some(settings.node.data_dir.join("run-network"));
    config
}
