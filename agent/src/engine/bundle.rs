//! A container's bundle: its root file system mounted from image layers, and its `config.json`.
//!
//! This is the only place where what the image store hands out becomes something an OCI runtime reads. Making is
//! undone as a whole by `remove`, which needs nothing but the container's id and may be called at any point.

use super::core::{Core, now};
use super::failures::Failures;
use super::records::{ContainerRecord, SandboxRecord};
use super::spec::{self, ImageDefaults, user};
use super::{
    cdi, checkpoint, idmapped_mount, mount_sources, pod_files, pod_namespaces, pod_user, rootfs_file,
    stop_signal,
};
use anyhow::Context;
use knarr_cri::{
    Status,
    v1::{self, ContainerConfig, NamespaceMode},
};
use knarr_images::{Image, Mount as ImageMount};
use knarr_runtime::spec::{NamespaceKind, Spec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Makes the bundle of a new container. Blocking.
pub(crate) fn make(
    core: &Core,
    id: &str,
    sandbox: &SandboxRecord,
    config: &ContainerConfig,
    image: &Image,
) -> anyhow::Result<ContainerRecord> {
    let mounts = prepare(core, id, image)?;
    mount_rootfs(core, id, sandbox, mounts)?;
    describe(core, id, sandbox, config, image)
}

/// A snapshot for the container. Its bundle is there before it: by that the next engine finds what a killed one has left.
fn prepare(core: &Core, id: &str, image: &Image) -> anyhow::Result<Vec<ImageMount>> {
    make_directory(&core.paths.rootfs(id))?;
    Ok(core.images.prepare(id, image)?)
}

/// Makes the bundle of a new container that goes on from the checkpoint laid out for it, with what that one had written.
/// Blocking.
pub(crate) fn make_from_checkpoint(
    core: &Core,
    id: &str,
    sandbox: &SandboxRecord,
    config: &ContainerConfig,
    image: &Image,
) -> anyhow::Result<ContainerRecord> {
    let mounts = prepare(core, id, image)?;
    let written = checkpoint::written(core, id);
    if written.exists() {
        let mut archive = std::fs::File::open(&written)?;
        core.images.restore_written(id, &mut archive).context("restoring what the container wrote")?;
    }
    mount_rootfs(core, id, sandbox, mounts)?;
    let record = describe(core, id, sandbox, config, image)?;
    Ok(ContainerRecord { from_checkpoint: true, ..record })
}

/// Makes the bundle of a container again whose files are all that is left of it, with what it wrote. Blocking.
pub(crate) fn make_again(
    core: &Core,
    sandbox: &SandboxRecord,
    container: &ContainerRecord,
) -> anyhow::Result<ContainerRecord> {
    let image = core.images.find(&container.image_id)?;
    let image = image.with_context(|| format!("its image {} has been removed", container.image_id))?;
    let rootfs = core.paths.rootfs(&container.id);
    if rootfs.exists() {
        ImageMount::unmount(&rootfs).context("unmounting the root file system")?;
    }
    mount_rootfs(core, &container.id, sandbox, core.images.mounts(&container.id)?)?;
    let made = describe(core, &container.id, sandbox, &container.config, &image)?;
    Ok(ContainerRecord { created_at: container.created_at, ..made })
}

/// Writes `config.json` for a root file system that is mounted.
fn describe(
    core: &Core,
    id: &str,
    sandbox: &SandboxRecord,
    config: &ContainerConfig,
    image: &Image,
) -> anyhow::Result<ContainerRecord> {
    let defaults = image_defaults(core, image)?;
    let security = security_of(config);
    let wanted = user::wanted(&security, &defaults.user)?;
    let rootfs = core.paths.rootfs(id);
    let (passwd, group) =
        (rootfs_file::read(&rootfs, "etc/passwd")?, rootfs_file::read(&rootfs, "etc/group")?);
    let user = user::resolve(&wanted, &security, &passwd, &group)?;
    let mounts = mount_sources::resolve(core, id, sandbox, &config.mounts)?;
    let volumes =
        if security.readonly_rootfs { make_volumes(core, id, &defaults, config)? } else { Vec::new() };
    let mut spec = spec::build(&spec::Input {
        id,
        sandbox,
        config,
        image: &defaults,
        host: &core.host,
        user: &user,
        hostname: &pod_files::hostname(sandbox),
        files: &pod_files::locate(&core.paths, sandbox),
        mounts: &mounts,
        volumes: &volumes,
        devices: &devices(config, security.privileged)?,
        namespaces: &namespaces(core, sandbox, &security)?,
        localhost_seccomp: localhost_seccomp(&security)?.as_deref(),
    })?;
    cdi::inject(&mut spec, config, &core.config.engine.cdi_spec_dirs)?;
    write_spec(core, id, &spec)?;
    Ok(ContainerRecord {
        id: id.to_owned(),
        sandbox_id: sandbox.id.clone(),
        boot_id: core.host.boot_id.clone(),
        config: config.clone(),
        image_id: image.id.clone(),
        image_ref: image.digests.first().unwrap_or(&image.id).clone(),
        created_at: now(),
        started_at: 0,
        pid: None,
        exit: None,
        log_path: log_path(&sandbox.config.log_directory, &config.log_path)?,
        user,
        stop_signal: stop_signal::choose(config.stop_signal(), &defaults.stop_signal),
        mounts: mounts.into_iter().map(shown).collect(),
        from_checkpoint: false,
        removed: false,
    })
}

/// The mount as CRI shows it.
fn shown(mount: spec::ResolvedMount) -> v1::Mount {
    let host_path = match mount.request.image {
        Some(_) => mount.request.host_path.clone(),
        None => mount.source.to_string_lossy().into_owned(),
    };
    v1::Mount { host_path, ..mount.request }
}

/// Removes whatever `make` made. Blocking; idempotent.
pub(crate) fn remove(core: &Core, id: &str, mounts: usize) -> anyhow::Result<()> {
    let mut failures = Failures::default();
    failures.note("releasing image volumes", mount_sources::release(core, id, mounts));
    let rootfs = core.paths.rootfs(id);
    if rootfs.exists() {
        failures.note("unmounting the root file system", ImageMount::unmount(&rootfs));
    }
    failures.note("removing the snapshot", core.images.remove_snapshot(id));
    failures.note("removing the bundle", remove_directory(core, id));
    failures.note("removing its checkpoint", checkpoint::forget(core, id));
    failures.into_result()
}

/// The directory goes only once nothing is mounted in it: `rootfs` is removed by `rmdir`, which fails on a mount and
/// on anything that lies in it.
fn remove_directory(core: &Core, id: &str) -> anyhow::Result<()> {
    let ignore_missing = |result: std::io::Result<()>| match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    ignore_missing(std::fs::remove_dir(core.paths.rootfs(id)))?;
    ignore_missing(std::fs::remove_dir(core.paths.bundle(id).join("images")))?;
    Ok(ignore_missing(std::fs::remove_dir_all(core.paths.bundle(id)))?)
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))
}

