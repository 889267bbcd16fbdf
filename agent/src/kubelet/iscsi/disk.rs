//! What a pod's iSCSI volume is, whether it is written into the pod or bound by a claim. Pure.

use crate::kubelet::pod;
use crate::kubelet::references::{self, References};
use k8s_openapi::api::core::v1::{ISCSIPersistentVolumeSource, Pod, Volume};
use serde::{Deserialize, Serialize};

/// The port where a portal names none.
const PORT: &str = ":3260";
/// The interface where the volume names none.
const INTERFACE: &str = "default";

/// One disk of a target, as one pod uses it; what identifies it is kept on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Disk {
    /// Its directory's name: the persistent volume's, or the pod's own.
    #[serde(rename = "VolName")]
    pub name: String,
    /// `ADDRESS:PORT`, the preferred one first.
    #[serde(rename = "Portals")]
    pub portals: Vec<String>,
    #[allow(missing_docs)]
    #[serde(rename = "Iqn")]
    pub target: String,
    #[allow(missing_docs)]
    pub lun: i32,
    /// open-iscsi's name for the way to the target.
    #[serde(rename = "Iface")]
    pub interface: String,
    /// Who we say we are, where the volume says so; `interface` is one of our own then.
    #[serde(rename = "InitiatorName")]
    pub initiator: String,
    /// A device, not files.
    pub block: bool,
    #[allow(missing_docs)]
    #[serde(skip)]
    pub read_only: bool,
    /// What it is formatted with when it is empty.
    #[serde(skip)]
    pub fs_type: String,
    #[allow(missing_docs)]
    #[serde(skip)]
    pub mount_options: Vec<String>,
    /// The interface that ours is made after.
    #[serde(skip)]
    pub model: String,
    #[allow(missing_docs)]
    #[serde(skip)]
    pub chap_discovery: bool,
    #[allow(missing_docs)]
    #[serde(skip)]
    pub chap_session: bool,
    /// Namespace and name of the secret with the passwords.
    #[serde(skip)]
    pub secret: Option<(String, String)>,
}

/// The volume, if it is a disk of a target; the error is for a person.
pub fn describe(pod: &Pod, volume: &Volume, references: &References) -> Option<Result<Disk, String>> {
    if let Some(source) = &volume.iscsi {
        // The fields are those of a persistent volume's.
        let same = serde_json::to_value(source).and_then(serde_json::from_value);
        let disk = same.map(|source| of_source(&source, pod, &volume.name));
        return Some(disk.map_err(|error| error.to_string()).and_then(checked));
    }
    let claim = references::claim_name(pod, volume)?;
    let bound = references.claims.get(&claim)?.as_ref().ok()?;
    let spec = bound.spec.as_ref()?;
    let claimed = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.read_only);
    let mut disk = of_source(spec.iscsi.as_ref()?, pod, bound.metadata.name.as_deref()?);
    disk.block = spec.volume_mode.as_deref() == Some("Block");
    disk.read_only |= claimed == Some(true);
    disk.mount_options = spec.mount_options.clone().unwrap_or_default();
    Some(checked(disk))
}

fn of_source(source: &ISCSIPersistentVolumeSource, pod: &Pod, name: &str) -> Disk {
    let given = |text: &Option<String>, default: &str| {
        text.clone().filter(|text| !text.is_empty()).unwrap_or_else(|| default.to_owned())
    };
    let mut portals = vec![with_port(&source.target_portal)];
    portals.extend(source.portals.iter().flatten().map(|portal| with_port(portal)));
    let (model, initiator) = (given(&source.iscsi_interface, INTERFACE), given(&source.initiator_name, ""));
    let own = format!("{}:{name}", portals.first().map_or("", String::as_str));
    let secret = source.secret_ref.as_ref().map(|secret| {
        let namespace = secret.namespace.as_deref().unwrap_or_else(|| pod::namespace(pod));
        (namespace.to_owned(), secret.name.clone().unwrap_or_default())
    });
    Disk {
        name: name.to_owned(),
        portals,
        target: source.iqn.clone(),
        lun: source.lun,
        interface: if initiator.is_empty() { model.clone() } else { own },
        initiator,
        block: false,
        read_only: source.read_only == Some(true),
        fs_type: given(&source.fs_type, "ext4"),
        mount_options: Vec::new(),
        model,
        chap_discovery: source.chap_auth_discovery == Some(true),
        chap_session: source.chap_auth_session == Some(true),
        secret,
    }
}

fn with_port(portal: &str) -> String {
    // A bare address of version 6 has no port either.
    match portal.matches(':').count() {
        0 => format!("{portal}{PORT}"),
        1 => portal.to_owned(),
        _ if portal.starts_with('[') && !portal.ends_with(']') => portal.to_owned(),
        _ => format!("[{}]{PORT}", portal.trim_matches(['[', ']'])),
    }
}

