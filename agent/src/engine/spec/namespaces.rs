//! `linux.namespaces`: the pod's pinned ones are joined by path, those of the host are not named, the rest is new.

use super::Input;
use knarr_cri::{Status, v1::NamespaceMode};
use knarr_runtime::spec::{Namespace, NamespaceKind};

pub(super) fn build(input: &Input<'_>) -> Result<Vec<Namespace>, Status> {
    let pod = input.sandbox.namespace_options();
    let own = input.security().namespace_options.unwrap_or_else(|| pod.clone());
    let mut namespaces = vec![new(NamespaceKind::Mount)];
    if pod.network() != NamespaceMode::Node {
        namespaces.push(joined(input, NamespaceKind::Network)?);
        namespaces.push(joined(input, NamespaceKind::Uts)?);
    }
    if super::security::has_user_namespace(&pod) {
        namespaces.push(joined(input, NamespaceKind::User)?);
    }
    if pod.ipc() != NamespaceMode::Node {
        namespaces.push(joined(input, NamespaceKind::Ipc)?);
    }
    match own.pid() {
        NamespaceMode::Container => namespaces.push(new(NamespaceKind::Pid)),
        NamespaceMode::Pod | NamespaceMode::Target => namespaces.push(joined(input, NamespaceKind::Pid)?),
        NamespaceMode::Node => {}
    }
    // Where controllers live in cgroup v1, /sys/fs/cgroup is bound per controller and shows only the container's part.
    if input.host.unified_cgroups && !input.privileged() {
        namespaces.push(new(NamespaceKind::Cgroup));
    }
    Ok(namespaces)
}

fn new(kind: NamespaceKind) -> Namespace {
    Namespace { kind, path: String::new() }
}

fn joined(input: &Input<'_>, kind: NamespaceKind) -> Result<Namespace, Status> {
    let path = input.namespaces.get(&kind).ok_or_else(|| {
        Status::failed_precondition(format!("sandbox {} has no {kind:?} namespace to join", input.sandbox.id))
    })?;
    Ok(Namespace { kind, path: path.to_string_lossy().into_owned() })
}
