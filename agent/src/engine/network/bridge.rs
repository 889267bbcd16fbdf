//! The built-in pod network: one bridge, one veth pair per pod, addresses from the node's podCIDR.
//!
//! It acts; what should be is decided by `ledger` (who has which address), `table` (packet rules) and `links`
//! (what a bridge and a pod's link look like). It holds no state but what it has just seen: several processes may run one
//! each on the same directory. What it changes on the host besides its own bridge, links and tables: `net.ipv4.ip_forward` becomes 1
//! and `net.ipv4.conf.all.send_redirects` 0 (each other link's own setting stays in force); both stay so after
//! `remove_all`, because others may have come to rely on them.

use super::cidr::Cidr;
use super::host_port_flows;
use super::inside::inside;
use super::ledger::{Allocation, Claim, Ledger, LockedLedger, clash};
use super::links::{self, Bridge, PodLink};
use super::netlink::Netlink;
use super::part::Part;
use super::pod_range::{Cidr6, PodRange};
use super::pool::Pool;
use super::seen_bridge::{Gateways, SeenBridge};
use super::source_guard::SourceGuard;
use super::table::{self, Frame};
use super::{PodAttachment, PodNetwork};
use crate::config::Config;
use crate::nft::{self, Elements, Table};
use anyhow::{Context, anyhow, ensure};
use async_trait::async_trait;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::spawn_blocking;

/// The kernel's limit for the name of a link.
const LINK_NAME_BYTES: usize = 15;
/// Where there is no default route to learn from.
const ETHERNET_MTU: u32 = 1500;

/// The built-in network of one node.
#[derive(Debug)]
pub struct BridgeNetwork {
    worker: Arc<Worker>,
}

/// Everything checked once; its methods block.
#[derive(Debug)]
struct Worker {
    ledger: Ledger,
    frame: Frame,
    owner: PathBuf,
    configured_range: PodRange,
    /// None where services are another network's.
    services: Option<Cidr>,
    /// Of services and of network policies.
    other_tables: [String; 2],
    mtu: Option<u32>,
    /// Addresses whose pods this process is taking apart; never held while anything blocks.
    departing: Mutex<BTreeSet<Ipv4Addr>>,
    /// Kept open, because closing it waits for the kernel; held during one commit.
    elements: Mutex<Option<Elements>>,
    guard: SourceGuard,
    seen: SeenBridge,
}

/// What a network is that others' pods have no way into, but for published ports.
#[derive(Debug, Clone, Default)]
pub struct Apart {
    /// Nothing leaves it.
    pub internal: bool,
    /// Bridges that its pods have no way into either.
    pub others: Vec<String>,
    /// The bridge's own address, where it is not the first of the range.
    pub gateway: Option<Ipv4Addr>,
    /// The part of the range that addresses come from, where nobody asks for another one.
    pub within: Option<Cidr>,
    /// Addresses that are nobody's.
    pub reserved: BTreeSet<IpAddr>,
}

impl BridgeNetwork {
    /// Checks the configuration; the kernel is touched by the first `ready`, `setup` or `collect_garbage`.
    pub fn new(config: Arc<Config>) -> anyhow::Result<Arc<Self>> {
        Self::checked(&config, None)
    }

    /// The same of a network that is apart from all others.
    pub fn apart(config: &Config, apart: Apart) -> anyhow::Result<Arc<Self>> {
        Self::checked(config, Some(apart))
    }