fn mount_rootfs(
    core: &Core,
    id: &str,
    sandbox: &SandboxRecord,
    mounts: Vec<ImageMount>,
) -> anyhow::Result<()> {
    let target = core.paths.rootfs(id);
    make_directory(&target)?;
    for mount in mounts {
        let mount = if core.config.engine.volatile { mount.volatile() } else { mount };
        mount_snapshot(core, id, sandbox, &mount, &target)?;
    }
    Ok(())
}

/// Mounts a snapshot for a container, seen with the pod's ids where it has its own.
pub(crate) fn mount_snapshot(
    core: &Core,
    id: &str,
    sandbox: &SandboxRecord,
    mount: &ImageMount,
    target: &Path,
) -> anyhow::Result<()> {
    let Some(maps) = pod_user::maps(sandbox) else { return Ok(mount.mount_at(target)?) };
    let user = core.paths.namespace(&sandbox.id, "user");
    idmapped_mount::mount_at(mount, target, &user, &maps, &core.paths.bundle(id).join("parts"))
}

/// Reads the bundle's `config.json`.
pub(crate) fn read_spec(core: &Core, id: &str) -> anyhow::Result<Spec> {
    let path = core.paths.bundle(id).join("config.json");
    let json = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    Ok(knarr_runtime::spec::parse(&json)?)
}

/// Writes the bundle's `config.json`.
pub(crate) fn write_spec(core: &Core, id: &str, spec: &Spec) -> anyhow::Result<()> {
    let path = core.paths.bundle(id).join("config.json");
    std::fs::write(&path, serde_json::to_vec(spec)?).with_context(|| format!("writing {}", path.display()))
}

fn security_of(config: &ContainerConfig) -> v1::LinuxContainerSecurityContext {
    config.linux.as_ref().and_then(|linux| linux.security_context.clone()).unwrap_or_default()
}

fn image_defaults(core: &Core, image: &Image) -> anyhow::Result<ImageDefaults> {
    let config = core.images.config(image)?;
    let Some(config) = config.config() else { return Ok(ImageDefaults::default()) };
    Ok(ImageDefaults {
        entrypoint: config.entrypoint().clone().unwrap_or_default(),
        cmd: config.cmd().clone().unwrap_or_default(),
        env: config.env().clone().unwrap_or_default(),
        user: config.user().clone().unwrap_or_default(),
        working_dir: config.working_dir().clone().unwrap_or_default(),
        stop_signal: config.stop_signal().clone().unwrap_or_default(),
        volumes: config.volumes().clone().unwrap_or_default(),
    })
}

