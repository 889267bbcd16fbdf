//! Where a volume's contents come from, once a claim has been followed to what it is bound to, and where they are on
//! the host.

use super::nfs::Export;
use crate::kubelet::csi;
use crate::kubelet::iscsi;
use crate::kubelet::paths::Paths;
use crate::kubelet::pod;
use crate::kubelet::references::{self, References};
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, ImageVolumeSource, PersistentVolume, Pod, Volume};
use std::path::PathBuf;

/// The kinds of volume that this node provides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Source<'a> {
    /// A path of the node, directly or by a claim.
    HostPath {
        #[allow(missing_docs)]
        path: &'a str,
        /// `Directory`, `FileOrCreate`, ...
        kind: &'a str,
    },
    /// A directory of the node that a claim is bound to.
    Local {
        #[allow(missing_docs)]
        path: &'a str,
    },
    /// A block device of the node that a claim is bound to; no files.
    Device {
        /// The persistent volume's.
        name: &'a str,
        #[allow(missing_docs)]
        path: &'a str,
    },
    /// Lives as long as the pod.
    EmptyDir(&'a EmptyDirVolumeSource),
    /// A storage driver's, by the name of its directory.
    Csi {
        #[allow(missing_docs)]
        name: &'a str,
        /// It is a device, not files.
        block: bool,
    },
    /// A directory of a server, by the name of ours.
    Nfs {
        #[allow(missing_docs)]
        name: &'a str,
        #[allow(missing_docs)]
        export: Export<'a>,
    },
    /// A disk of a target, by the name of its directory.
    Iscsi {
        #[allow(missing_docs)]
        name: &'a str,
        /// It is a device, not files.
        block: bool,
    },
    /// The files of an image.
    Image(&'a ImageVolumeSource),
    /// Files made of API objects; the name of the kubelet's plugin.
    Objects(&'static str),
}

/// The directory name that the kubelet's plugin for this kind of volume has; `None` for kinds that have none here.
pub(super) fn plugin(volume: &Volume) -> Option<&'static str> {
    let kinds = [
        (volume.empty_dir.is_some(), "kubernetes.io~empty-dir"),
        (volume.config_map.is_some(), "kubernetes.io~configmap"),
        (volume.secret.is_some(), "kubernetes.io~secret"),
        (volume.downward_api.is_some(), "kubernetes.io~downward-api"),
        (volume.projected.is_some(), "kubernetes.io~projected"),
        (volume.image.is_some(), "kubernetes.io~image"),
    ];
    kinds.into_iter().find(|(is_it, _)| *is_it).map(|(_, plugin)| plugin)
}

/// Whether contents come from the API, and so may change under a running pod.
pub(super) fn is_made_of_objects(plugin: &str) -> bool {
    !matches!(plugin, "kubernetes.io~empty-dir" | "kubernetes.io~image")
}

/// What `volume` of `pod` is; the error is for a person.
pub fn source<'a>(pod: &Pod, volume: &'a Volume, references: &'a References) -> Result<Source<'a>, String> {
    if let Some(host_path) = &volume.host_path {
        let kind = host_path.type_.as_deref().unwrap_or_default();
        return Ok(Source::HostPath { path: &host_path.path, kind });
    }
    if let Some(source) = &volume.empty_dir {
        return Ok(Source::EmptyDir(source));
    }
    if let Some(source) = &volume.image {
        return Ok(Source::Image(source));
    }
    if volume.csi.is_some() {
        return Ok(Source::Csi { name: &volume.name, block: false });
    }
    if let Some(nfs) = &volume.nfs {
        let read_only = nfs.read_only == Some(true);
        let export = Export { server: &nfs.server, path: &nfs.path, read_only, options: &[] };
        return Ok(Source::Nfs { name: &volume.name, export });
    }
    if volume.iscsi.is_some() {
        return Ok(Source::Iscsi { name: &volume.name, block: false });
    }
    if let Some(claim) = references::claim_name(pod, volume) {
        let bound = references.claims.get(&claim).cloned();
        bound.unwrap_or_else(|| Err(format!("claim \"{claim}\" has not been looked up"))).map(drop)?;
        let bound = references.claims.get(&claim).and_then(|bound| bound.as_ref().ok());
        return of_persistent_volume(volume, bound);
    }
    let plugin = plugin(volume);
    plugin.map(Source::Objects).ok_or_else(|| unsupported(&volume.name, "its kind"))
}

fn unsupported(volume: &str, what: &str) -> String {
    format!("volume \"{volume}\": {what} is not supported yet by this node")
}

fn of_persistent_volume<'a>(
    volume: &'a Volume,
    bound: Option<&'a PersistentVolume>,
) -> Result<Source<'a>, String> {
    let spec = bound.and_then(|bound| bound.spec.as_ref());
    let spec =
        spec.ok_or_else(|| format!("volume \"{}\": its persistent volume has no spec", volume.name))?;
    let name = bound.and_then(|bound| bound.metadata.name.as_deref());
    let block = spec.volume_mode.as_deref() == Some("Block");
    if let (Some(name), Some(_)) = (name, &spec.csi) {
        return Ok(Source::Csi { name, block });
    }
    if let (Some(name), Some(_)) = (name, &spec.iscsi) {
        return Ok(Source::Iscsi { name, block });
    }
    if block {
        let path = spec.local.as_ref().map(|local| local.path.as_str());
        return path
            .zip(name)
            .map(|(path, name)| Source::Device { name, path })
            .ok_or_else(|| unsupported(&volume.name, "volumeMode Block of this kind of persistent volume"));
    }
    if let Some(host_path) = &spec.host_path {
        let kind = host_path.type_.as_deref().unwrap_or_default();
        return Ok(Source::HostPath { path: &host_path.path, kind });
    }
    if let Some(local) = &spec.local {
        return Ok(Source::Local { path: &local.path });
    }
    if let (Some(name), Some(nfs)) = (name, &spec.nfs) {
        let claimed = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.read_only);
        let read_only = nfs.read_only == Some(true) || claimed == Some(true);
        let options = spec.mount_options.as_deref().unwrap_or_default();
        let export = Export { server: &nfs.server, path: &nfs.path, read_only, options };
        return Ok(Source::Nfs { name, export });
    }
    let kind = if spec.fc.is_some() { "fc" } else { "the kind" };
    Err(unsupported(&volume.name, &format!("{kind} of its persistent volume")))
}

