//! `features`: what this runtime can do; only what is true.

use super::{Arguments, Global};
use crate::error::{Error, Result};
use crate::mounts::options;
use crate::scheduling;
use crate::seccomp::{self, actions, arch, conditions};
use crate::spec::{
    CgroupFeatures, Enabled, Features, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures,
    MountExtensions, SeccompFeatures, VERSION,
};
use std::collections::BTreeMap;

const HOOKS: &[&str] =
    &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
const NAMESPACES: &[&str] = &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];

pub(super) fn run(_: &Global, _: &Arguments) -> Result<u8> {
    let text =
        serde_json::to_string_pretty(&features()).map_err(|error| Error::invalid(error.to_string()))?;
    super::print(&(text + "\n"))
}

fn features() -> Features {
    let version = env!("CARGO_PKG_VERSION").to_string();
    Features {
        oci_version_min: "1.0.0".into(),
        oci_version_max: VERSION.into(),
        hooks: strings(HOOKS),
        mount_options: options::known(),
        linux: Some(linux()),
        // Engines ask by this name, whichever runtime it is.
        annotations: BTreeMap::from([
            ("org.knarr.version".into(), version),
            ("org.opencontainers.runc.checkpoint.enabled".into(), "true".into()),
        ]),
        potentially_unsafe_config_annotations: strings(&["org.systemd.property.", "org.criu.config"]),
    }
}

fn linux() -> LinuxFeatures {
    let enabled = |is: bool| Some(Enabled { enabled: Some(is) });
    let names = |table: &[(&str, u32)]| table.iter().map(|(name, _)| (*name).to_string()).collect();
    LinuxFeatures {
        namespaces: strings(NAMESPACES),
        capabilities: crate::capabilities::names_of(u64::MAX),
        cgroup: Some(CgroupFeatures {
            v1: Some(true),
            v2: Some(true),
            systemd: Some(true),
            systemd_user: Some(true),
            rdma: Some(true),
        }),
        seccomp: Some(SeccompFeatures {
            enabled: Some(true),
            actions: actions::names(),
            operators: conditions::operator_names(),
            archs: arch::names(),
            known_flags: seccomp::flag_names(),
            supported_flags: seccomp::flag_names(),
        }),
        apparmor: enabled(true),
        selinux: enabled(true),
        intel_rdt: Some(IntelRdtFeatures {
            enabled: Some(true),
            schemata: Some(true),
            monitoring: Some(true),
        }),
        memory_policy: Some(MemoryPolicyFeatures {
            modes: names(scheduling::MEMORY_MODES),
            flags: names(scheduling::MEMORY_FLAGS),
        }),
        mount_extensions: Some(MountExtensions { idmap: enabled(true) }),
        net_devices: enabled(true),
    }
}

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|word| (*word).to_string()).collect()
}
