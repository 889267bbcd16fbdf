//! Which pod has which address and host ports: one small file per sandbox, the only truth of the built-in network.
//!
//! Several processes may share one directory (each `knarr run` is one), so there is no copy in memory: every change
//! takes the lock, reads, decides and writes. An allocation is on disk before the kernel knows of it and leaves the
//! disk after the kernel forgot it; a crash in between leaves a record that garbage collection finds. Files are
//! renamed into place; they are not synced, because what they describe ends with the kernel that runs now.
//!
//! ```text
//! DIR/lock               held during every change
//! DIR/pod_cidr           the range assigned by a cluster, if any
//! DIR/last               the address given last: the search for a free one starts behind it
//! DIR/pods/SANDBOX_ID    the allocation, as JSON
//! DIR/leaving/ADDRESS    the same, while the kernel still takes the link apart: the address is not free yet
//! ```

use super::HostPort;
use super::links::POD_LINK;
use super::part::Part;
use super::pod_range::{PodRange, Second};
use super::pool::{Pool, Used};
use anyhow::{Context, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

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
}

/// The directory while we hold its lock.
#[derive(Debug)]
pub(crate) struct LockedLedger<'a> {
    dir: &'a Path,
    network: &'a str,
    /// Closing it releases the lock.
    _lock: File,
}

