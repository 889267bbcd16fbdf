//! `linux.resources`: the limits that cgroups hold, in version 1 terms plus the raw `unified` files of version 2.

use super::BlockIo;
use std::collections::BTreeMap;

object! {
    /// All limits; what is absent is left as it is.
    pub struct Resources {
        devices: Vec<DeviceRule>,
        memory: Option<Memory>,
        cpu: Option<Cpu>,
        pids: Option<Pids>,
        #[serde(rename = "blockIO")]
        block_io: Option<BlockIo>,
        hugepage_limits: Vec<HugepageLimit>,
        network: Option<Network>,
        rdma: BTreeMap<String, Rdma>,
        /// File name to content, version 2 only.
        unified: BTreeMap<String, String>,
    }
}

object! {
    /// Allows or denies access to devices; later rules win.
    pub struct DeviceRule {
        allow: bool,
        /// `a`, `b` or `c`; all where absent.
        #[serde(rename = "type")]
        kind: String,
        /// Any where absent or -1, as is `minor`.
        major: Option<i64>,
        minor: Option<i64>,
        /// Of the letters `rwm`.
        access: String,
    }
}

object! {
    /// Memory limits in bytes; -1 is unlimited.
    pub struct Memory {
        limit: Option<i64>,
        reservation: Option<i64>,
        /// Memory plus swap.
        swap: Option<i64>,
        kernel: Option<i64>,
        #[serde(rename = "kernelTCP")]
        kernel_tcp: Option<i64>,
        swappiness: Option<u64>,
        #[serde(rename = "disableOOMKiller")]
        disable_oom_killer: Option<bool>,
        use_hierarchy: Option<bool>,
        check_before_update: Option<bool>,
    }
}

object! {
    /// CPU time; periods, quotas and bursts in microseconds.
    pub struct Cpu {
        shares: Option<u64>,
        quota: Option<i64>,
        burst: Option<u64>,
        period: Option<u64>,
        realtime_runtime: Option<i64>,
        realtime_period: Option<u64>,
        /// cpuset list format, as is `mems`.
        cpus: String,
        mems: String,
        idle: Option<i64>,
    }
}

object! {
    /// The number of tasks; less than 0 is unlimited.
    pub struct Pids {
        limit: Option<i64>,
    }
}

impl Resources {
    /// The number of tasks, if one is given: nothing inside for no limit. systemd refuses 0, so it has always meant the least
    /// there is.
    pub fn pids_limit(&self) -> Option<Option<u64>> {
        let limit = self.pids.as_ref()?.limit?;
        Some(u64::try_from(limit).ok().map(|limit| limit.max(1)))
    }
}

object! {
    /// Huge pages of one size.
    pub struct HugepageLimit {
        /// `2MB`, `1GB`, ...
        page_size: String,
        /// Bytes.
        limit: u64,
    }
}

object! {
    /// net_cls and net_prio, version 1 only.
    pub struct Network {
        #[serde(rename = "classID")]
        class_id: Option<u32>,
        priorities: Vec<InterfacePriority>,
    }
}

object! {
    /// Priority of an interface's traffic.
    pub struct InterfacePriority {
        name: String,
        priority: u32,
    }
}

object! {
    /// Limits of one RDMA device.
    pub struct Rdma {
        hca_handles: Option<u32>,
        hca_objects: Option<u32>,
    }
}
