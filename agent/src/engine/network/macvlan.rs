//! A network whose pods stand on the machine's own wire: each has a link with a hardware address of its own (macvlan) on one
//! of the machine's links, and is a neighbour of whatever else is there.
//!
//! There is no bridge, no rule and no address translation, so no port is published; the gateway is the wire's. The kernel
//! does not let the machine itself talk to such links, only through what is on the wire. A pod's link ends with its
//! namespace; the ledger keeps the address until the pod is torn down.

use super::cidr::Cidr;
use super::inside::inside;
use super::ledger::{Allocation, Claim, Ledger};
use super::netlink::Netlink;
use super::part::{Part, PartNetwork};
use super::pod_range::PodRange;
use super::pool::Pool;
use super::{PodAttachment, PodNetwork, addresses, links, second_family, wire};
use crate::config::Config;
use anyhow::{Context, bail};
use async_trait::async_trait;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::MacVlanMode;
use rtnetlink::{LinkMacVlan, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// How it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wire {
    /// The link of this machine: one that is there, a VLAN of one (`eth0.10`), or `dm-...` for none.
    pub parent: String,
    /// Who hears whom.
    pub mode: Mode,
    /// Other networks stand on the same link, so that it stays when this one goes.
    pub shared: bool,
    /// Nothing beyond the wire is reached.
    pub internal: bool,
    /// The router on the wire, where it is not the first address of the range.
    pub gateway: Option<Ipv4Addr>,
    /// The part of the range that addresses come from, where nobody asks for another one.
    pub within: Option<Cidr>,
    /// Addresses that others on the wire have.
    pub reserved: BTreeSet<IpAddr>,
}

/// Who hears whom on one link of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Pods hear each other.
    Bridge,
    /// They do not.
    Private,
    /// They do if what is on the wire sends their frames back.
    Vepa,
    /// One pod has the whole link.
    Passthru,
}

impl Mode {
    /// The mode of that name; the usual one for none.
    ///
    /// # Errors
    /// For a name that macvlan does not know.
    pub fn named(name: &str) -> anyhow::Result<Self> {
        Ok(match name {
            "" | "bridge" => Self::Bridge,
            "private" => Self::Private,
            "vepa" => Self::Vepa,
            "passthru" => Self::Passthru,
            _ => bail!(
                "requested macvlan mode '{name}' is not valid, 'bridge' mode is the macvlan driver default"
            ),
        })
    }
}

impl From<Mode> for MacVlanMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Bridge => Self::Bridge,
            Mode::Private => Self::Private,
            Mode::Vepa => Self::Vepa,
            Mode::Passthru => Self::Passthrough,
        }
    }
}

/// The name of the wire that ends in this machine, of the network with this id.
pub fn inner(id: &str) -> String {
    format!("{}{}", wire::INNER, id.get(..12).unwrap_or(id))
}

/// A network of one process; several may run at once.
#[derive(Debug)]
pub struct MacvlanNetwork {
    worker: Arc<Worker>,
}

#[derive(Debug)]
struct Worker {
    ledger: Ledger,
    owner: PathBuf,
    pool: Pool,
    mtu: Option<u32>,
    wire: Wire,
}

impl MacvlanNetwork {
    /// Checks the configuration; the kernel is touched by the first `ready` or `join`.
    ///
    /// # Errors
    /// For a range that is none.
    pub fn new(config: &Config, wire: Wire) -> anyhow::Result<Arc<Self>> {
        let network = &config.network;
        let mut range = network.pod_cidr.clone();
        range.extend(network.pod_cidr_v6.iter().flat_map(|second| [",", second.as_str()]));
        let whole = Pool::from(PodRange::parse(&range).context("network.pod_cidr")?);
        let pool = Pool {
            gateway: wire.gateway.unwrap_or(whole.gateway),
            within: wire.within.unwrap_or(whole.within),
            reserved: wire.reserved.clone(),
            ..whole
        };
        let worker = Worker {
            ledger: Ledger::new(config.network_dir()).of_network(&network.table),
            owner: config.data_dir.clone(),
            pool,
            mtu: network.mtu,
            wire,
        };
        Ok(Arc::new(Self { worker: Arc::new(worker) }))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Worker) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let worker = self.worker.clone();
        spawn_blocking(move || work(&worker)).await.context("the network's thread panicked")?
    }
}

impl Worker {
    fn join(&self, pod: &PodAttachment, part: &Part) -> anyhow::Result<Vec<IpAddr>> {
        let netns = File::open(&pod.netns).with_context(|| format!("open {}", pod.netns.display()))?;
        let claim = Claim { sandbox_id: &pod.sandbox_id, owner: &self.owner, part, host_ports: &[] };
        let own = self.ledger.lock()?.allocate(&claim, &self.pool)?;
        let mut netlink = Netlink::open().context("open a netlink socket")?;
        let parent = wire::ensure(&mut netlink, &self.wire.parent)?;
        self.make(&mut netlink, parent, &own, &netns)?;
        inside(&netns, || configure(&own, part.way_out && !self.wire.internal))?;
        let second = own.second.map(|second| second.address.into());
        Ok([own.address.into()].into_iter().chain(second).collect())
    }

