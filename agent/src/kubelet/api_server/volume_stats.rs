//! What the volumes of pods hold, for `/stats/summary` and `kubelet_volume_stats_*`. What a pod's own directory has is walked,
//! as the kubelet does; of a claim the file system counts, at the place where a running container has it. What is on
//! other machines is left out: a server that does not answer would hold everybody who asks.

use super::Shared;
use super::prometheus::Exposition;
use super::summary_pods::{file_system, used_of};
use crate::kubelet::labels;
use crate::kubelet::paths::Paths;
use crate::kubelet::pod;
use crate::kubelet::pressure::tree;
use crate::kubelet::references::{References, claim_name};
use crate::kubelet::volumes::mounts::Table;
use crate::kubelet::volumes::{self, Source};
use k8s_openapi::api::core::v1::{Pod, Volume};
use knarr_cri::v1;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The families of metrics: name, help, member of a volume's figures.
const FAMILIES: [(&str, &str, &str); 6] = [
    ("available_bytes", "Number of available bytes in the volume", "availableBytes"),
    ("capacity_bytes", "Capacity in bytes of the volume", "capacityBytes"),
    ("inodes", "Maximum number of inodes in the volume", "inodes"),
    ("inodes_free", "Number of free inodes in the volume", "inodesFree"),
    ("inodes_used", "Number of used inodes in the volume", "inodesUsed"),
    ("used_bytes", "Number of used bytes in the volume", "usedBytes"),
];

/// A volume that can be measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    uid: String,
    volume: String,
    /// Namespace and name.
    claim: Option<(String, String)>,
    path: PathBuf,
    /// The file system is the volume's alone.
    whole: bool,
    /// It counts as the pod's use of the node's disk.
    on_disk: bool,
}

/// Figures of volumes by the uid of their pod.
#[derive(Debug, Default)]
pub(super) struct Figures(BTreeMap<String, Vec<(bool, Value)>>);

impl Figures {
    /// Of one pod, as the summary shows them; null where it has none.
    pub(super) fn of(&self, uid: &str) -> Value {
        self.0.get(uid).map_or(Value::Null, |all| all.iter().map(|(_, one)| one.clone()).collect())
    }

    /// One figure, summed up over the volumes that are on the node's disk.
    pub(super) fn on_disk(&self, uid: &str, member: &str) -> u64 {
        let all = self.0.get(uid).into_iter().flatten().filter(|(on_disk, _)| *on_disk);
        all.filter_map(|(_, one)| one.get(member)?.as_u64()).sum()
    }
}

/// Measures them. Blocks.
pub(super) fn measure(all: &[Held]) -> Figures {
    let mut figures = Figures::default();
    for held in all {
        figures.0.entry(held.uid.clone()).or_default().push((held.on_disk, one(held)));
    }
    figures
}

fn one(held: &Held) -> Value {
    let mut value = file_system(&held.path);
    if !held.whole {
        let disk = tree(&held.path);
        value = used_of(&value, disk.bytes, disk.inodes);
    }
    if let Some(members) = value.as_object_mut() {
        members.insert("name".into(), json!(held.volume));
        let claim =
            held.claim.as_ref().map(|(namespace, name)| json!({"name": name, "namespace": namespace}));
        members.insert("pvcRef".into(), json!(claim));
    }
    value
}

/// The metrics of claims, each told once however many pods have it. Blocks.
pub(super) fn tell(all: &[Held], text: &mut Exposition) {
    let claims: BTreeMap<_, _> =
        all.iter().filter_map(|held| Some((held.claim.as_ref()?, one(held)))).collect();
    for (name, help, member) in FAMILIES {
        if claims.is_empty() {
            continue;
        }
        let name = format!("kubelet_volume_stats_{name}");
        text.family(&name, "gauge", help);
        for ((namespace, claim), figures) in &claims {
            if let Some(figure) = figures.get(member).and_then(Value::as_u64) {
                text.row(&name, &[("namespace", namespace), ("persistentvolumeclaim", claim)], figure);
            }
        }
    }
}

/// The volumes that live in the pods' own directories.
pub(super) fn own(paths: &Paths, pods: &[Arc<Pod>]) -> Vec<Held> {
    let nothing = References::default();
    let of = |pod: &Pod, volume: &Volume| {
        let source = volumes::source(pod, volume, &nothing).ok()?;
        let on_disk = match source {
            Source::EmptyDir(source) => source.medium.as_deref().unwrap_or_default().is_empty(),
            Source::Objects(_) => volume.config_map.is_some(),
            _ => return None,
        };
        let whole = !on_disk && volume.empty_dir.is_some();
        let path = volumes::directory(paths, pod, volume, &source);
        let (uid, volume) = (pod::uid(pod).to_owned(), volume.name.clone());
        path.is_dir().then_some(Held { uid, volume, claim: None, path, whole, on_disk })
    };
    let each = |pod: &Arc<Pod>| {
        let volumes = pod::spec(pod).volumes.iter().flatten();
        volumes.filter_map(|volume| of(pod, volume)).collect::<Vec<_>>()
    };
    pods.iter().flat_map(each).collect()
}