impl Source<'_> {
    /// It is given to containers as a device (`volumeDevices`), not as files (`volumeMounts`).
    pub fn is_device(&self) -> bool {
        matches!(
            self,
            Source::Device { .. } | Source::Csi { block: true, .. } | Source::Iscsi { block: true, .. }
        )
    }
}

/// Whether no container may write to it, whatever its mount says. A mount of our own that is read-only is not enough: who
/// mounts it again may say otherwise.
pub fn is_read_only(pod: &Pod, volume: &Volume, references: &References) -> bool {
    let claimed = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.read_only);
    let itself = match source(pod, volume, references) {
        Ok(Source::Nfs { export, .. }) => export.read_only,
        Ok(Source::Iscsi { .. }) => {
            iscsi::describe(pod, volume, references).is_some_and(|disk| disk.is_ok_and(|disk| disk.read_only))
        }
        Ok(Source::Csi { .. }) => {
            csi::describe(pod, volume, references).is_some_and(|described| described.read_only)
        }
        _ => false,
    };
    itself || claimed == Some(true)
}

/// Where the contents are on the host.
pub fn directory(paths: &Paths, pod: &Pod, volume: &Volume, source: &Source<'_>) -> PathBuf {
    match source {
        Source::HostPath { path, .. } | Source::Local { path } | Source::Device { path, .. } => {
            PathBuf::from(path)
        }
        Source::Nfs { name, .. } => paths.volume(pod::uid(pod), "kubernetes.io~nfs", name),
        Source::Csi { name, block: false } => paths.volume(pod::uid(pod), csi::PLUGIN, name).join("mount"),
        Source::Csi { name, block: true } => device(paths.volume_device(pod::uid(pod), csi::PLUGIN, name)),
        Source::Iscsi { name, block: false } => paths.volume(pod::uid(pod), iscsi::PLUGIN, name),
        Source::Iscsi { name, block: true } => paths.volume_device(pod::uid(pod), iscsi::PLUGIN, name),
        Source::EmptyDir(_) | Source::Image(_) | Source::Objects(_) => {
            paths.volume(pod::uid(pod), plugin(volume).unwrap_or("kubernetes.io~unknown"), &volume.name)
        }
    }
}

