//! Namespaces that a container has from another one: `container:NAME` as its network, its processes or its IPC objects.
//!
//! They are those of the other's first process, so they are looked for anew at each start; the other one must run then.

use super::facts::Facts;
use super::networks::wanted;
use super::{Standalone, plan};
use crate::args::CreateOptions;
use crate::settings::Settings;
use anyhow::bail;
use knarr_agent::engine::additions::{Additions, Mount, NamespaceKind};
use serde_json::Value;

/// Where `inspect` has the mode, what is shared, what the kernel calls it, what Docker calls it.
const KINDS: [(&str, NamespaceKind, &str, &str); 3] = [
    ("NetworkMode", NamespaceKind::Network, "net", "network"),
    ("PidMode", NamespaceKind::Pid, "pid", "PID"),
    ("IpcMode", NamespaceKind::Ipc, "ipc", "IPC"),
];

/// The container that a mode names.
pub(super) fn target(mode: &str) -> Option<&str> {
    mode.strip_prefix("container:").filter(|name| !name.is_empty())
}

/// The modes with ids in the place of names, which may become others'; networks that somebody made keep their names.
pub(super) async fn by_id(settings: &Settings, options: &mut CreateOptions) -> anyhow::Result<()> {
    wanted::mode(settings, options)?;
    let CreateOptions { network, pid, ipc, .. } = options;
    for mode in [Some(network), pid.as_mut(), ipc.as_mut()].into_iter().flatten() {
        if let Some(name) = target(mode) {
            let other = Standalone::find(settings, name).await?.expect().await?;
            *mode = format!("container:{}", other.id);
        }
    }
    Ok(())
}

/// The container whose network this mode shares.
pub(super) async fn network_of(settings: &Settings, mode: &str) -> anyhow::Result<Option<Standalone>> {
    match target(mode) {
        Some(id) => Standalone::find(settings, id).await.map(Some),
        None => Ok(None),
    }
}

/// Puts the namespaces of others into a container that is about to be started.
pub(super) async fn join(settings: &Settings, place: &Standalone) -> anyhow::Result<()> {
    let container = place.expect().await?;
    let options = container.labels.get(plan::OPTIONS_LABEL).map_or("{}", String::as_str);
    let options: Value = serde_json::from_str(options)?;
    let mut additions = Additions::default();
    for (field, kind, file, what) in KINDS {
        let Some(id) = options[field].as_str().and_then(target) else { continue };
        let other = Facts::expect(&Standalone::find(settings, id).await?).await?;
        if other.pid() == 0 {
            bail!("cannot join {what} of a non running container: {id}");
        }
        additions.namespaces.push((kind, Some(format!("/proc/{}/ns/{file}", other.pid()))));
        if kind == NamespaceKind::Ipc {
            additions.mounts.extend(shared_memory(&other)?);
        }
    }
    if !additions.namespaces.is_empty() {
        place.engine.add(&container.id, additions).await?;
    }
    Ok(())
}

/// What the other one has as /dev/shm.
fn shared_memory(other: &Facts) -> anyhow::Result<Option<Mount>> {
    let mount = other.mount_at("/dev/shm").map(|mount| serde_json::from_value::<Mount>(mount.clone()));
    let Some(mut mount) = mount.transpose()? else { return Ok(None) };
    if mount.fs_type == "tmpfs" {
        // Made for it alone, and nowhere else on this machine.
        mount.source = format!("/proc/{}/root/dev/shm", other.pid());
        mount.fs_type = "bind".to_owned();
        mount.options = vec!["rbind".to_owned()];
    }
    Ok(Some(mount))
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn a_mode_may_name_a_container() {
        assert_eq!(target("container:a"), Some("a"));
        for none in ["", "host", "container:", "containers"] {
            assert_eq!(target(none), None, "{none}");
        }
    }
}