impl Ledger {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir, network: String::new() }
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
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("open {}", path.display()))?;
        flock(&lock, FlockOperation::LockExclusive).with_context(|| format!("lock {}", path.display()))?;
        Ok(LockedLedger { dir: &self.dir, network: &self.network, _lock: lock })
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

    /// A file that cannot be read (a power failure cut it) describes nothing that still exists.
    fn list(&self, kind: &str) -> anyhow::Result<Vec<Allocation>> {
        let dir = self.dir.join(kind);
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("read {}", dir.display()))? {
            let path = entry.with_context(|| format!("read {}", dir.display()))?.path();
            found.extend(read(&path)?);
        }
        found.sort_by(|a: &Allocation, b| a.sandbox_id.cmp(&b.sandbox_id));
        Ok(found)
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
        write(&pod_file(self.dir, claim.sandbox_id)?, &serde_json::to_vec(&allocation)?)?;
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
        absent_is_fine(fs::rename(&path, self.departed(pod)))
            .with_context(|| format!("move {} aside", path.display()))
    }

    /// The link is gone and the address is free; done twice is fine.
    pub(crate) fn release(&self, pod: &Allocation) -> anyhow::Result<()> {
        let path = self.departed(pod);
        absent_is_fine(fs::remove_file(&path)).with_context(|| format!("remove {}", path.display()))
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn ledger() -> (tempfile::TempDir, Ledger) {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::new(dir.path().join("network"));
        (dir, ledger)
    }

    fn range() -> PodRange {
        PodRange::parse("10.42.0.0/28").unwrap()
    }

    fn take(
        ledger: &LockedLedger<'_>,
        sandbox_id: &str,
        range: PodRange,
        wanted: Option<Ipv4Addr>,
        host_ports: &[HostPort],
    ) -> anyhow::Result<Allocation> {
        let part = Part { address: wanted, ..Part::default() };
        let claim = Claim { sandbox_id, owner: Path::new("/x"), part: &part, host_ports };
        ledger.allocate(&claim, &range.into())
    }

    #[test]
    fn the_same_sandbox_has_the_same_address() {
        let (_dir, ledger) = ledger();
        let ledger = ledger.lock().unwrap();
        let first = take(&ledger, "a", range(), None, &[]).unwrap();
        assert_eq!(take(&ledger, "a", range(), None, &[]).unwrap(), first);
        assert_ne!(take(&ledger, "b", range(), None, &[]).unwrap().address, first.address);
    }

    #[test]
    fn a_port_is_one_pods_until_it_leaves() {
        let (_dir, ledger) = ledger();
        let ledger = ledger.lock().unwrap();
        let port = |protocol, ip: Option<&str>| HostPort {
            protocol,
            host_ip: ip.map(|ip| ip.parse().unwrap()),
            host_port: 80,
            container_port: 8080,
        };
        let with = |id: &str, port: HostPort| take(&ledger, id, range(), None, &[port]);
        let first = with("a", port("tcp", Some("127.0.0.1"))).unwrap();
        with("b", port("udp", None)).unwrap();
        with("c", port("tcp", Some("10.0.0.1"))).unwrap();
        let error = with("d", port("tcp", None)).unwrap_err().to_string();
        assert_eq!(error, "Bind for 0.0.0.0:80 failed: port is already allocated");
        assert!(with("e", port("tcp", Some("127.0.0.1"))).is_err());
        ledger.leave(&first).unwrap();
        with("e", port("tcp", Some("127.0.0.1"))).unwrap();
    }

    #[test]
    fn any_address_is_any_of_its_family() {
        let meets = |one: &str, other: &str| {
            let ip = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
            meet(ip(one), ip(other)) && meet(ip(other), ip(one))
        };
        for (one, other) in [("", "::1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::1", "::1"), ("", "")] {
            assert!(meets(one, other), "{one} {other}");
        }
        for (one, other) in [("0.0.0.0", "::"), ("0.0.0.0", "::1"), ("::", "10.0.0.1"), ("::1", "::2")] {
            assert!(!meets(one, other), "{one} {other}");
        }
    }

    #[test]
    fn networks_share_ports_and_nothing_else() {
        let (_dir, first) = ledger();
        let second = first.clone().of_network("second");
        let port = HostPort { protocol: "tcp", host_ip: None, host_port: 80, container_port: 80 };
        let other = PodRange::parse("10.50.0.0/24").unwrap();
        take(&first.lock().unwrap(), "a", range(), None, std::slice::from_ref(&port)).unwrap();
        let ledger = second.lock().unwrap();
        let error = take(&ledger, "b", other, None, &[port]).unwrap_err().to_string();
        assert_eq!(error, "Bind for 0.0.0.0:80 failed: port is already allocated");
        let found = take(&ledger, "b", other, None, &[]).unwrap();
        assert_eq!((found.address.to_string().as_str(), ledger.all().unwrap().len()), ("10.50.0.2", 1));
        ledger.clear().unwrap();
        drop(ledger);
        assert_eq!(first.lock().unwrap().all().unwrap().len(), 1);
    }

    #[test]
    fn an_address_may_be_wanted() {
        let (_dir, ledger) = ledger();
        let ledger = ledger.lock().unwrap();
        let asked = |id: &str, wanted: &str| take(&ledger, id, range(), Some(wanted.parse().unwrap()), &[]);
        assert_eq!(asked("a", "10.42.0.9").unwrap().address.to_string(), "10.42.0.9");
        assert_eq!(asked("b", "10.42.0.9").unwrap_err().to_string(), "Address already in use");
        for outside in ["10.42.0.0", "10.42.0.1", "10.42.0.15", "10.43.0.4"] {
            let error = asked("c", outside).unwrap_err().to_string();
            assert!(error.starts_with("no configured subnet contains"), "{outside}: {error}");
        }
    }

    #[test]
    fn a_full_range_says_so() {
        let (_dir, ledger) = ledger();
        let ledger = ledger.lock().unwrap();
        for n in 0..13 {
            take(&ledger, &format!("pod{n}"), range(), None, &[]).unwrap();
        }
        let error = take(&ledger, "late", range(), None, &[]).unwrap_err().to_string();
        assert_eq!(error, "no free address in pod CIDR 10.42.0.0/28 (13 in use)");
    }

    #[test]
    fn an_address_is_not_free_before_its_link_is_gone() {
        let (_dir, ledger) = ledger();
        let ledger = ledger.lock().unwrap();
        let tiny = PodRange::parse("10.42.0.0/30").unwrap();
        let first = take(&ledger, "a", tiny, None, &[]).unwrap();
        ledger.leave(&first).unwrap();
        assert_eq!((ledger.all().unwrap(), ledger.leaving().unwrap()), (vec![], vec![first.clone()]));
        assert!(take(&ledger, "b", tiny, None, &[]).is_err());
        ledger.release(&first).unwrap();
        assert_eq!(take(&ledger, "b", tiny, None, &[]).unwrap().address, first.address);
    }

    #[test]
    fn a_second_address_is_unique_though_the_first_range_changed() {
        let (_dir, ledger) = ledger();
        let ledger = ledger.lock().unwrap();
        let allocate =
            |id: &str, range: &str| take(&ledger, id, PodRange::parse(range).unwrap(), None, &[]).unwrap();
        let old = allocate("old", "10.42.0.0/24,fd00::/112");
        fs::remove_file(ledger.dir.join("last")).unwrap();
        let new = allocate("new", "10.42.7.0/24,fd00::/112");
        assert_eq!(old.second.unwrap().address.to_string(), "fd00::2");
        assert_eq!(new.second.unwrap().address.to_string(), "fd00::3");
        assert_eq!(new.address.to_string(), "10.42.7.3");
    }

    #[test]
    fn a_cut_record_is_no_record() {
        let (dir, ledger) = ledger();
        let ledger = ledger.lock().unwrap();
        take(&ledger, "a", range(), None, &[]).unwrap();
        fs::write(dir.path().join("network/pods/a"), b"{\"sandbox").unwrap();
        assert_eq!(ledger.all().unwrap(), []);
        take(&ledger, "a", range(), None, &[]).unwrap();
        assert_eq!(ledger.all().unwrap().len(), 1);
    }

    #[test]
    fn ids_are_not_paths() {
        let (_dir, ledger) = ledger();
        let ledger = ledger.lock().unwrap();
        for bad in ["", "..", "../x", "a/b", ".hidden", "a b", &"x".repeat(256)] {
            assert!(ledger.find(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn no_address_is_held_twice_or_lost(steps in proptest::collection::vec((0u8..20, any::<bool>()), 1..60)) {
            let (_dir, ledger) = ledger();
            let ledger = ledger.lock().unwrap();
            let mut model: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
            for (pod, arrives) in steps {
                let id = format!("pod{pod}");
                if arrives {
                    match take(&ledger, &id, range(), None, &[]) {
                        Ok(allocation) => { model.insert(id, allocation.address); }
                        Err(_) => prop_assert_eq!(model.len(), 13),
                    }
                } else {
                    if let Some(pod) = ledger.find(&id).unwrap() {
                        ledger.leave(&pod).unwrap();
                        ledger.release(&pod).unwrap();
                    }
                    model.remove(&id);
                }
                let held: BTreeMap<_, _> =
                    ledger.all().unwrap().into_iter().map(|a| (a.sandbox_id, a.address)).collect();
                let distinct: BTreeSet<_> = held.values().collect();
                prop_assert_eq!(distinct.len(), held.len());
                prop_assert_eq!(&held, &model);
            }
        }
    }
}
