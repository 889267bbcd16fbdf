//! Which pod has which address and host ports: one small file per sandbox, the only truth of the built-in network.
//!
//! Several processes may share one directory (each `knarr run` is one): every change takes the lock, reads what others have
//! changed meanwhile (`known`), decides and writes. An allocation is on disk before the kernel knows of it and leaves the
//! disk after the kernel forgot it; a crash in between leaves a record that garbage collection finds. Files are
//! renamed into place; they are not synced, because what they describe ends with the kernel that runs now.
//!
//! ```text
//! DIR/lock               held during every change; counts them
//! DIR/pod_cidr           the range assigned by a cluster, if any
//! DIR/last               the address given last: the search for a free one starts behind it
//! DIR/pods/SANDBOX_ID    the allocation, as JSON
//! DIR/leaving/ADDRESS    the same, while the kernel still takes the link apart: the address is not free yet
//! ```

mod known;

use super::HostPort;
use super::links::POD_LINK;
use super::part::Part;
use super::pod_range::{PodRange, Second};
use super::pool::{Pool, Used};
use anyhow::{Context, bail, ensure};
use known::Known;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// What one sandbox has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Allocation {
    pub(crate) sandbox_id: String,
    /// The data directory of the agent or command that owns the sandbox: garbage collection takes only its own.
    pub(crate) owner: PathBuf,
    pub(crate) address: Ipv4Addr,
    /// The bridge's address at that time, and the length of its prefix.
    pub(crate) gateway: Ipv4Addr,
    pub(crate) prefix: u8,
    /// The same in IPv6, where the range has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) second: Option<Second>,
    pub(crate) host_ports: Vec<PortRecord>,
    /// Which of the networks that share the directory it belongs to; empty is the first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) network: String,
    /// Name of its link in the pod.
    #[serde(default = "pod_link")]
    pub(crate) link: String,
    /// The hardware address of that, where one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hardware: Option<[u8; 6]>,
}

fn pod_link() -> String {
    POD_LINK.to_owned()
}

/// What a sandbox asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) sandbox_id: &'a str,
    pub(crate) owner: &'a Path,
    pub(crate) part: &'a Part,
    pub(crate) host_ports: &'a [HostPort],
}

/// A host port, as it is written to disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortRecord {
    pub(crate) protocol: String,
    /// Any where absent; `0.0.0.0` and `::` are any of their family.
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) host_port: u16,
    pub(crate) container_port: u16,
}

impl From<&HostPort> for PortRecord {
    fn from(port: &HostPort) -> Self {
        Self {
            protocol: port.protocol.to_owned(),
            host_ip: port.host_ip,
            host_port: port.host_port,
            container_port: port.container_port,
        }
    }
}

const PODS: &str = "pods";
const LEAVING: &str = "leaving";

/// The directory.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    dir: PathBuf,
    network: String,
    known: Arc<Mutex<Known>>,
}

/// The directory while we hold its lock.
#[derive(Debug)]
pub(crate) struct LockedLedger<'a> {
    dir: &'a Path,
    network: &'a str,
    /// Closing it releases the lock.
    lock: File,
    known: RefCell<MutexGuard<'a, Known>>,
}

impl Ledger {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, network: String::new(), known: Arc::default() }
    }

    /// That of a further network, which shares the directory so that nobody's host ports are given away twice.
    pub(crate) fn of_network(self, network: &str) -> Self {
        Self { network: network.to_owned(), ..self }
    }

    /// What a sandbox has, without the lock: records appear whole.
    pub(crate) fn find(&self, sandbox_id: &str) -> anyhow::Result<Option<Allocation>> {
        read(&pod_file(&self.dir, sandbox_id)?)
    }

    /// Waits for the lock; blocks.
    pub(crate) fn lock(&self) -> anyhow::Result<LockedLedger<'_>> {
        for dir in [PODS, LEAVING].map(|name| self.dir.join(name)) {
            fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        }
        let path = self.dir.join("lock");
        let lock = File::options().create(true).truncate(false).read(true).write(true).open(&path);
        let lock = lock.with_context(|| format!("open {}", path.display()))?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
        let mut known = self.known.lock().unwrap_or_else(|poisoned| {
            let mut known = poisoned.into_inner();
            *known = Known::default();
            known
        });
        known.check(&self.dir, &lock).with_context(|| format!("look at {}", self.dir.display()))?;
        Ok(LockedLedger { dir: &self.dir, network: &self.network, lock, known: RefCell::new(known) })
    }
}