    fn checked(config: &Config, apart: Option<Apart>) -> anyhow::Result<Arc<Self>> {
        let network = &config.network;
        ensure!(
            valid_link_name(&network.bridge),
            "network.bridge: {:?} is not a name for a link",
            network.bridge
        );
        ensure!(
            valid_table_name(&network.table),
            "network.table: {:?} is not a name for a table",
            network.table
        );
        let second_cluster = network.second_cluster();
        let mut range = network.pod_cidr.clone();
        range.extend(network.pod_cidr_v6.iter().flat_map(|second| [",", second.as_str()]));
        let worker = Worker {
            ledger: match &apart {
                None => Ledger::new(config.network_dir()),
                Some(_) => Ledger::new(config.network_dir()).of_network(&network.table),
            },
            frame: Frame {
                table: network.table.clone(),
                bridge: network.bridge.clone(),
                cluster: Cidr::parse(&network.cluster_cidr).context("network.cluster_cidr")?,
                second_cluster: second_cluster.as_deref().map(Cidr6::parse).transpose()?,
                apart: apart.clone(),
            },
            owner: config.data_dir.clone(),
            configured_range: PodRange::parse(&range).context("network.pod_cidr")?,
            services: match &apart {
                None => Some(Cidr::parse(&network.service_cidr).context("network.service_cidr")?),
                Some(_) => None,
            },
            other_tables: [network.services_table(), network.policies_table()],
            mtu: network.mtu,
            departing: Mutex::default(),
            elements: Mutex::default(),
            guard: SourceGuard::new(&network.table, network.check_sources),
            seen: SeenBridge::default(),
        };
        Ok(Arc::new(Self { worker: Arc::new(worker) }))
    }

    /// Attaches the pod by a link that it asks for; a second call puts right what has changed of that.
    ///
    /// # Errors
    /// Where an address or a port is not to be had, and what the kernel refuses.
    pub async fn join(&self, pod: &PodAttachment, part: &Part) -> anyhow::Result<Vec<IpAddr>> {
        let (pod, part) = (pod.clone(), part.clone());
        self.blocking(move |worker| worker.setup(&pod, &part)).await
    }

    /// Netlink and nft block, if only for milliseconds.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Worker) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let worker = self.worker.clone();
        spawn_blocking(move || work(&worker)).await.context("the network's thread panicked")?
    }
}

fn valid_link_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LINK_NAME_BYTES && valid_table_name(name)
}

