//! Devices of plugins (`device-plugins/kubelet.sock`, protocol v1beta1): what plugins offer becomes capacity of the
//! node, and each container gets as many of them as its limits say, for as long as its pod is here.
//!
//! Which devices a container has is decided once, when the pod is admitted, and is on disk before anything is made
//! with them: an agent that starts again gives none of them to anybody else. What a device means (files, mounts,
//! variables) its plugin tells whenever a container starts.

mod checkpoint;
mod ledger;
mod plugin;
mod registration;

use crate::kubelet::resources::Amounts;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knarr_cri::device_plugin::{ContainerAllocateResponse, DevicePluginOptions};
use knarr_cri::v1::{CdiDevice, ContainerConfig, Device, KeyValue, Mount};
use ledger::Ledger;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Capacity and what of it can be given away.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offered {
    #[allow(missing_docs)]
    pub capacity: Amounts,
    /// Only healthy ones.
    pub allocatable: Amounts,
}

/// All devices of a node.
#[derive(Clone)]
pub struct Devices {
    directory: PathBuf,
    state: Arc<Mutex<State>>,
    offered: Arc<watch::Sender<Offered>>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").field("directory", &self.directory).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    /// By resource; those whose plugin has registered since this agent started.
    plugins: BTreeMap<String, Endpoint>,
    /// The books are not on disk as they are.
    unsaved: bool,
}

#[derive(Debug, Clone)]
struct Endpoint {
    socket: PathBuf,
    options: DevicePluginOptions,
    /// Tells a plugin that registered again from its predecessor.
    generation: u64,
}

impl Devices {
    /// Takes up what is on disk under the kubelet's directory. Blocks.
    pub fn load(root: &Path) -> Devices {
        let directory = root.join("device-plugins");
        let ledger = checkpoint::read(&directory).unwrap_or_else(|error| {
            tracing::error!("{}: {error}: no device is known to be in use", directory.display());
            Ledger::default()
        });
        let state = State { ledger, ..State::default() };
        Devices { directory, state: Arc::new(Mutex::new(state)), offered: Arc::default() }
    }

    /// What plugins offer, whenever it changes.
    pub fn offered(&self) -> watch::Receiver<Offered> {
        self.offered.subscribe()
    }

    /// Serves plugins. Never returns, unless nobody can be served.
    pub async fn run(self) {
        if let Err(error) = registration::serve(self.clone()).await {
            tracing::warn!("{}: no device plugins: {error:#}", self.directory.display());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the containers of a pod their devices; one that has them keeps them. The error is the kubelet's.
    pub fn reserve(&self, pod: &Pod) -> Result<(), String> {
        let mut state = self.lock();
        state.unsaved |= state.ledger.reserve(pod)?;
        Ok(())
    }

    /// The pod is gone: its devices are free. Blocks.
    pub fn release(&self, uid: &str) {
        let mut state = self.lock();
        let had = state.ledger.release(uid);
        state.unsaved |= had;
        drop(state);
        if let Err(error) = self.save() {
            tracing::warn!("{error}");
        }
    }

    /// Brings the books to disk, if they differ. Blocks.
    fn save(&self) -> Result<(), String> {
        let mut state = self.lock();
        if state.unsaved {
            checkpoint::write(&self.directory, &state.ledger)
                .map_err(|error| format!("{}: {error}", self.directory.display()))?;
            state.unsaved = false;
        }
        Ok(())
    }

    /// A plugin offers exactly these from now on: health by id.
    fn offer(&self, resource: &str, devices: BTreeMap<String, bool>) {
        let mut state = self.lock();
        state.ledger.offer(resource, devices);
        let offered = Offered {
            capacity: amounts(state.ledger.counts(|_| true)),
            allocatable: amounts(state.ledger.counts(|healthy| healthy)),
        };
        self.offered.send_if_modified(|before| {
            let differs = *before != offered;
            *before = offered;
            differs
        });
    }

    /// Ids of the devices of a container, by resource.
    pub fn of(&self, uid: &str, container: &str) -> BTreeMap<String, Vec<String>> {
        self.lock().ledger.of(uid, container)
    }

    /// Ids of the devices that can be given away, by resource, whoever has them.
    pub fn healthy(&self) -> BTreeMap<String, Vec<String>> {
        self.lock().ledger.healthy()
    }

    /// Puts into a container's configuration what its devices mean.
    pub async fn equip(
        &self,
        uid: &str,
        container: &Container,
        config: &mut ContainerConfig,
    ) -> Result<(), String> {
        let wanted = self.lock().ledger.of(uid, &container.name);
        if !wanted.is_empty() {
            let devices = self.clone();
            let saved = tokio::task::spawn_blocking(move || devices.save()).await;
            saved.unwrap_or_else(|error| Err(error.to_string()))?;
        }
        for (resource, ids) in wanted {
            let endpoint = self.lock().plugins.get(&resource).cloned();
            let endpoint = endpoint.ok_or_else(|| format!("plugin of {resource} is not connected"))?;
            let answer = plugin::allocate(&endpoint.socket, &endpoint.options, ids).await;
            add(answer.map_err(|error| format!("Allocate failed for {resource}: {error}"))?, config);
        }
        Ok(())
    }
}

fn amounts(counts: BTreeMap<String, usize>) -> Amounts {
    counts.into_iter().map(|(resource, count)| (resource, Quantity(count.to_string()))).collect()
}

/// Resources that plugins serve have a domain that is not Kubernetes' own.
fn is_device(resource: &str) -> bool {
    let domain = resource.split_once('/').map(|(domain, _)| domain);
    domain.is_some_and(|domain| domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io"))
}

fn add(answer: ContainerAllocateResponse, config: &mut ContainerConfig) {
    let variable = |(key, value): (String, String)| KeyValue { key, value: value.into_bytes() };
    let variables: BTreeMap<String, String> = answer.envs.into_iter().collect();
    config.envs.retain(|known| !variables.contains_key(&known.key));
    config.envs.extend(variables.into_iter().map(variable));
    config.mounts.extend(answer.mounts.into_iter().map(|mount| Mount {
        container_path: mount.container_path,
        host_path: mount.host_path,
        readonly: mount.read_only,
        ..Default::default()
    }));
    config.devices.extend(answer.devices.into_iter().map(|device| Device {
        container_path: device.container_path,
        host_path: device.host_path,
        permissions: device.permissions,
    }));
    config.annotations.extend(answer.annotations);
    config.cdi_devices.extend(answer.cdi_devices.into_iter().map(|device| CdiDevice { name: device.name }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_extended_resources_are_devices() {
        for (resource, is) in [
            ("cpu", false),
            ("example.com/gpu", true),
            ("hugepages-2Mi", false),
            ("x.kubernetes.io/y", false),
        ] {
            assert_eq!(is_device(resource), is, "{resource}");
        }
    }
}