impl LockedLedger<'_> {
    /// All allocations of the network's pods.
    pub(crate) fn all(&self) -> anyhow::Result<Vec<Allocation>> {
        self.list(PODS).map(|all| self.own(all))
    }

    /// Allocations whose links are being deleted.
    pub(crate) fn leaving(&self) -> anyhow::Result<Vec<Allocation>> {
        self.list(LEAVING).map(|all| self.own(all))
    }

    fn own(&self, mut all: Vec<Allocation>) -> Vec<Allocation> {
        all.retain(|pod| pod.network == self.network);
        all
    }

    /// Whether the pod's address is still held by its departure.
    pub(crate) fn is_leaving(&self, pod: &Allocation) -> anyhow::Result<bool> {
        Ok(read(&self.departed(pod))?.is_some_and(|found| found == *pod))
    }

    fn list(&self, kind: &str) -> anyhow::Result<Vec<Allocation>> {
        if let Some(known) = self.known.borrow_mut().of(kind) {
            return Ok(known.clone());
        }
        let found = self.read_all(kind)?;
        *self.known.borrow_mut().of(kind) = Some(found.clone());
        Ok(found)
    }

    /// A file that cannot be read (a power failure cut it) describes nothing that still exists.
    fn read_all(&self, kind: &str) -> anyhow::Result<Vec<Allocation>> {
        let dir = self.dir.join(kind);
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry.with_context(|| format!("read {}", dir.display()))?.path();
            found.extend(read(&path)?);
        }
        found.sort_by(|a: &Allocation, b| a.sandbox_id.cmp(&b.sandbox_id));
        Ok(found)
    }

    /// Changes the directory, and then what is known of it.
    fn change(
        &self,
        work: impl FnOnce() -> anyhow::Result<()>,
        learn: impl FnOnce(&mut Known),
    ) -> anyhow::Result<()> {
        let mut known = self.known.borrow_mut();
        known.count(&self.lock).context("count a change of the ledger")?;
        let changed = work().and_then(|()| Ok(known.keep(self.dir)?));
        match changed {
            Ok(()) => learn(&mut known),
            Err(_) => **known = Known::default(),
        }
        changed
    }

    /// The allocation of a sandbox.
    pub(crate) fn find(&self, sandbox_id: &str) -> anyhow::Result<Option<Allocation>> {
        read(&pod_file(self.dir, sandbox_id)?)
    }

    /// Gives free addresses to the sandbox and writes them down; a second call answers the first one's, with other host
    /// ports where these are others now.
    pub(crate) fn allocate(&self, claim: &Claim<'_>, pool: &Pool) -> anyhow::Result<Allocation> {
        let ports = claim.host_ports.iter().filter(|port| port.host_port != 0);
        let host_ports: Vec<PortRecord> = ports.map(PortRecord::from).collect();
        let known = self.find(claim.sandbox_id)?;
        if let Some(known) = known.as_ref().filter(|known| known.host_ports == host_ports) {
            return Ok(known.clone());
        }
        let mut pods = self.list(PODS)?;
        pods.retain(|pod| pod.sandbox_id != claim.sandbox_id);
        if let Some(taken) = host_ports.iter().find(|port| clash(pods.iter(), port).is_some()) {
            let ip = taken.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            bail!("Bind for {ip}:{} failed: port is already allocated", taken.host_port);
        }
        let allocation = match known {
            Some(known) => Allocation { host_ports, ..known },
            None => self.chosen(claim, pool, host_ports, pods)?,
        };
        let (path, bytes) = (pod_file(self.dir, claim.sandbox_id)?, serde_json::to_vec(&allocation)?);
        self.change(|| write(&path, &bytes), |known| add(known.of(PODS), &allocation))?;
        Ok(allocation)
    }

    fn chosen(
        &self,
        claim: &Claim<'_>,
        pool: &Pool,
        host_ports: Vec<PortRecord>,
        pods: Vec<Allocation>,
    ) -> anyhow::Result<Allocation> {
        let mut used = Used::default();
        for held in pods.into_iter().chain(self.list(LEAVING)?) {
            used.first.insert(held.address);
            used.second.extend(held.second.map(|second| second.address));
        }
        let (address, second) = pool.choose((claim.part.address, claim.part.second), self.last(), &used)?;
        self.remember_last(address)?;
        Ok(Allocation {
            sandbox_id: claim.sandbox_id.to_owned(),
            owner: claim.owner.to_owned(),
            address,
            gateway: pool.gateway,
            prefix: pool.range.first.prefix(),
            second,
            host_ports,
            network: self.network.to_owned(),
            link: claim.part.link.clone(),
            hardware: claim.part.hardware,
        })
    }

    /// The pod is gone, its address is not free yet. Unknown ones are fine.
    pub(crate) fn leave(&self, pod: &Allocation) -> anyhow::Result<()> {
        let path = pod_file(self.dir, &pod.sandbox_id)?;
        let rename = || {
            absent_is_fine(fs::rename(&path, self.departed(pod)))
                .with_context(|| format!("move {} aside", path.display()))
        };
        // Which file it was that moved, if any, is read again.
        self.change(rename, |known| {
            *known.of(LEAVING) = None;
            remove(known.of(PODS), |known| known.sandbox_id == pod.sandbox_id);
        })
    }

    /// The link is gone and the address is free; done twice is fine.
    pub(crate) fn release(&self, pod: &Allocation) -> anyhow::Result<()> {
        let path = self.departed(pod);
        let unlink =
            || absent_is_fine(fs::remove_file(&path)).with_context(|| format!("remove {}", path.display()));
        self.change(unlink, |known| remove(known.of(LEAVING), |known| known.address == pod.address))
    }

    /// The range that `assign` wrote, if any.
    pub(crate) fn assigned_range(&self) -> anyhow::Result<Option<PodRange>> {
        if !self.network.is_empty() {
            return Ok(None);
        }
        match fs::read_to_string(self.dir.join("pod_cidr")) {
            Ok(text) => Ok(PodRange::parse(text.trim()).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).context("read the assigned pod CIDR"),
        }
    }

    /// New pods take their addresses from this range.
    pub(crate) fn assign_range(&self, range: PodRange) -> anyhow::Result<()> {
        write(&self.dir.join("pod_cidr"), range.to_string().as_bytes())
    }

    /// Forgets everything but the lock (whose removal would let two processes hold "the" lock).
    pub(crate) fn clear(&self) -> anyhow::Result<()> {
        let shared: &[&str] = if self.network.is_empty() { &["pod_cidr", "last"] } else { &[] };
        for name in shared {
            absent_is_fine(fs::remove_file(self.dir.join(name))).with_context(|| format!("remove {name}"))?;
        }
        for pod in self.all()? {
            self.leave(&pod)?;
        }
        self.leaving()?.iter().try_for_each(|pod| self.release(pod))
    }

    fn departed(&self, pod: &Allocation) -> PathBuf {
        self.dir.join(LEAVING).join(pod.address.to_string())
    }

    /// Written over, in one length: replacing a file has a journaling file system write it out at once, and one that a crash
    /// has cut short costs no more than a search from the beginning.
    fn remember_last(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        let path = self.dir.join("last");
        let written = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{address:<15}\n").as_bytes()));
        written.with_context(|| format!("write {}", path.display()))
    }

    fn last(&self) -> Option<Ipv4Addr> {
        fs::read_to_string(self.dir.join("last")).ok()?.trim().parse().ok()
    }
}