/// Refuses what would be an option of a program, or another path, where a name belongs.
fn checked(disk: Disk) -> Result<Disk, String> {
    let parts = disk.portals.iter().chain([&disk.target, &disk.interface, &disk.model]);
    for part in parts {
        let is_plain = |character: char| !character.is_control() && !matches!(character, '/' | ' ');
        if part.is_empty() || part.starts_with('-') || !part.chars().all(is_plain) {
            return Err(format!("iscsi: {part:?} is no portal, target or interface"));
        }
    }
    // It becomes a line of a file.
    if disk.initiator.starts_with('-') || disk.initiator.chars().any(char::is_control) {
        return Err(format!("iscsi: {:?} is no name of an initiator", disk.initiator));
    }
    let is_type = |text: &str| text.chars().all(|one| one.is_ascii_alphanumeric());
    if !is_type(&disk.fs_type) {
        return Err(format!("iscsi: {:?} is no type of file system", disk.fs_type));
    }
    if !(0..=255).contains(&disk.lun) {
        return Err(format!("iscsi: lun {}: must be between 0 and 255, inclusive", disk.lun));
    }
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": []}});
        serde_json::from_value(pod).unwrap()
    }

    fn volume(source: serde_json::Value) -> Volume {
        serde_json::from_value(json!({"name": "v", "iscsi": source})).unwrap()
    }

    #[test]
    fn a_volume_of_the_pod_says_where_the_disk_is() {
        let plain = volume(json!({"targetPortal": "10.0.0.1", "iqn": "iqn.a:b", "lun": 3, "readOnly": true}));
        let disk = describe(&pod(), &plain, &References::default()).unwrap().unwrap();
        assert_eq!((disk.portals.as_slice(), disk.lun), (&["10.0.0.1:3260".to_owned()][..], 3));
        assert_eq!(
            (disk.interface.as_str(), disk.fs_type.as_str(), disk.read_only),
            ("default", "ext4", true)
        );
        let full = volume(
            json!({"targetPortal": "10.0.0.1:1", "portals": ["fd00::1"], "iqn": "iqn.a:b", "lun": 0,
            "initiatorName": "iqn.c:d", "iscsiInterface": "eth", "chapAuthSession": true, "secretRef": {"name": "s"}}),
        );
        let disk = describe(&pod(), &full, &References::default()).unwrap().unwrap();
        assert_eq!(disk.portals, ["10.0.0.1:1", "[fd00::1]:3260"]);
        assert_eq!((disk.interface.as_str(), disk.model.as_str()), ("10.0.0.1:1:v", "eth"));
        assert_eq!((disk.chap_session, disk.secret), (true, Some(("n".into(), "s".into()))));
    }

    #[test]
    fn a_claim_leads_to_its_volume() {
        let bound = json!({"metadata": {"name": "pv"}, "spec": {"volumeMode": "Block", "iscsi":
            {"targetPortal": "h:1", "iqn": "iqn.a:b", "lun": 0, "secretRef": {"name": "s", "namespace": "o"}}}});
        let mut references = References::default();
        references.claims.insert("c".into(), Ok(serde_json::from_value(bound).unwrap()));
        let claimed = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}});
        let volume: Volume = serde_json::from_value(claimed).unwrap();
        let disk = describe(&pod(), &volume, &references).unwrap().unwrap();
        assert_eq!((disk.name.as_str(), disk.block, disk.read_only), ("pv", true, true));
        assert_eq!(disk.secret, Some(("o".into(), "s".into())));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for source in [
            json!({"targetPortal": "h", "iqn": "--login", "lun": 0}),
            json!({"targetPortal": "-h", "iqn": "iqn.a:b", "lun": 0}),
            json!({"targetPortal": "h", "iqn": "iqn.a/../b", "lun": 0}),
            json!({"targetPortal": "h", "iqn": "iqn.a:b", "lun": 0, "iscsiInterface": "../x"}),
            json!({"targetPortal": "h", "iqn": "iqn.a:b", "lun": 0, "fsType": "ext4/../sh"}),
            json!({"targetPortal": "h", "iqn": "iqn.a:b", "lun": -1}),
            json!({"targetPortal": "h", "iqn": "iqn.a:b", "lun": 256}),
            json!({"targetPortal": "h", "iqn": "iqn.a:b", "lun": 0, "initiatorName": "iqn.c:d\niface.x = y"}),
        ] {
            let found = describe(&pod(), &volume(source), &References::default()).unwrap();
            assert!(found.is_err(), "{found:?}");
        }
    }
}