/// Under a read-only root the image's volumes stay writable: each gets an empty directory of the container's own.
fn make_volumes(
    core: &Core,
    id: &str,
    image: &ImageDefaults,
    config: &ContainerConfig,
) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut volumes = Vec::new();
    for (index, place) in image.volumes.iter().enumerate() {
        if config.mounts.iter().any(|mount| mount.container_path == *place) {
            continue;
        }
        let directory = core.paths.bundle(id).join("volumes").join(index.to_string());
        std::fs::create_dir_all(&directory)?;
        volumes.push((place.clone(), directory));
    }
    Ok(volumes)
}

fn devices(config: &ContainerConfig, privileged: bool) -> anyhow::Result<spec::devices::HostDevices> {
    let mut found = if privileged { spec::devices::all()? } else { Default::default() };
    for device in &config.devices {
        let resolved =
            spec::devices::resolve(device).with_context(|| format!("device {:?}", device.host_path))?;
        found.devices.retain(|(known, _)| resolved.devices.iter().all(|(new, _)| new.path != known.path));
        found.devices.extend(resolved.devices);
    }
    Ok(found)
}

/// The files of the namespaces a container joins.
fn namespaces(
    core: &Core,
    sandbox: &SandboxRecord,
    security: &v1::LinuxContainerSecurityContext,
) -> anyhow::Result<BTreeMap<NamespaceKind, PathBuf>> {
    let mut own = pod_namespaces::own(&core.paths, sandbox);
    let options = security.namespace_options.clone().unwrap_or_else(|| sandbox.namespace_options());
    match options.pid() {
        NamespaceMode::Pod => {
            let file = core.paths.namespace(&sandbox.id, "pid");
            anyhow::ensure!(file.exists(), "sandbox {} has no pid namespace to share", sandbox.id);
            own.insert(NamespaceKind::Pid, file);
        }
        NamespaceMode::Target => {
            own.insert(NamespaceKind::Pid, target_pid_namespace(core, sandbox, &options.target_id)?);
        }
        NamespaceMode::Container | NamespaceMode::Node => {}
    }
    Ok(own)
}

/// The pid namespace of another container of the same pod (ephemeral debug containers).
fn target_pid_namespace(core: &Core, sandbox: &SandboxRecord, target: &str) -> anyhow::Result<PathBuf> {
    let target = core.registry.container(target)?;
    let record = target.record.get();
    if record.sandbox_id != sandbox.id {
        return Err(Status::invalid_argument(format!(
            "target container {} is not in this sandbox",
            record.id
        ))
        .into());
    }
    match record.pid.filter(|_| record.is_running()) {
        Some(pid) => Ok(format!("/proc/{pid}/ns/pid").into()),
        None => {
            Err(Status::failed_precondition(format!("target container {} is not running", record.id)).into())
        }
    }
}

fn localhost_seccomp(security: &v1::LinuxContainerSecurityContext) -> anyhow::Result<Option<String>> {
    if security.privileged {
        return Ok(None);
    }
    let Some(file) = spec::seccomp::localhost_file(security) else { return Ok(None) };
    match std::fs::read_to_string(&file) {
        Ok(text) => Ok(Some(text)),
        // In Go's words, which people know.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            anyhow::bail!("cannot load seccomp profile {file:?}: open {file}: no such file or directory")
        }
        Err(error) => Err(error).with_context(|| format!("cannot load seccomp profile {file:?}")),
    }
}

/// `log_directory` and `log_path` joined; nothing is logged unless both are given.
fn log_path(directory: &str, path: &str) -> Result<Option<PathBuf>, Status> {
    if directory.is_empty() || path.is_empty() {
        return Ok(None);
    }
    let relative = PathBuf::from(path);
    if relative.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Status::invalid_argument(format!("log_path {path:?} must not contain '..'")));
    }
    Ok(Some(PathBuf::from(directory).join(relative.strip_prefix("/").unwrap_or(&relative))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_stay_in_their_directory() {
        assert_eq!(log_path("/logs", "c/0.log").unwrap(), Some("/logs/c/0.log".into()));
        assert_eq!(log_path("/logs", "/c.log").unwrap(), Some("/logs/c.log".into()));
        assert_eq!(log_path("", "c").unwrap(), None);
        assert!(log_path("/logs", "../x").is_err());
    }
}