/// Also keeps quotes and braces out of the scripts that nft reads.
fn valid_table_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The host's end of a pod's veth pair. The address is part of it: a sandbox that comes back under its old id has
/// another link, while the kernel still takes the old one apart.
pub(super) fn host_end(pod: &Allocation) -> String {
    let mut name = "veth".to_owned();
    let hash =
        Sha256::new().chain_update(pod.sandbox_id.as_bytes()).chain_update(pod.address.octets()).finalize();
    for byte in hash.iter().take(5) {
        // Writing to a String cannot fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

impl Worker {
    fn setup(&self, pod: &PodAttachment, part: &Part) -> anyhow::Result<Vec<IpAddr>> {
        let netns = File::open(&pod.netns).with_context(|| format!("open {}", pod.netns.display()))?;
        let ledger = self.ledger.lock()?;
        self.finish_departures(&ledger)?;
        let pool = self.pool(&ledger)?;
        let claim =
            Claim { sandbox_id: &pod.sandbox_id, owner: &self.owner, part, host_ports: &pod.host_ports };
        let before = ledger.find(claim.sandbox_id)?;
        let allocation = ledger.allocate(&claim, &pool)?;
        let mut netlink = Netlink::open().context("open a netlink socket")?;
        let (bridge, mtu) = self.bridge(&mut netlink, &ledger)?;
        // What is as it was is written again all the same: the table may be gone.
        let before = before.filter(|before| before.host_ports != allocation.host_ports);
        let old = table::table(&self.frame, &before);
        self.change_rules(&ledger, &table::table(&self.frame, [&allocation]), &old)?;
        self.guard.change(Some(&allocation), None, || ledger.all())?;
        drop(ledger);
        host_port_flows::forget_stale(&before, [&allocation]);
        let link = PodLink {
            host_end: host_end(&allocation),
            name: allocation.link.clone(),
            mtu,
            hardware: allocation.hardware.unwrap_or_else(|| links::hardware_address(allocation.address)),
            address: allocation.address,
            gateway: allocation.gateway,
            second: allocation.second,
            range: (!part.way_out).then_some(pool.range.first),
        };
        links::attach(&mut netlink, bridge, &link, &netns)?;
        inside(&netns, || links::configure_pod(&link))?;
        let second = allocation.second.map(|second| second.address.into());
        Ok([allocation.address.into()].into_iter().chain(second).collect())
    }

    /// Books the pod out. What the kernel has of it is still to go (`depart`): it needs tens of milliseconds to take
    /// links and rules apart, and nobody has to wait for that. The address is not free until then.
    fn teardown(&self, sandbox_id: &str) -> anyhow::Result<Option<Allocation>> {
        let ledger = self.ledger.lock()?;
        let Some(pod) = ledger.find(sandbox_id)? else { return Ok(None) };
        self.departing.lock().unwrap_or_else(PoisonError::into_inner).insert(pod.address);
        ledger.leave(&pod)?;
        Ok(Some(pod))
    }

    /// Removes rules and link, and then frees the address.
    fn depart(&self, pod: &Allocation) -> anyhow::Result<()> {
        let result = self.take_apart(pod);
        self.departing.lock().unwrap_or_else(PoisonError::into_inner).remove(&pod.address);
        result
    }

    fn take_apart(&self, pod: &Allocation) -> anyhow::Result<()> {
        let ledger = self.ledger.lock()?;
        if !ledger.is_leaving(pod)? {
            // Somebody removed everything meanwhile; putting rules right would bring the table back.
            return Ok(());
        }
        let empty = table::table(&self.frame, []);
        let mut rules = pod.clone();
        // A port that somebody has taken meanwhile leads there now.
        rules.host_ports.retain(|port| !ledger.all().is_ok_and(|all| clash(all.iter(), port).is_some()));
        self.change_rules(&ledger, &empty, &table::table(&self.frame, [&rules]))?;
        drop(ledger);
        host_port_flows::forget_stale([&rules], []);
        let mut netlink = Netlink::open().context("open a netlink socket")?;
        links::delete(&mut netlink, &host_end(pod))?;
        let ledger = self.ledger.lock()?;
        if ledger.is_leaving(pod)? {
            self.guard.change(None, Some(pod), || ledger.all())?;
        }
        ledger.release(pod)
    }

    /// Does what a process that was killed left undone.
    fn finish_departures(&self, ledger: &LockedLedger<'_>) -> anyhow::Result<()> {
        let departing = self.departing.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let abandoned = ledger.leaving()?.into_iter().filter(|pod| !departing.contains(&pod.address));
        let abandoned: Vec<Allocation> = abandoned.collect();
        if abandoned.is_empty() {
            return Ok(());
        }
        let mut netlink = Netlink::open().context("open a netlink socket")?;
        let pods = ledger.all()?;
        self.replace_table(&pods)?;
        host_port_flows::forget_stale(&abandoned, &pods);
        for pod in abandoned {
            links::delete(&mut netlink, &host_end(&pod))?;
            ledger.release(&pod)?;
        }
        Ok(())
    }

    /// Ends what no living sandbox of ours needs, and puts bridge and table right whatever happened to them.
    fn collect_garbage(&self, living: &BTreeSet<String>) -> anyhow::Result<()> {
        let ledger = self.ledger.lock()?;
        if ledger.all()?.is_empty() && ledger.leaving()?.is_empty() {
            // The first pod makes what it needs.
            return Ok(());
        }
        let mut errors = Vec::new();
        let mut netlink = Netlink::open().context("open a netlink socket")?;
        for pod in ledger.all()? {
            if pod.owner == self.owner && !living.contains(&pod.sandbox_id) {
                ledger.leave(&pod)?;
            }
        }
        let leaving = ledger.leaving()?;
        for pod in &leaving {
            match links::delete(&mut netlink, &host_end(pod)) {
                Ok(()) => errors.extend(ledger.release(pod).err()),
                Err(error) => errors.push(error),
            }
        }
        let pods = ledger.all()?;
        let (bridge, _) = self.ensure_bridge(&mut netlink, &ledger)?;
        let known: BTreeSet<String> = pods.iter().map(host_end).collect();
        for port in links::ports_of(&mut netlink, bridge).context("list the ports of the bridge")? {
            if port.starts_with("veth") && !known.contains(&port) {
                errors.extend(links::delete(&mut netlink, &port).err());
            }
        }
        errors.extend(self.replace_table(&pods).err());
        host_port_flows::forget_stale(&leaving, &pods);
        all_of(errors)
    }

    fn set_pod_cidr(&self, pod_cidr: &str) -> anyhow::Result<()> {
        let range = self.with_second(PodRange::parse(pod_cidr)?)?;
        let ledger = self.ledger.lock()?;
        if self.range(&ledger)? != range {
            ledger.assign_range(range)?;
        }
        let mut netlink = Netlink::open().context("open a netlink socket")?;
        self.ensure_bridge(&mut netlink, &ledger).map(drop)
    }

    fn ready(&self) -> anyhow::Result<()> {
        let ledger = self.ledger.lock()?;
        let mut netlink = Netlink::open().context("open a netlink socket")?;
        self.ensure_bridge(&mut netlink, &ledger).map(drop)
    }

    fn remove_all(&self) -> anyhow::Result<()> {
        let ledger = self.ledger.lock()?;
        let mut errors = Vec::new();
        let mut netlink = Netlink::open().context("open a netlink socket")?;
        for pod in ledger.all()?.into_iter().chain(ledger.leaving()?) {
            errors.extend(links::delete(&mut netlink, &host_end(&pod)).err());
        }
        errors.extend(links::delete(&mut netlink, &self.frame.bridge).err());
        let tables = self.other_tables.iter().chain([&self.frame.table]);
        let script: String = tables.map(|table| nft::removal(table)).collect();
        self.guard.remove();
        errors.extend(nft::apply(&script).err());
        errors.extend(ledger.clear().err());
        all_of(errors)
    }

    /// The range for new pods: the one assigned by a cluster, else the configured one.
    fn range(&self, ledger: &LockedLedger<'_>) -> anyhow::Result<PodRange> {
        Ok(ledger.assigned_range()?.unwrap_or(self.configured_range))
    }

    fn pool(&self, ledger: &LockedLedger<'_>) -> anyhow::Result<Pool> {
        let whole = Pool::from(self.range(ledger)?);
        let Some(apart) = &self.frame.apart else { return Ok(whole) };
        Ok(Pool {
            gateway: apart.gateway.unwrap_or(whole.gateway),
            within: apart.within.unwrap_or(whole.within),
            reserved: apart.reserved.clone(),
            ..whole
        })
    }

    /// A cluster that gives this node an IPv4 range only leaves its IPv6 range as it is configured; one that gives both
    /// needs a node that was told where the cluster's IPv6 ends.
    fn with_second(&self, range: PodRange) -> anyhow::Result<PodRange> {
        let second = range.second.or(self.configured_range.second);
        ensure!(
            second.is_none() || self.frame.second_cluster.is_some(),
            "pod CIDR {range}: IPv6 needs network.cluster_cidr_v6"
        );
        Ok(PodRange { second, ..range })
    }

    /// Changes the elements of one pod.
    fn change_rules(&self, ledger: &LockedLedger<'_>, new: &Table, old: &Table) -> anyhow::Result<()> {
        let mut elements = self.elements.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = match &mut *elements {
            Some(open) => open.commit(new, old),
            None => elements.insert(Elements::open().context("open a netfilter socket")?).commit(new, old),
        };
        if changed.is_ok() {
            return Ok(());
        }
        // Whatever was read halfway is not read on.
        *elements = None;
        drop(elements);
        // The table is gone or was changed by somebody: the ledger knows what it has to be.
        self.replace_table(&ledger.all()?)
    }

    fn replace_table(&self, pods: &[Allocation]) -> anyhow::Result<()> {
        self.guard.replace(pods);
        nft::apply(&table::table(&self.frame, pods).replacement())
            .context("write the table of the pod network")
    }

    /// The bridge for one more pod, with its MTU: as it was seen a moment ago, else put right.
    fn bridge(&self, netlink: &mut Netlink, ledger: &LockedLedger<'_>) -> anyhow::Result<(u32, u32)> {
        match self.seen.still(netlink, &self.gateways(ledger)?) {
            Some(seen) => Ok(seen),
            None => self.ensure_bridge(netlink, ledger),
        }
    }

    /// The bridge keeps the gateways of all pods that live, also of those from an earlier range.
    fn gateways(&self, ledger: &LockedLedger<'_>) -> anyhow::Result<Gateways> {
        let Pool { range, gateway, .. } = self.pool(ledger)?;
        let pods = ledger.all()?;
        let mut addresses: BTreeSet<_> = pods.iter().map(|pod| (pod.gateway, pod.prefix)).collect();
        addresses.insert((gateway, range.first.prefix()));
        let second = pods.into_iter().filter_map(|pod| pod.second);
        let mut second_addresses: BTreeSet<_> =
            second.map(|second| (second.gateway, second.prefix)).collect();
        second_addresses.extend(range.second_gateway());
        Ok((addresses, second_addresses))
    }

    fn ensure_bridge(&self, netlink: &mut Netlink, ledger: &LockedLedger<'_>) -> anyhow::Result<(u32, u32)> {
        let (addresses, second_addresses) = self.gateways(ledger)?;
        let mtu = match self.mtu {
            Some(mtu) => mtu,
            None => links::uplink_mtu(netlink).context("find the default route")?.unwrap_or(ETHERNET_MTU),
        };
        let name = self.frame.bridge.clone();
        let bridge = Bridge { name, mtu, addresses, second_addresses, services: self.services };
        let index = links::ensure_bridge(netlink, &bridge)?;
        set_sysctl("net/ipv4/ip_forward", "1")?;
        // Redirects are sent where `all` or the link says so; other links keep their own value.
        set_sysctl("net/ipv4/conf/all/send_redirects", "0")?;
        set_sysctl(&format!("net/ipv4/conf/{}/send_redirects", bridge.name), "0")?;
        set_sysctl(&format!("net/ipv4/conf/{}/route_localnet", bridge.name), "1")?;
        self.seen.remember(index, bridge);
        Ok((index, mtu))
    }
}

/// Writes only what differs: `/proc/sys` is read-only in many containers.
fn set_sysctl(name: &str, value: &str) -> anyhow::Result<()> {
    let path = PathBuf::from("/proc/sys").join(name);
    let present = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    if present.trim() == value {
        return Ok(());
    }
    fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display()))
}

