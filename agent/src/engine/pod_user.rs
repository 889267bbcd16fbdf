//! A pod's user namespace: root in the pod is an unprivileged user of the host. It owns the pod's other namespaces, so
//! that this root may mount sysfs, set addresses and so on, but only there.
//!
//! The ids come from whoever makes the pod (a kubelet gives each pod a range); the engine only checks them.

use super::core::sibling_binary;
use super::records::{SandboxRecord, namespace_options};
use anyhow::{Context, bail};
use knarr_cri::Status;
use knarr_cri::v1::{IdMapping, NamespaceMode, PodSandboxConfig};
use knarr_runtime::spec;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The ids of a pod: user 0 inside is user `uids.host_id` outside.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IdMaps {
    pub(crate) uids: spec::IdMapping,
    pub(crate) gids: spec::IdMapping,
}

/// The maps of a pod with a user namespace of its own.
pub(crate) fn maps(sandbox: &SandboxRecord) -> Option<IdMaps> {
    let user = sandbox.namespace_options().userns_options?;
    let convert = |maps: &[IdMapping]| {
        maps.first().map(|map| spec::IdMapping {
            container_id: map.container_id,
            host_id: map.host_id,
            size: map.length,
        })
    };
    match user.mode() {
        NamespaceMode::Pod => Some(IdMaps { uids: convert(&user.uids)?, gids: convert(&user.gids)? }),
        _ => None,
    }
}

/// Refuses what CRI does not define, with the field.
pub(crate) fn check(config: &PodSandboxConfig) -> Result<(), Status> {
    let options = namespace_options(config);
    let Some(user) = &options.userns_options else { return Ok(()) };
    let refuse = |why: &str| Err(Status::invalid_argument(format!("userns_options: {why}")));
    match user.mode() {
        NamespaceMode::Node if user.uids.is_empty() && user.gids.is_empty() => return Ok(()),
        NamespaceMode::Node => return refuse("mappings need mode POD"),
        NamespaceMode::Pod => {}
        mode => return refuse(&format!("unsupported user namespace mode {}", mode.as_str_name())),
    }
    let shared = [("network", options.network()), ("ipc", options.ipc()), ("pid", options.pid())];
    if let Some((name, _)) = shared.iter().find(|(_, mode)| *mode == NamespaceMode::Node) {
        return refuse(&format!("a pod with a user namespace cannot share the host's {name} namespace"));
    }
    check_map("uids", &user.uids)?;
    check_map("gids", &user.gids)
}

fn check_map(field: &str, maps: &[IdMapping]) -> Result<(), Status> {
    let refuse = |why: &str| Err(Status::invalid_argument(format!("userns_options.{field}: {why}")));
    let [map] = maps else { return refuse("exactly one mapping is needed") };
    if map.container_id != 0 {
        return refuse("the mapping must include container id 0");
    }
    if map.length == 0 || map.host_id.checked_add(map.length).is_none() {
        return refuse("the mapping has no valid length");
    }
    if map.host_id == 0 {
        return refuse("the host's root must not be mapped");
    }
    Ok(())
}

/// A process that holds new namespaces, until it is dropped.
#[derive(Debug)]
pub(crate) struct Holder {
    child: Child,
}

impl Holder {
    /// Makes a user namespace with these maps, and `kinds` (as in `/proc/PID/ns`) inside it. Blocking.
    pub(crate) fn start(program: Option<&Path>, maps: &IdMaps, kinds: &[&str]) -> anyhow::Result<Self> {
        let program = program.map_or_else(|| sibling_binary("knarr-monitor"), Path::to_owned);
        let child = Command::new(&program)
            .arg("namespaces")
            .args(kinds)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("run {}", program.display()))?;
        let mut holder = Self { child };
        holder.converse(maps)?;
        Ok(holder)
    }

    fn converse(&mut self, maps: &IdMaps) -> anyhow::Result<()> {
        let stdout = self.child.stdout.take().context("the helper has no output")?;
        let mut words = BufReader::new(stdout).lines();
        let mut expect = |wanted: &str| match words.next().transpose()? {
            Some(word) if word == wanted => Ok(()),
            Some(error) => bail!("making the pod's user namespace: {error}"),
            None => bail!("making the pod's user namespace: the helper ended"),
        };
        expect("user")?;
        for (file, map) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
            let path = self.proc(file);
            std::fs::write(&path, format!("{} {} {}\n", map.container_id, map.host_id, map.size))
                .with_context(|| format!("write {path}"))?;
        }
        if let Some(stdin) = &mut self.child.stdin {
            stdin.write_all(b"mapped\n")?;
        }
        expect("ready")
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.child.id())
    }

    /// The file of one of its namespaces.
    pub(crate) fn namespace(&self, kind: &str) -> String {
        self.proc(&format!("ns/{kind}"))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // It has nothing to finish; both fail only if it has gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_cri::v1::{LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceOption, UserNamespace};

    fn config(mode: NamespaceMode, maps: &[(u32, u32, u32)], network: NamespaceMode) -> PodSandboxConfig {
        let maps: Vec<_> = maps
            .iter()
            .map(|&(container_id, host_id, length)| IdMapping { host_id, container_id, length })
            .collect();
        let user = UserNamespace { mode: mode as i32, uids: maps.clone(), gids: maps };
        let options =
            NamespaceOption { network: network as i32, userns_options: Some(user), ..Default::default() };
        let security = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        let linux = LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() };
        PodSandboxConfig { linux: Some(linux), ..Default::default() }
    }

    #[test]
    fn one_map_with_root_in_it_is_needed() {
        use NamespaceMode::{Container, Node, Pod, Target};
        let good: &[(u32, u32, u32)] = &[(0, 1000, 65536)];
        for (mode, maps, network, problem) in [
            (Pod, good, Pod, None),
            (Node, &[][..], Pod, None),
            (Node, good, Pod, Some("mode POD")),
            (Container, &[][..], Pod, Some("unsupported")),
            (Target, &[][..], Pod, Some("unsupported")),
            (Pod, &[][..], Pod, Some("exactly one")),
            (Pod, &[(0, 1, 1), (1, 2, 1)][..], Pod, Some("exactly one")),
            (Pod, &[(1, 1000, 10)][..], Pod, Some("container id 0")),
            (Pod, &[(0, 1000, 0)][..], Pod, Some("length")),
            (Pod, &[(0, u32::MAX, 2)][..], Pod, Some("length")),
            (Pod, &[(0, 0, 10)][..], Pod, Some("host's root")),
            (Pod, good, Node, Some("network")),
        ] {
            let result = check(&config(mode, maps, network));
            match (problem, result) {
                (None, result) => assert!(result.is_ok(), "{mode:?} {maps:?}: {result:?}"),
                (Some(words), Err(status)) => assert!(status.message().contains(words), "{status}"),
                (Some(words), Ok(())) => panic!("{mode:?} {maps:?}: no error about {words}"),
            }
        }
    }
}