/// The claims that running containers have, at the places where they have them.
pub(super) async fn claimed(shared: &Shared, pods: &[Arc<Pod>]) -> Vec<Held> {
    let claiming: BTreeMap<&str, &Arc<Pod>> =
        pods.iter().filter(|pod| !claims(pod).is_empty()).map(|pod| (pod::uid(pod), pod)).collect();
    if claiming.is_empty() {
        return Vec::new();
    }
    let running = v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() };
    let filter = v1::ContainerFilter { state: Some(running), ..Default::default() };
    let request = v1::ListContainersRequest { filter: Some(filter) };
    let listed = shared.runtime.list_containers(request).await.map(|answer| answer.containers);
    let mut found = Vec::new();
    for container in listed.unwrap_or_default() {
        let label = |name: &str| container.labels.get(name).map(String::as_str).unwrap_or_default();
        let Some(pod) = claiming.get(label(labels::POD_UID)) else { continue };
        let request = v1::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let status = shared.runtime.container_status(request).await.ok().and_then(|answer| answer.status);
        found.extend(held_by(pod, label(labels::CONTAINER_NAME), &status.unwrap_or_default()));
    }
    // What cannot be told apart is not asked.
    let Ok(Ok(mounts)) = tokio::task::spawn_blocking(Table::read).await else { return Vec::new() };
    let mut seen = BTreeSet::new();
    found
        .retain(|held| !mounts.is_remote(&held.path) && seen.insert((held.uid.clone(), held.volume.clone())));
    found
}

/// Claim by the name of its volume.
fn claims(pod: &Pod) -> BTreeMap<&str, String> {
    let volumes = pod::spec(pod).volumes.iter().flatten();
    volumes.filter_map(|volume| Some((volume.name.as_str(), claim_name(pod, volume)?))).collect()
}

fn held_by(pod: &Pod, container: &str, status: &v1::ContainerStatus) -> Vec<Held> {
    let claims = claims(pod);
    let Some((_, found)) = pod::find_container(pod, container) else { return Vec::new() };
    let one = |mount: &k8s_openapi::api::core::v1::VolumeMount| {
        let claim = claims.get(mount.name.as_str())?.clone();
        let there = |place: &&v1::Mount| Path::new(&place.container_path) == Path::new(&mount.mount_path);
        let place = status.mounts.iter().find(there)?;
        Some(Held {
            uid: pod::uid(pod).to_owned(),
            volume: mount.name.clone(),
            claim: Some((pod::namespace(pod).to_owned(), claim)),
            path: PathBuf::from(&place.host_path),
            whole: true,
            on_disk: false,
        })
    };
    found.volume_mounts.iter().flatten().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": {
            "volumes": [{"name": "e", "emptyDir": {}}, {"name": "m", "emptyDir": {"medium": "Memory"}},
                {"name": "c", "configMap": {"name": "c"}}, {"name": "h", "hostPath": {"path": "/"}},
                {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "g", "ephemeral": {}}],
            "containers": [{"name": "a", "volumeMounts": [
                {"name": "d", "mountPath": "/d/"}, {"name": "g", "mountPath": "/g"}, {"name": "e", "mountPath": "/e"}]}]}}))
        .unwrap()
    }

    #[test]
    fn a_pods_own_directories_are_walked() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path(), root.path());
        let pods = [Arc::new(pod())];
        assert_eq!(own(&paths, &pods), []);
        for (plugin, name) in [("empty-dir", "e"), ("empty-dir", "m"), ("configmap", "c")] {
            let directory = paths.volume("u", &format!("kubernetes.io~{plugin}"), name);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("f"), vec![1; 50_000]).unwrap();
        }
        let figures = measure(&own(&paths, &pods));
        let shown = figures.of("u");
        let names: Vec<_> = shown.as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
        assert_eq!(names, ["e", "m", "c"]);
        assert!((50_000..60_000).contains(&shown[0]["usedBytes"].as_u64().unwrap()), "{shown}");
        assert_eq!((shown[0]["inodesUsed"].as_u64(), figures.on_disk("u", "inodesUsed")), (Some(2), 4));
        assert!(shown[0]["capacityBytes"].as_u64() > shown[0]["usedBytes"].as_u64(), "{shown}");
        assert_eq!(figures.of("other"), Value::Null);
    }

    #[test]
    fn claims_are_where_containers_have_them() {
        let mount = |container: &str, host: &str| v1::Mount {
            container_path: container.into(),
            host_path: host.into(),
            ..Default::default()
        };
        let mounts = vec![mount("/d", "/tmp"), mount("/e", "/e"), mount("/g", "/tmp")];
        let held = held_by(&pod(), "a", &v1::ContainerStatus { mounts, ..Default::default() });
        let claims: Vec<_> = held.iter().map(|held| held.claim.clone().unwrap().1).collect();
        assert_eq!(claims, ["data", "p-g"]);
        let mut text = Exposition::default();
        tell(&held, &mut text);
        let text = text.finish();
        let row = "kubelet_volume_stats_capacity_bytes{namespace=\"n\",persistentvolumeclaim=\"data\"} ";
        assert!(
            text.contains(row) && text.contains("# TYPE kubelet_volume_stats_inodes_used gauge"),
            "{text}"
        );
        assert_eq!(measure(&held).of("u")[0]["pvcRef"], json!({"name": "data", "namespace": "n"}));
    }
}
