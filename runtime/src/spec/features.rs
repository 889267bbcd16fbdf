//! `features.json`: what a runtime can do, as `knarr-runtime features` prints it and engines read it.

use std::collections::BTreeMap;

object! {
    /// The whole document.
    pub struct Features {
        oci_version_min: String,
        oci_version_max: String,
        hooks: Vec<String>,
        mount_options: Vec<String>,
        linux: Option<LinuxFeatures>,
        annotations: BTreeMap<String, String>,
        potentially_unsafe_config_annotations: Vec<String>,
    }
}

object! {
    /// The part about this kernel.
    pub struct LinuxFeatures {
        namespaces: Vec<String>,
        capabilities: Vec<String>,
        cgroup: Option<CgroupFeatures>,
        seccomp: Option<SeccompFeatures>,
        apparmor: Option<Enabled>,
        selinux: Option<Enabled>,
        intel_rdt: Option<IntelRdtFeatures>,
        memory_policy: Option<MemoryPolicyFeatures>,
        mount_extensions: Option<MountExtensions>,
        net_devices: Option<Enabled>,
    }
}

object! {
    /// Whether something is there.
    pub struct Enabled {
        enabled: Option<bool>,
    }
}

object! {
    /// What of resctrl can be used.
    pub struct IntelRdtFeatures {
        enabled: Option<bool>,
        /// The general field of that name.
        schemata: Option<bool>,
        monitoring: Option<bool>,
    }
}

object! {
    /// Which cgroup drivers and versions are there.
    pub struct CgroupFeatures {
        v1: Option<bool>,
        v2: Option<bool>,
        systemd: Option<bool>,
        systemd_user: Option<bool>,
        rdma: Option<bool>,
    }
}

object! {
    /// What the filter generator knows.
    pub struct SeccompFeatures {
        enabled: Option<bool>,
        actions: Vec<String>,
        operators: Vec<String>,
        archs: Vec<String>,
        known_flags: Vec<String>,
        supported_flags: Vec<String>,
    }
}

object! {
    /// Which memory policies are known.
    pub struct MemoryPolicyFeatures {
        modes: Vec<String>,
        flags: Vec<String>,
    }
}

object! {
    /// Extensions of mounts.
    pub struct MountExtensions {
        idmap: Option<Enabled>,
    }
}
