//! What this machine is and has, read from the kernel and from files that every distribution has.

use crate::config::Config;
use crate::kubelet::resources::{self, Amounts};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};

/// Memory kept for everything that is not a pod, in bytes: what hard eviction would defend.
const EVICTION_MEMORY: u64 = 100 << 20;
/// Part of the disk that pods may not fill.
const EVICTION_DISK_PERCENT: u64 = 10;

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    #[allow(missing_docs)]
    pub processors: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes of the file system that holds pods and images.
    pub disk: u64,
    /// Page size (`2Mi`) and bytes of all pages of that size.
    pub hugepages: Vec<(String, u64)>,
    #[allow(missing_docs)]
    pub kernel: String,
    /// Such as `Debian GNU/Linux 12 (bookworm)`.
    pub os_image: String,
    /// `amd64`, `arm64`, ...
    pub architecture: String,
    #[allow(missing_docs)]
    pub machine_id: String,
    #[allow(missing_docs)]
    pub system_uuid: String,
    #[allow(missing_docs)]
    pub boot_id: String,
    /// The kernel enforces AppArmor profiles.
    pub apparmor: bool,
}

impl Machine {
    /// Looks at this machine; `data_dir` tells which disk counts.
    pub fn detect(data_dir: &Path) -> Machine {
        let line = |path: &str| {
            std::fs::read_to_string(path).map(|text| text.trim().to_string()).unwrap_or_default()
        };
        let machine_id = line("/etc/machine-id");
        let system_uuid = line("/sys/class/dmi/id/product_uuid");
        Machine {
            processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory: meminfo("MemTotal").unwrap_or(0),
            disk: disk_size(data_dir).unwrap_or(0),
            hugepages: hugepages(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: os_image(&line("/etc/os-release")),
            architecture: architecture().to_string(),
            system_uuid: if system_uuid.is_empty() { machine_id.clone() } else { system_uuid },
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            apparmor: line("/sys/module/apparmor/parameters/enabled").starts_with('Y')
                && Path::new("/sys/kernel/security/apparmor").exists(),
        }
    }

    /// `status.capacity` of the node.
    pub fn capacity(&self, max_pods: u32) -> Amounts {
        let mut amounts = Amounts::new();
        amounts.insert("cpu".into(), Quantity(self.processors.to_string()));
        amounts.insert("memory".into(), kibibytes(self.memory));
        amounts.insert("ephemeral-storage".into(), kibibytes(self.disk));
        amounts.insert("pods".into(), Quantity(max_pods.to_string()));
        for (size, bytes) in &self.hugepages {
            amounts.insert(format!("hugepages-{size}"), Quantity(bytes.to_string()));
        }
        amounts
    }

    /// `status.allocatable` of the node: capacity without what is `reserved` for everything that is not a pod, and
    /// without what eviction defends.
    pub fn allocatable(&self, max_pods: u32, reserved: &Amounts) -> Amounts {
        let mut amounts = self.capacity(max_pods);
        let kept = |resource: &str| {
            let units = reserved.get(resource).and_then(resources::value).unwrap_or(0);
            u64::try_from(units).unwrap_or(0)
        };
        let memory = self.memory.saturating_sub(EVICTION_MEMORY).saturating_sub(kept("memory"));
        amounts.insert("memory".into(), kibibytes(memory));
        let disk =
            (self.disk / 100 * (100 - EVICTION_DISK_PERCENT)).saturating_sub(kept("ephemeral-storage"));
        amounts.insert("ephemeral-storage".into(), Quantity(disk.to_string()));
        let milli =
            reserved.get("cpu").and_then(resources::milli).and_then(|milli| u64::try_from(milli).ok());
        let left = (self.processors * 1000).saturating_sub(milli.unwrap_or(0));
        let cpu = if left.is_multiple_of(1000) { (left / 1000).to_string() } else { format!("{left}m") };
        amounts.insert("cpu".into(), Quantity(cpu));
        amounts
    }
}

fn kibibytes(bytes: u64) -> Quantity {
    Quantity(format!("{}Ki", bytes / 1024))
}

/// One figure of `/proc/meminfo`, in bytes.
pub fn meminfo(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Size and free bytes, inodes and free inodes of the file system at `path` (or its nearest existing ancestor).
pub fn file_system(path: &Path) -> Option<rustix::fs::StatVfs> {
    path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok())
}

fn disk_size(path: &Path) -> Option<u64> {
    file_system(path).map(|stat| stat.f_blocks * stat.f_frsize)
}

/// The kernel's directories of the sizes of huge pages, with the kilobytes of each.
fn huge_page_directories() -> impl Iterator<Item = (PathBuf, u64)> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let name = entry.file_name();
        let kilobytes = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some((entry.path(), kilobytes))
    })
}

/// `2Mi`, as resources are named.
fn huge_page_size(kilobytes: u64) -> String {
    match kilobytes {
        gigabytes if gigabytes % (1 << 20) == 0 => format!("{}Gi", gigabytes >> 20),
        megabytes if megabytes % (1 << 10) == 0 => format!("{}Mi", megabytes >> 10),
        kilobytes => format!("{kilobytes}Ki"),
    }
}

fn hugepages() -> Vec<(String, u64)> {
    let sizes = huge_page_directories().filter_map(|(directory, kilobytes)| {
        let count: u64 = std::fs::read_to_string(directory.join("nr_hugepages")).ok()?.trim().parse().ok()?;
        Some((huge_page_size(kilobytes), count * kilobytes * 1024))
    });
    let mut sizes: Vec<(String, u64)> = sizes.collect();
    sizes.sort();
    sizes
}

/// The sizes of huge pages of this machine, as resources are named: `2Mi`.
pub fn huge_page_sizes() -> Vec<String> {
    huge_page_directories().map(|(_, kilobytes)| huge_page_size(kilobytes)).collect()
}

fn os_image(release: &str) -> String {
    let value = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or("Linux").trim_matches('"').to_string()
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The address by which this machine reaches others: that of its default route. Asking the kernel for a route
/// sends nothing.
pub fn address() -> IpAddr {
    let route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    route().filter(|ip| !ip.is_unspecified()).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// By which the node is reached: of one family or, where it is set and its pods have both, of two.
pub fn addresses(config: &Config) -> Vec<IpAddr> {
    let first = config.kubelet.node_ip.unwrap_or_else(address);
    let second = config.network.second_cluster().filter(|_| first.is_ipv4());
    let second = second.and(config.kubelet.node_ip_v6).map(IpAddr::V6);
    [Some(first), second].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_is_not_given_away() {
        let machine = Machine { processors: 2, memory: 4 << 30, disk: 100 << 30, ..Default::default() };
        let shown = |reserved: &[(&str, &str)]| {
            let reserved = reserved.iter().map(|(name, text)| (name.to_string(), Quantity(text.to_string())));
            let amounts = machine.allocatable(10, &reserved.collect());
            ["cpu", "memory", "ephemeral-storage"].map(|name| amounts[name].0.clone())
        };
        assert_eq!(shown(&[]), ["2", "4091904Ki", "96636764160"]);
        let some = [("cpu", "500m"), ("memory", "1Gi"), ("ephemeral-storage", "1Gi")];
        assert_eq!(shown(&some), ["1500m", "3043328Ki", "95563022336"]);
        assert_eq!(shown(&[("cpu", "9"), ("memory", "1Ti")])[..2], ["0", "0Ki"]);
    }
}
