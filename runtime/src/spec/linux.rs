//! `linux`: everything about the container that only this kernel has.

use super::{IdMapping, IntelRdt, Namespace, Resources, Seccomp};
use std::collections::BTreeMap;

object! {
    /// The `linux` section.
    pub struct Linux {
        uid_mappings: Vec<IdMapping>,
        gid_mappings: Vec<IdMapping>,
        sysctl: BTreeMap<String, String>,
        resources: Option<Resources>,
        /// `/a/b` or `a/b` for cgroupfs; `slice:prefix:name` for systemd.
        cgroups_path: String,
        namespaces: Vec<Namespace>,
        devices: Vec<Device>,
        net_devices: BTreeMap<String, NetDevice>,
        seccomp: Option<Seccomp>,
        /// `shared`, `slave`, `private`, `unbindable`, or one of these with an `r` before.
        rootfs_propagation: String,
        masked_paths: Vec<String>,
        readonly_paths: Vec<String>,
        /// SELinux label of the mounts.
        mount_label: String,
        intel_rdt: Option<IntelRdt>,
        memory_policy: Option<MemoryPolicy>,
        personality: Option<Personality>,
        /// By clock: `monotonic`, `boottime`.
        time_offsets: BTreeMap<String, TimeOffset>,
    }
}

object! {
    /// A device node to make.
    pub struct Device {
        path: String,
        /// `c`, `b`, `u` or `p`.
        #[serde(rename = "type")]
        kind: String,
        major: i64,
        minor: i64,
        file_mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    }
}

object! {
    /// A network device that moves from the host into the container; the map's key is its name on the host.
    pub struct NetDevice {
        /// Name in the container; the same where absent.
        name: String,
    }
}

object! {
    /// The arguments of set_mempolicy(2).
    pub struct MemoryPolicy {
        /// `MPOL_...`
        mode: String,
        /// A list of nodes, e.g. `0-3,7`.
        nodes: String,
        /// `MPOL_F_...`
        flags: Vec<String>,
    }
}

object! {
    /// The arguments of personality(2).
    pub struct Personality {
        /// `LINUX` or `LINUX32`.
        domain: String,
        flags: Vec<String>,
    }
}

object! {
    /// What a time namespace adds to a clock of the host.
    pub struct TimeOffset {
        secs: i64,
        nanosecs: u32,
    }
}
