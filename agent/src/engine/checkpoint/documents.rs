//! The documents of a checkpoint that say which container it is of, with the field names that other engines and
//! `checkpointctl` read.

use crate::engine::records::{ContainerRecord, SandboxRecord};
use jiff::Timestamp;
use knarr_runtime::spec::Spec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// `config.dump`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ConfigDump {
    pub(crate) id: String,
    pub(crate) name: String,
    /// The name the image was asked for by.
    pub(crate) rootfs_image: String,
    /// Repository and digest.
    pub(crate) rootfs_image_ref: String,
    pub(crate) rootfs_image_name: String,
    pub(crate) runtime: String,
    /// RFC 3339, as are all times.
    pub(crate) created_time: String,
    pub(crate) checkpointed_time: String,
    pub(crate) restored_time: String,
    pub(crate) restored: bool,
}

/// What Go writes for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

impl ConfigDump {
    /// Of a container, at a time in nanoseconds since the epoch.
    pub(crate) fn of(container: &ContainerRecord, sandbox: &SandboxRecord, now: i64) -> Self {
        let image = container.config.image.clone().unwrap_or_default();
        Self {
            id: container.id.clone(),
            name: name(container, sandbox),
            rootfs_image: image.image.clone(),
            rootfs_image_ref: container.image_ref.clone(),
            rootfs_image_name: image.image,
            runtime: if sandbox.runtime_handler.is_empty() {
                "knarr-runtime".into()
            } else {
                sandbox.runtime_handler.clone()
            },
            created_time: time(container.created_at),
            checkpointed_time: time(now),
            restored_time: NEVER.into(),
            restored: false,
        }
    }

    /// Names of the image that the container stood on, the surest first.
    pub(crate) fn image_names(&self) -> Vec<&str> {
        let names = [&self.rootfs_image_ref, &self.rootfs_image_name, &self.rootfs_image];
        let mut seen = BTreeSet::new();
        names.into_iter().map(String::as_str).filter(|name| !name.is_empty() && seen.insert(*name)).collect()
    }
}

/// As containerd calls a container: its name and those of its pod.
fn name(container: &ContainerRecord, sandbox: &SandboxRecord) -> String {
    let own = container.config.metadata.clone().unwrap_or_default();
    let pod = sandbox.config.metadata.clone().unwrap_or_default();
    format!("{}_{}_{}_{}_{}", own.name, pod.name, pod.namespace, pod.uid, own.attempt)
}

fn time(nanoseconds: i64) -> String {
    Timestamp::from_nanosecond(nanoseconds.into()).map_or_else(|_| NEVER.into(), |time| time.to_string())
}

/// Places at which the container of the checkpoint had something of the host, and the new one has nothing: criu would
/// fail on them in words that name no mount of the pod.
pub(crate) fn missing_mounts(old: &Spec, new: &Spec) -> Vec<String> {
    let bind = |fs_type: &str, options: &[String]| {
        fs_type == "bind" || options.iter().any(|option| option == "bind" || option == "rbind")
    };
    let places = |spec: &Spec| -> BTreeSet<String> {
        let binds = spec.mounts.iter().filter(|mount| bind(&mount.fs_type, &mount.options));
        binds.map(|mount| mount.destination.trim_end_matches('/').to_owned()).collect()
    };
    places(old).difference(&places(new)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mounts: serde_json::Value) -> Spec {
        serde_json::from_value(serde_json::json!({"ociVersion": "1.2.0", "mounts": mounts})).unwrap()
    }

    #[test]
    fn only_what_came_from_the_host_must_come_again() {
        let old = spec(serde_json::json!([
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data/", "type": "bind", "source": "/a"},
            {"destination": "/more", "source": "/b", "options": ["rbind", "ro"]},
        ]));
        let new = spec(serde_json::json!([{"destination": "/data", "type": "bind", "source": "/elsewhere"}]));
        assert_eq!(missing_mounts(&old, &new), ["/more"]);
        assert_eq!(missing_mounts(&old, &old), Vec::<String>::new());
        assert_eq!(missing_mounts(&new, &old), Vec::<String>::new());
    }

    #[test]
    fn names_of_other_engines_are_read() {
        let text = r#"{"id":"c","name":"n","rootfsImageName":"img:1","rootfsImageRef":"img@sha256:0","runtime":"runc",
            "createdTime":"2024-01-01T00:00:00Z","checkpointedTime":"2024-01-01T00:00:00Z","unknown":1}"#;
        let dump: ConfigDump = serde_json::from_str(text).unwrap();
        assert_eq!(dump.image_names(), ["img@sha256:0", "img:1"]);
        assert_eq!(time(1_700_000_000_000_000_000), "2023-11-14T22:13:20Z");
    }
}
