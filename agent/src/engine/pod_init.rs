//! The init of a pod whose containers share a pid namespace: pid 1 there, reaping what they orphan.
//!
//! It is `knarr-monitor init`, run through the pod's own OCI runtime as a container named like the sandbox, in a root
//! file system that holds nothing but that program. Its pid namespace is pinned like the others; when it goes, the
//! kernel ends every process of the pod, which is also how the namespace is released.

use super::core::{Core, sibling_binary};
use super::failures::Failures;
use super::lifecycle::{containers, exits, gates, sandboxes};
use super::monitors::CreateContainer;
use super::records::{SandboxPhase, SandboxRecord};
use super::registry::Sandbox;
use super::{cgroups, pod_namespaces, pod_user};
use anyhow::Context;
use knarr_cri::v1::NamespaceMode;
use knarr_runtime::spec::{
    Capabilities, Linux, Mount, Namespace, NamespaceKind, Process, Root, Spec, User, VERSION,
};
use knarr_sys::mount;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tracing::Instrument;

/// Where the program is in its own root file system.
const PROGRAM: &str = "/knarr-monitor";

/// The pod asked for one pid namespace.
pub(crate) fn is_wanted(sandbox: &SandboxRecord) -> bool {
    sandbox.namespace_options().pid() == NamespaceMode::Pod
}

/// Starts it and pins its pid namespace. The monitor must run.
pub(crate) async fn start(core: &Core, sandbox: &SandboxRecord) -> anyhow::Result<()> {
    let bundle = bundle(core, &sandbox.id);
    let binary = core.config.monitor_binary.clone().unwrap_or_else(|| sibling_binary("knarr-monitor"));
    make_bundle(&bundle, &spec(core, sandbox, &binary), pod_user::maps(sandbox).as_ref())?;
    let runtime = core.runtime(&sandbox.runtime_handler)?.in_group(&sandbox.cgroup_parent);
    let create = CreateContainer {
        id: sandbox.id.clone(),
        runtime: runtime.argv(),
        bundle,
        log_path: None,
        tty: false,
        stdin: false,
        stdin_once: false,
        on_exit: Vec::new(),
        started: true,
        restore: None,
    };
    let created = containers::create_process(core, &sandbox.id, create).await;
    let pid = created.context("starting the pod's init")?;
    let target = core.paths.namespace(&sandbox.id, "pid");
    std::fs::write(&target, "")?;
    let source = format!("/proc/{pid}/ns/pid");
    Ok(mount::mount(Path::new(&source), &target, "", rustix::mount::MountFlags::BIND.bits().into(), None)?)
}

/// Stops the pod when its init ends: nothing can be started in its pid namespace any more, and a kubelet that sees
/// NOTREADY makes a new pod.
pub(crate) fn watch(core: &Arc<Core>, sandbox: &Arc<Sandbox>) {
    if !sandbox.record.with(is_wanted) {
        return;
    }
    let (core, sandbox) = (core.clone(), sandbox.clone());
    let span = tracing::info_span!("init", pod = %sandbox.id);
    let wait = async move {
        end(&core, &sandbox.id).await;
        // What it takes to stop a pod is not held all the time that it runs.
        Box::pin(ended(&core, &sandbox)).await;
    };
    tokio::spawn(wait.instrument(span));
}

/// Whoever stopped or removed the pod meanwhile has ended its init.
async fn ended(core: &Arc<Core>, sandbox: &Arc<Sandbox>) {
    let _gate = gates::of_sandbox(core, sandbox).await;
    if sandbox.record.with(|record| record.phase == SandboxPhase::Ready) {
        tracing::warn!("the pod's init has ended, so the pod has");
        let stopped = sandboxes::stop(core, sandbox).await;
        stopped.unwrap_or_else(|error| tracing::error!("stopping the pod: {error:#}"));
    }
}