    /// The link appears in the pod at once.
    fn make(&self, netlink: &mut Netlink, parent: u32, own: &Allocation, netns: &File) -> anyhow::Result<()> {
        let hardware = own.hardware.unwrap_or_else(|| links::hardware_address(own.address));
        let mut link = LinkMacVlan::new(&own.link, parent, self.wire.mode.into())
            .address(hardware.to_vec())
            .setns_by_fd(netns.as_raw_fd());
        if let Some(mtu) = self.mtu {
            link = link.mtu(mtu);
        }
        match netlink.change(RouteNetlinkMessage::NewLink(link.build()), NLM_F_CREATE | NLM_F_EXCL) {
            // Made before.
            Err(error) if Errno::from_io_error(&error) == Some(Errno::EXIST) => Ok(()),
            other => other.with_context(|| format!("create macvlan {} on {}", own.link, self.wire.parent)),
        }
    }

    /// Frees what the sandbox has; the link of a pod that lives on is removed first.
    fn leave(&self, sandbox_id: &str, netns: Option<&Path>) -> anyhow::Result<()> {
        let Some(own) = self.ledger.find(sandbox_id)? else { return Ok(()) };
        if let Some(netns) = netns.and_then(|netns| File::open(netns).ok()) {
            let link = own.link.clone();
            inside(&netns, || links::delete(&mut Netlink::open().context("open a netlink socket")?, &link))?;
        }
        let ledger = self.ledger.lock()?;
        ledger.leave(&own)?;
        ledger.release(&own)
    }

    fn ready(&self) -> anyhow::Result<()> {
        wire::ensure(&mut Netlink::open().context("open a netlink socket")?, &self.wire.parent).map(drop)
    }

    fn collect_garbage(&self, living: &BTreeSet<String>) -> anyhow::Result<()> {
        let ledger = self.ledger.lock()?;
        for pod in ledger.all()? {
            if pod.owner == self.owner && !living.contains(&pod.sandbox_id) {
                ledger.leave(&pod)?;
            }
        }
        ledger.leaving()?.iter().try_for_each(|pod| ledger.release(pod))
    }

    fn remove_all(&self) -> anyhow::Result<()> {
        let removed = match self.wire.shared {
            true => Ok(()),
            false => {
                let mut netlink = Netlink::open().context("open a netlink socket")?;
                wire::remove(&mut netlink, &self.wire.parent)
            }
        };
        self.ledger.lock()?.clear()?;
        removed
    }
}

/// Addresses as everybody on the wire has them, and the way beyond it; runs inside the pod's namespace.
fn configure(own: &Allocation, way_out: bool) -> anyhow::Result<()> {
    links::loopback_up()?;
    let mut netlink = Netlink::open().context("open a netlink socket in the pod")?;
    let index = netlink.index(&own.link).with_context(|| format!("the pod's {}", own.link))?;
    let up = LinkMessageBuilder::<LinkUnspec>::default().index(index).up().build();
    netlink
        .change(RouteNetlinkMessage::SetLink(up), 0)
        .with_context(|| format!("set up the pod's {}", own.link))?;
    addresses::set(&mut netlink, index, &BTreeSet::from([(own.address, own.prefix)]))
        .with_context(|| format!("give {} to the pod", own.address))?;
    let mut routes =
        vec![RouteMessageBuilder::<Ipv4Addr>::new().gateway(own.gateway).output_interface(index).build()];
    if let Some(second) = &own.second {
        second_family::enable(&own.link)?;
        addresses::set(&mut netlink, index, &BTreeSet::from([(second.address, second.prefix)]))
            .with_context(|| format!("give {} to the pod", second.address))?;
        let beyond = RouteMessageBuilder::<Ipv6Addr>::new().gateway(second.gateway);
        routes.push(beyond.output_interface(index).build());
    }
    for route in routes.into_iter().filter(|_| way_out) {
        netlink
            .change(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | NLM_F_REPLACE)
            .context("add the pod's way out")?;
    }
    Ok(())
}

#[async_trait]
impl PartNetwork for MacvlanNetwork {
    async fn join(&self, pod: &PodAttachment, part: &Part) -> anyhow::Result<Vec<IpAddr>> {
        let (pod, part) = (pod.clone(), part.clone());
        self.blocking(move |worker| worker.join(&pod, &part)).await
    }

    async fn leave(&self, sandbox_id: &str, netns: &Path) -> anyhow::Result<()> {
        let (sandbox_id, netns) = (sandbox_id.to_owned(), netns.to_owned());
        self.blocking(move |worker| worker.leave(&sandbox_id, Some(&netns))).await
    }
}

#[async_trait]
impl PodNetwork for MacvlanNetwork {
    async fn setup(&self, pod: &PodAttachment) -> anyhow::Result<Vec<IpAddr>> {
        self.join(pod, &Part::default()).await
    }

    async fn teardown(&self, sandbox_id: &str) -> anyhow::Result<()> {
        let sandbox_id = sandbox_id.to_owned();
        self.blocking(move |worker| worker.leave(&sandbox_id, None)).await
    }

    async fn collect_garbage(&self, living: &BTreeSet<String>) -> anyhow::Result<()> {
        let living = living.clone();
        self.blocking(move |worker| worker.collect_garbage(&living)).await
    }

    async fn set_pod_cidr(&self, pod_cidr: &str) -> anyhow::Result<()> {
        bail!("pod CIDR {pod_cidr}: the range of a macvlan network is that of its wire")
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
