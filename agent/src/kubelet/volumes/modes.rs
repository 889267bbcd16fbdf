//! A claim is for files or for a device, and a container that asks for the other has made a mistake: the pod waits, with
//! nothing of it made, and says why.

use super::{VolumeError, source};
use crate::kubelet::pod;
use crate::kubelet::references::{self, References};
use k8s_openapi::api::core::v1::{Container, Pod};

/// Every claim is used as what it is for.
pub(super) fn check(pod: &Pod, references: &References) -> Result<(), VolumeError> {
    let claimed = pod::spec(pod).volumes.iter().flatten();
    for volume in claimed.filter(|volume| references::claim_name(pod, volume).is_some()) {
        // What else is wrong with it is told when it is made.
        let Ok(source) = source(pod, volume, references) else { continue };
        let used = |uses: fn(&Container, &str) -> bool| {
            pod::containers(pod).any(|(_, container)| uses(container, &volume.name))
        };
        let message = match source.is_device() {
            true if used(mounts) => mismatch(&volume.name, "Block", "volumeMounts"),
            false if used(has_device) => mismatch(&volume.name, "Filesystem", "volumeDevices"),
            _ => continue,
        };
        return Err(VolumeError { volume: Some(volume.name.clone()), message });
    }
    Ok(())
}

/// What is said of a volume that is used as what it is not.
pub fn mismatch(volume: &str, mode: &str, field: &str) -> String {
    format!("volume {volume} has volumeMode {mode}, but is specified in {field}")
}

/// Whether that is what a message says.
pub(super) fn is_mismatch(message: &str) -> bool {
    message.contains(" has volumeMode ")
}

fn mounts(container: &Container, volume: &str) -> bool {
    container.volume_mounts.iter().flatten().any(|mount| mount.name == volume)
}

fn has_device(container: &Container, volume: &str) -> bool {
    container.volume_devices.iter().flatten().any(|device| device.name == volume)
}