/// Returns when it has ended.
async fn end(core: &Core, id: &str) {
    let Err(error) = exits::from_monitor(core, id, id).await else { return };
    tracing::debug!("waiting for its end: {error:#}");
    let state = match core.runtime_of(id) {
        Ok(runtime) => runtime.state(id).await,
        Err(error) => Err(error),
    };
    let watched = match state {
        Ok(Some(state)) if state.pid > 0 => exits::process_end(Some(state.pid)).await,
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    watched.unwrap_or_else(|error| tracing::warn!("watching its process: {error:#}"));
}

/// Ends it; fine if there is none. The monitor forgets it first, which ends a creation under way.
pub(crate) async fn stop(core: &Core, sandbox: &SandboxRecord) -> anyhow::Result<()> {
    let bundle = bundle(core, &sandbox.id);
    // Its bundle is there before it is, and goes when nothing else of it is left.
    if !is_wanted(sandbox) || !bundle.exists() {
        return Ok(());
    }
    let mut failures = Failures::default();
    failures.note("monitor", core.monitors.forget(&sandbox.id, &sandbox.id).await);
    failures.note("runtime delete", core.runtime_of(&sandbox.id)?.delete(&sandbox.id).await);
    failures.into_result()?;
    match std::fs::remove_dir_all(&bundle) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context("removing the bundle of the pod's init")
        }
        _ => Ok(()),
    }
}

fn bundle(core: &Core, sandbox_id: &str) -> PathBuf {
    core.paths.pod(sandbox_id).join("init")
}

fn make_bundle(bundle: &Path, spec: &Spec, maps: Option<&pod_user::IdMaps>) -> anyhow::Result<()> {
    let rootfs = bundle.join("rootfs");
    std::fs::create_dir_all(rootfs.join("proc"))?;
    std::fs::write(rootfs.join(PROGRAM.trim_start_matches('/')), "")?;
    if let Some(maps) = maps {
        // The pod's root makes device nodes in there.
        std::os::unix::fs::chown(&rootfs, Some(maps.uids.host_id), Some(maps.gids.host_id))?;
    }
    Ok(std::fs::write(bundle.join("config.json"), serde_json::to_vec(spec)?)?)
}

fn spec(core: &Core, sandbox: &SandboxRecord, binary: &Path) -> Spec {
    let maps = pod_user::maps(sandbox);
    let joined = pod_namespaces::own(&core.paths, sandbox)
        .into_iter()
        .map(|(kind, path)| Namespace { kind, path: path.to_string_lossy().into_owned() });
    let new = [NamespaceKind::Mount, NamespaceKind::Pid].map(|kind| Namespace { kind, path: String::new() });
    let bind = Mount {
        destination: PROGRAM.into(),
        fs_type: "bind".into(),
        source: binary.to_string_lossy().into_owned(),
        options: ["bind", "ro"].map(str::to_owned).to_vec(),
        ..Mount::default()
    };
    let proc = Mount {
        destination: "/proc".into(),
        fs_type: "proc".into(),
        source: "proc".into(),
        options: ["nosuid", "noexec", "nodev"].map(str::to_owned).to_vec(),
        ..Mount::default()
    };
    Spec {
        oci_version: VERSION.into(),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        process: Some(Process {
            user: User::default(),
            args: vec![PROGRAM.into(), "init".into()],
            cwd: "/".into(),
            capabilities: Some(Capabilities::default()),
            no_new_privileges: true,
            ..Process::default()
        }),
        mounts: vec![proc, bind],
        linux: Some(Linux {
            namespaces: new.into_iter().chain(joined).collect(),
            cgroups_path: cgroups::cgroups_path(&sandbox.cgroup_parent, &sandbox.id),
            uid_mappings: maps.iter().map(|maps| maps.uids.clone()).collect(),
            gid_mappings: maps.iter().map(|maps| maps.gids.clone()).collect(),
            ..Linux::default()
        }),
        ..Spec::default()
    }
}