/// Clean-up goes on after an error; the caller sees all of them.
fn all_of(errors: Vec<anyhow::Error>) -> anyhow::Result<()> {
    if errors.is_empty() {
        return Ok(());
    }
    let texts: Vec<String> = errors.iter().map(|error| format!("{error:#}")).collect();
    Err(anyhow!(texts.join("; ")))
}

#[async_trait]
impl PodNetwork for BridgeNetwork {
    async fn setup(&self, pod: &PodAttachment) -> anyhow::Result<Vec<IpAddr>> {
        self.join(pod, &Part::default()).await
    }

    async fn teardown(&self, sandbox_id: &str) -> anyhow::Result<()> {
        let sandbox_id = sandbox_id.to_owned();
        let Some(pod) = self.blocking(move |worker| worker.teardown(&sandbox_id)).await? else {
            return Ok(());
        };
        let worker = self.worker.clone();
        // A runtime that shuts down waits for blocking work that has begun. If we are killed first, the link ends
        // with the pod's namespace, and the next `setup` does the rest.
        spawn_blocking(move || {
            if let Err(error) = worker.depart(&pod) {
                tracing::warn!(
                    sandbox = pod.sandbox_id,
                    error = format!("{error:#}"),
                    "pod network not removed"
                );
            }
        });
        Ok(())
    }

    async fn release(&self, sandbox_id: &str) -> anyhow::Result<()> {
        let sandbox_id = sandbox_id.to_owned();
        self.blocking(move |worker| match worker.teardown(&sandbox_id)? {
            Some(pod) => worker.depart(&pod),
            None => Ok(()),
        })
        .await
    }

    async fn collect_garbage(&self, living: &BTreeSet<String>) -> anyhow::Result<()> {
        let living = living.clone();
        self.blocking(move |worker| worker.collect_garbage(&living)).await
    }

    async fn set_pod_cidr(&self, pod_cidr: &str) -> anyhow::Result<()> {
        let pod_cidr = pod_cidr.to_owned();
        self.blocking(move |worker| worker.set_pod_cidr(&pod_cidr)).await
    }

    async fn ready(&self) -> Result<(), String> {
        self.blocking(Worker::ready).await.map_err(|error| format!("{error:#}"))
    }

    async fn remove_all(&self) -> anyhow::Result<()> {
        self.blocking(Worker::remove_all).await
    }
}

#[cfg(test)]
mod tests;
