//! From what CRI asks and what the image says to an OCI `config.json`: a chain of small pure functions, one topic per
//! file. Everything that needs the machine (paths resolved, users looked up, devices listed) is found out before and
//! handed in, so the whole chain can be tested with tables.
//!
//! Defaults are containerd's, because that is what images and charts in the field were tried with.

mod capabilities;
mod cgroup;
pub(crate) mod devices;
mod mounts;
mod namespaces;
mod process;
mod resources;
pub(crate) mod seccomp;
mod seccomp_profile;
mod security;
pub(crate) mod user;

pub(crate) use capabilities::{NAMES as CAPABILITY_NAMES, by_default as capabilities_by_default};
pub(crate) use mounts::{bind, mount, standard as standard_mounts};
pub(crate) use resources::{merge as merge_resources, to_oci as oci_resources};
pub(crate) use seccomp_profile::default_profile as default_seccomp;
pub(crate) use security::default_hidden_paths;

use super::host::HostFacts;
use super::records::{SandboxRecord, UserRecord};
use knarr_cri::{Status, v1};
use knarr_runtime::spec::{Linux, Root, Spec, VERSION};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the image's config says about how to run it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ImageDefaults {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) user: String,
    pub(crate) working_dir: String,
    pub(crate) stop_signal: String,
    /// Directories that are volumes of their own.
    pub(crate) volumes: Vec<String>,
}

/// A CRI mount whose source has been found.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ResolvedMount {
    /// As CRI gave it; an image mount with what the image resolved to.
    pub(crate) request: v1::Mount,
    /// The file or directory to bind, symbolic links followed.
    pub(crate) source: PathBuf,
}

/// The pod's own files that every container gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodFiles {
    pub(crate) hostname: PathBuf,
    pub(crate) hosts: PathBuf,
    pub(crate) resolv_conf: PathBuf,
    pub(crate) shm: PathBuf,
}

/// Everything the chain may look at.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    pub(crate) id: &'a str,
    pub(crate) sandbox: &'a SandboxRecord,
    pub(crate) config: &'a v1::ContainerConfig,
    pub(crate) image: &'a ImageDefaults,
    pub(crate) host: &'a HostFacts,
    pub(crate) user: &'a UserRecord,
    pub(crate) hostname: &'a str,
    pub(crate) files: &'a PodFiles,
    pub(crate) mounts: &'a [ResolvedMount],
    /// Volumes of the image that need a directory of their own: where, and which directory.
    pub(crate) volumes: &'a [(String, PathBuf)],
    pub(crate) devices: &'a devices::HostDevices,
    /// Namespace files to join, by OCI kind.
    pub(crate) namespaces: &'a BTreeMap<knarr_runtime::spec::NamespaceKind, PathBuf>,
    /// Content of a localhost seccomp profile.
    pub(crate) localhost_seccomp: Option<&'a str>,
}

impl Input<'_> {
    /// The security context; an empty one where CRI gave none.
    pub(crate) fn security(&self) -> v1::LinuxContainerSecurityContext {
        let linux = self.config.linux.as_ref();
        linux.and_then(|linux| linux.security_context.clone()).unwrap_or_default()
    }

    pub(crate) fn privileged(&self) -> bool {
        self.security().privileged
    }
}

/// The whole `config.json` of a container.
pub(crate) fn build(input: &Input<'_>) -> Result<Spec, Status> {
    let mut spec = Spec {
        oci_version: VERSION.into(),
        root: Some(Root { path: "rootfs".into(), readonly: input.security().readonly_rootfs }),
        annotations: annotations(input),
        linux: Some(Linux::default()),
        ..Spec::default()
    };
    spec.process = Some(process::build(input)?);
    let (mounts, rootfs_propagation) = mounts::build(input)?;
    spec.mounts = mounts;
    if let Some(linux) = spec.linux.as_mut() {
        linux.rootfs_propagation = rootfs_propagation;
        linux.namespaces = namespaces::build(input)?;
        if let Some(maps) = super::pod_user::maps(input.sandbox) {
            (linux.uid_mappings, linux.gid_mappings) = (vec![maps.uids], vec![maps.gids]);
        }
        linux.cgroups_path = cgroup::path(input);
        linux.devices = devices::nodes(input);
        linux.resources = Some(resources::build(input));
        linux.seccomp = seccomp::build(input)?;
        (linux.masked_paths, linux.readonly_paths) = security::hidden_paths(input);
    }
    Ok(spec)
}

/// The annotations that tools look for in a bundle made through CRI.
fn annotations(input: &Input<'_>) -> BTreeMap<String, String> {
    let pod = input.sandbox.config.metadata.clone().unwrap_or_default();
    let container = input.config.metadata.clone().unwrap_or_default();
    [
        ("io.kubernetes.cri.container-type", "container".to_owned()),
        ("io.kubernetes.cri.container-name", container.name),
        ("io.kubernetes.cri.sandbox-id", input.sandbox.id.clone()),
        ("io.kubernetes.cri.sandbox-name", pod.name),
        ("io.kubernetes.cri.sandbox-namespace", pod.namespace),
        ("io.kubernetes.cri.sandbox-uid", pod.uid),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

#[cfg(test)]
mod tests;