/// A link to the device; a version before had a directory with the device in it.
fn device(place: PathBuf) -> PathBuf {
    if place.join("vol_data.json").exists() { place.join("mount") } else { place }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume(value: serde_json::Value) -> Volume {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_is_read_only_is_so_for_every_container() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": []}})).unwrap();
        for (source, expected) in [
            (json!({"nfs": {"server": "s", "path": "/e", "readOnly": true}}), true),
            (json!({"nfs": {"server": "s", "path": "/e"}}), false),
            (json!({"iscsi": {"targetPortal": "h", "iqn": "iqn.a:b", "lun": 0, "readOnly": true}}), true),
            (json!({"csi": {"driver": "d", "readOnly": true}}), true),
            (json!({"persistentVolumeClaim": {"claimName": "c", "readOnly": true}}), true),
            (json!({"emptyDir": {}}), false),
        ] {
            let mut object = source.clone();
            object["name"] = json!("v");
            assert_eq!(is_read_only(&pod, &volume(object), &References::default()), expected, "{source}");
        }
    }

    #[test]
    fn claims_lead_to_what_they_are_bound_to() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": []}})).unwrap();
        let bound = |spec: serde_json::Value| -> PersistentVolume {
            serde_json::from_value(json!({"spec": spec})).unwrap()
        };
        let mut references = References::default();
        references.claims.insert("a".into(), Ok(bound(json!({"local": {"path": "/x"}}))));
        references.claims.insert("b".into(), Err("not bound".into()));
        references.claims.insert("p-e".into(), Ok(bound(json!({"hostPath": {"path": "/y"}}))));
        references.claims.insert("c".into(), Ok(bound(json!({"fc": {"lun": 0}}))));
        let exported: PersistentVolume = serde_json::from_value(json!({"metadata": {"name": "pv"},
            "spec": {"nfs": {"path": "/y", "server": "s"}, "mountOptions": ["hard"]}}))
        .unwrap();
        references.claims.insert("n".into(), Ok(exported));
        let claim = |name: &str| volume(json!({"name": "v", "persistentVolumeClaim": {"claimName": name}}));
        assert_eq!(source(&pod, &claim("a"), &references), Ok(Source::Local { path: "/x" }));
        assert_eq!(source(&pod, &claim("b"), &references), Err("not bound".into()));
        assert!(source(&pod, &claim("c"), &references).unwrap_err().contains("fc of"));
        let export = Export { server: "s", path: "/y", read_only: false, options: &["hard".to_owned()] };
        assert_eq!(source(&pod, &claim("n"), &references), Ok(Source::Nfs { name: "pv", export }));
        let device = json!({"volumeMode": "Block", "local": {"path": "/dev/sdb"}});
        let mut device = bound(device);
        device.metadata.name = Some("pv".into());
        references.claims.insert("d".into(), Ok(device));
        let claimed = claim("d");
        let found = source(&pod, &claimed, &references).unwrap();
        assert!(found.is_device() && found == Source::Device { name: "pv", path: "/dev/sdb" });
        let no_device = json!({"volumeMode": "Block", "hostPath": {"path": "/x"}});
        references.claims.insert("h".into(), Ok(bound(no_device)));
        assert!(source(&pod, &claim("h"), &references).unwrap_err().contains("Block"));
        let ephemeral = volume(json!({"name": "e", "ephemeral": {}}));
        assert_eq!(source(&pod, &ephemeral, &references), Ok(Source::HostPath { path: "/y", kind: "" }));
        assert!(
            source(&pod, &volume(json!({"name": "v", "rbd": {"image": "", "monitors": []}})), &references)
                .is_err()
        );
    }
}