/// The id becomes a file name, so it may not be a path.
fn pod_file(dir: &Path, sandbox_id: &str) -> anyhow::Result<PathBuf> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let valid = !sandbox_id.is_empty() && sandbox_id.len() <= 255 && !sandbox_id.starts_with('.');
    ensure!(valid && sandbox_id.bytes().all(plain), "invalid sandbox id: {sandbox_id:?}");
    Ok(dir.join(PODS).join(sandbox_id))
}

/// The pod that has the port, or one port for every address of the host.
pub(crate) fn clash<'a>(
    pods: impl IntoIterator<Item = &'a Allocation>,
    port: &PortRecord,
) -> Option<&'a Allocation> {
    let same = |other: &PortRecord| {
        (&other.protocol, other.host_port) == (&port.protocol, port.host_port)
            && meet(other.host_ip, port.host_ip)
    };
    pods.into_iter().find(|pod| pod.host_ports.iter().any(same))
}

/// Whether a packet can be for both addresses of the host.
fn meet(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return true };
    let any = one.is_unspecified() || other.is_unspecified();
    one == other || any && one.is_ipv4() == other.is_ipv4()
}

fn add(known: &mut Option<Vec<Allocation>>, one: &Allocation) {
    if let Some(known) = known {
        known.retain(|other| other.sandbox_id != one.sandbox_id);
        let place = known.partition_point(|other| other.sandbox_id < one.sandbox_id);
        known.insert(place, one.clone());
    }
}

fn remove(known: &mut Option<Vec<Allocation>>, gone: impl Fn(&Allocation) -> bool) {
    if let Some(known) = known {
        known.retain(|one| !gone(one));
    }
}

fn absent_is_fine(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn read(path: &Path) -> anyhow::Result<Option<Allocation>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// The temporary file is outside `pods`, whose every entry is a record.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let dir = path.parent().and_then(|dir| if dir.ends_with(PODS) { dir.parent() } else { Some(dir) });
    let mut new = dir.unwrap_or(Path::new(".")).join(name);
    new.as_mut_os_string().push(".new");
    let written =
        File::create(&new).and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&new, path));
    written.with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests;
