//! What a pod's CSI volume is, whether it is written into the pod (inline) or bound by a claim. Pure.

use crate::kubelet::pod;
use crate::kubelet::references::{self, References};
use crate::kubelet::resources;
use k8s_openapi::api::core::v1::{PersistentVolumeSpec, Pod, Volume};
use knarr_cri::csi::VolumeCapability;
use knarr_cri::csi::volume_capability::{
    AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode,
};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A secret's namespace and name.
pub(super) type SecretName = (String, String);

/// One volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CsiVolume {
    /// The pod's name for it.
    pub volume: String,
    /// Its directory's name: the persistent volume's, or the pod's own.
    pub name: String,
    #[allow(missing_docs)]
    pub driver: String,
    /// The driver's name for it.
    pub handle: String,
    /// Lives as long as the pod.
    pub inline: bool,
    /// A device, not files.
    pub block: bool,
    /// Bytes that the persistent volume has; none of an inline one.
    pub capacity: Option<i64>,
    /// The claim that it is bound to.
    pub claim: Option<String>,
    #[allow(missing_docs)]
    pub read_only: bool,
    #[allow(missing_docs)]
    pub fs_type: Option<String>,
    #[allow(missing_docs)]
    pub mount_options: Vec<String>,
    /// `volumeAttributes`.
    pub attributes: BTreeMap<String, String>,
    /// `accessModes`; none of an inline volume.
    pub access_modes: Vec<String>,
    pub(super) stage_secret: Option<SecretName>,
    pub(super) publish_secret: Option<SecretName>,
    pub(super) expand_secret: Option<SecretName>,
}

