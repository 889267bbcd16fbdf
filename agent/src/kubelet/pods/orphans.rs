//! What is on this machine of pods that nobody wants any more: containers whose pod was deleted while the agent was
//! away, and directories and cgroups that a crash left behind.

use super::Manager;
use crate::kubelet::pod_cgroup;
use crate::kubelet::pod_worker::{self, Command};
use crate::kubelet::volumes;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Manager {
    /// Gives every pod of the runtime that has no worker one that ends it.
    pub(super) fn end_orphans(&mut self) {
        for (uid, known) in self.pleg.known() {
            if self.workers.get(&uid).is_some() || self.wanted.contains_key(&uid) {
                continue;
            }
            let pod = Pod {
                metadata: ObjectMeta {
                    name: Some(known.name),
                    namespace: Some(known.namespace),
                    uid: Some(uid.clone()),
                    ..Default::default()
                },
                spec: Some(PodSpec::default()),
                status: None,
            };
            tracing::info!(uid, "a pod that nobody wants: stopping it");
            let worker = pod_worker::spawn(self.host.clone(), Arc::new(pod), None, self.finished.0.clone());
            worker.send(Command::Gone);
            self.workers.insert(&uid, worker);
        }
    }

    /// Removes directories and cgroups of pods that neither we nor the runtime know.
    pub(super) fn remove_left_overs(&self) {
        let Some(hierarchies) = self.host.hierarchies.clone() else { return };
        let mut known: BTreeSet<String> = self.wanted.keys().cloned().collect();
        known.extend(self.pleg.known().into_keys());
        let (workers, host) = (self.workers.clone(), self.host.clone());
        let (paths, root) = (self.host.paths.clone(), self.host.cgroup_root.clone());
        let here = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            for uid in left_over_directories(paths.all()) {
                if known.contains(&uid) || workers.get(&uid).is_some() {
                    continue;
                }
                let given = here.block_on(volumes::give_back(&host, &uid)).map_err(std::io::Error::other);
                match given.and_then(|()| volumes::tear_down(&paths.pod(&uid))) {
                    Ok(()) => {
                        host.user_namespaces.release(&uid);
                        host.devices.release(&uid);
                        host.cpus.release(&uid);
                    }
                    Err(error) => tracing::warn!(uid, "left-over directory: {error}"),
                }
            }
            for (uid, cgroup) in pod_cgroup::list(&hierarchies, &root) {
                if !known.contains(&uid)
                    && workers.get(&uid).is_none()
                    && let Err(error) = pod_cgroup::remove(&hierarchies, &cgroup)
                {
                    tracing::warn!(uid, "left-over cgroup: {error}");
                }
            }
        });
    }
}

fn left_over_directories(directory: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