/// SHA-256 of the parts as one text, in hex: how the kubelet names what must be unique and short.
pub(super) fn digest(parts: &[&str]) -> String {
    Sha256::digest(parts.concat()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The volume, if it is a driver's.
pub fn describe(pod: &Pod, volume: &Volume, references: &References) -> Option<CsiVolume> {
    if let Some(source) = &volume.csi {
        let secret = source.node_publish_secret_ref.as_ref();
        return Some(CsiVolume {
            volume: volume.name.clone(),
            name: volume.name.clone(),
            driver: source.driver.clone(),
            handle: format!("csi-{}", digest(&[pod::uid(pod), &volume.name])),
            inline: true,
            read_only: source.read_only == Some(true),
            fs_type: source.fs_type.clone(),
            attributes: source.volume_attributes.clone().unwrap_or_default(),
            publish_secret: secret.map(|secret| (pod::namespace(pod).to_owned(), secret.name.clone())),
            ..CsiVolume::default()
        });
    }
    let claim = references::claim_name(pod, volume)?;
    let bound = references.claims.get(&claim)?.as_ref().ok()?;
    let (name, spec) = (bound.metadata.name.clone()?, bound.spec.as_ref()?);
    let claimed = volume.persistent_volume_claim.as_ref();
    let read_only = claimed.is_some_and(|claimed| claimed.read_only == Some(true));
    let volume = of_persistent_volume(&volume.name, name, spec, read_only)?;
    Some(CsiVolume { claim: Some(claim), ..volume })
}

fn of_persistent_volume(
    volume: &str,
    name: String,
    spec: &PersistentVolumeSpec,
    read_only: bool,
) -> Option<CsiVolume> {
    let source = spec.csi.as_ref()?;
    let secret = |reference: &k8s_openapi::api::core::v1::SecretReference| {
        Some((reference.namespace.clone()?, reference.name.clone()?))
    };
    Some(CsiVolume {
        volume: volume.to_owned(),
        name,
        driver: source.driver.clone(),
        handle: source.volume_handle.clone(),
        inline: false,
        block: spec.volume_mode.as_deref() == Some("Block"),
        capacity: spec.capacity.as_ref().and_then(|all| resources::value(all.get("storage")?)),
        claim: None,
        read_only: read_only || source.read_only == Some(true),
        fs_type: source.fs_type.clone(),
        mount_options: spec.mount_options.clone().unwrap_or_default(),
        attributes: source.volume_attributes.clone().unwrap_or_default(),
        access_modes: spec.access_modes.clone().unwrap_or_default(),
        stage_secret: source.node_stage_secret_ref.as_ref().and_then(secret),
        publish_secret: source.node_publish_secret_ref.as_ref().and_then(secret),
        expand_secret: source.node_expand_secret_ref.as_ref().and_then(secret),
    })
}

impl CsiVolume {
    /// How the driver is to give it. `many_writers`: it tells one writer of a node from several.
    pub(super) fn capability(&self, many_writers: bool, group: Option<u32>) -> VolumeCapability {
        let mode = match (self.access_modes.first().map(String::as_str), many_writers) {
            (Some("ReadOnlyMany"), _) => Mode::MultiNodeReaderOnly,
            (Some("ReadWriteMany"), _) => Mode::MultiNodeMultiWriter,
            (Some("ReadWriteOncePod"), true) => Mode::SingleNodeSingleWriter,
            (_, true) if !self.inline => Mode::SingleNodeMultiWriter,
            _ => Mode::SingleNodeWriter,
        };
        let mount = MountVolume {
            fs_type: self.fs_type.clone().unwrap_or_default(),
            mount_flags: self.mount_options.clone(),
            volume_mount_group: group.map(|group| group.to_string()).unwrap_or_default(),
        };
        let access_type =
            if self.block { AccessType::Block(BlockVolume {}) } else { AccessType::Mount(mount) };
        VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(access_type),
        }
    }

    /// Whether the node gives the files to the pod's group, by the driver's `fsGroupPolicy`.
    pub(super) fn takes_group(&self, policy: Option<&str>) -> bool {
        match policy {
            _ if self.block => false,
            Some("None") => false,
            Some("File") => !self.read_only,
            _ => {
                let typed = self.fs_type.as_ref().is_some_and(|kind| !kind.is_empty());
                typed
                    && !self.read_only
                    && self.access_modes.iter().any(|mode| mode.starts_with("ReadWriteOnce"))
            }
        }
    }

    /// The name of the object that says whether the volume is attached to this node.
    pub(super) fn attachment(&self, node: &str) -> String {
        format!("csi-{}", digest(&[&self.handle, &self.driver, node]))
    }

    /// What the driver learns about the volume, and where it asks for it, about the pod.
    pub(super) fn context(&self, pod: &Pod, with_pod: bool) -> BTreeMap<String, String> {
        let mut context = self.attributes.clone();
        let account = pod::spec(pod).service_account_name.as_deref().unwrap_or_default();
        let about = [
            ("pod.name", pod::name(pod)),
            ("pod.namespace", pod::namespace(pod)),
            ("pod.uid", pod::uid(pod)),
            ("serviceAccount.name", account),
            ("ephemeral", if self.inline { "true" } else { "false" }),
        ];
        let about = about.map(|(key, value)| (format!("csi.storage.k8s.io/{key}"), value.to_owned()));
        context.extend(about.into_iter().filter(|_| with_pod));
        context
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn inline_and_claimed_volumes_are_the_drivers() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"},
            "spec": {"containers": []}}))
            .unwrap();
        let volume = |value: serde_json::Value| -> Volume { serde_json::from_value(value).unwrap() };
        let inline = volume(json!({"name": "v", "csi": {"driver": "d", "volumeAttributes": {"a": "b"},
            "nodePublishSecretRef": {"name": "s"}}}));
        let found = describe(&pod, &inline, &References::default()).unwrap();
        assert!(found.inline && found.handle.starts_with("csi-") && found.handle.len() == 68);
        assert_eq!(found.publish_secret, Some(("ns".into(), "s".into())));
        let context = found.context(&pod, true);
        assert_eq!((context["a"].as_str(), context["csi.storage.k8s.io/ephemeral"].as_str()), ("b", "true"));
        assert_eq!(found.context(&pod, false).len(), 1);
        let mut references = References::default();
        let bound = json!({"metadata": {"name": "pv"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "d", "volumeHandle": "h", "fsType": "ext4"}}});
        references.claims.insert("c".into(), Ok(serde_json::from_value(bound).unwrap()));
        let claimed = volume(json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}}));
        let found = describe(&pod, &claimed, &references).unwrap();
        assert_eq!((found.name.as_str(), found.handle.as_str(), found.inline), ("pv", "h", false));
        assert!(
            found.takes_group(None) && found.takes_group(Some("File")) && !found.takes_group(Some("None"))
        );
        assert!(describe(&pod, &volume(json!({"name": "v", "emptyDir": {}})), &references).is_none());
    }

    #[test]
    fn a_device_is_asked_for_as_one_and_its_size_is_known() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"containers": []}})).unwrap();
        let bound = json!({"metadata": {"name": "pv"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "volumeMode": "Block", "capacity": {"storage": "2Gi"},
            "csi": {"driver": "d", "volumeHandle": "h", "fsType": "ext4"}}});
        let mut references = References::default();
        references.claims.insert("c".into(), Ok(serde_json::from_value(bound).unwrap()));
        let volume = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
        let found = describe(&pod, &serde_json::from_value(volume).unwrap(), &references).unwrap();
        assert_eq!((found.block, found.capacity, found.claim.as_deref()), (true, Some(2 << 30), Some("c")));
        let access = found.capability(false, None).access_type;
        assert_eq!(access, Some(AccessType::Block(BlockVolume {})));
        assert!(!found.takes_group(Some("File")));
    }

    #[test]
    fn modes_are_told_as_finely_as_the_driver_knows_them() {
        let mode = |access: &str, many| {
            let volume = CsiVolume { access_modes: vec![access.into()], ..Default::default() };
            volume.capability(many, None).access_mode.unwrap().mode()
        };
        assert_eq!(mode("ReadWriteOnce", false), Mode::SingleNodeWriter);
        assert_eq!(mode("ReadWriteOnce", true), Mode::SingleNodeMultiWriter);
        assert_eq!(mode("ReadWriteOncePod", true), Mode::SingleNodeSingleWriter);
        assert_eq!(mode("ReadWriteOncePod", false), Mode::SingleNodeWriter);
        assert_eq!(mode("ReadWriteMany", true), Mode::MultiNodeMultiWriter);
        assert_eq!(mode("ReadOnlyMany", false), Mode::MultiNodeReaderOnly);
    }
}
