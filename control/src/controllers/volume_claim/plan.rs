//! What a claim needs next, decided from data alone.

use super::provision::{self, PROVISIONER};
use crate::controllers::events::Severity;
use crate::controllers::volume_match::{self, is_reserved};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use std::sync::Arc;

/// One thing to do.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    /// A free volume serves: it is set aside for the claim.
    Reserve(Arc<PersistentVolume>),
    /// The volume is set aside: the claim takes it.
    Bind(Arc<PersistentVolume>),
    Provision(Box<PersistentVolume>),
    /// Somebody else makes it, who is told by the name of the provisioner on the claim.
    External(String),
    /// The volume is gone or somebody else's: reason and message.
    Lost(&'static str, &'static str),
    Tell(Severity, &'static str, String),
}

/// A claim and what it may be given.
pub(super) struct World<'a> {
    pub(super) claim: &'a PersistentVolumeClaim,
    pub(super) volumes: &'a [Arc<PersistentVolume>],
    pub(super) class_name: Option<&'a str>,
    pub(super) class: Option<Arc<StorageClass>>,
    /// The node of the claim's first pod.
    pub(super) node: Option<Arc<Node>>,
    /// Names of pods that want the claim and have no node yet.
    pub(super) unscheduled: Vec<String>,
}

/// Bound, and says so.
pub(super) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// The claim's own object says everything of the binding but its status.
pub(super) fn is_complete(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_ref()) == volume.metadata.name.as_ref()
        && was_bound(claim)
}

fn was_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.annotations().contains_key("pv.kubernetes.io/bind-completed")
}

/// The next step.
pub(super) fn step(world: &World<'_>) -> Step {
    let named = world.claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    match named.filter(|name| !name.is_empty()) {
        Some(name) => follow(world, name),
        None => search(world),
    }
}

/// A claim that names its volume.
fn follow(world: &World<'_>, name: &str) -> Step {
    let claim = world.claim;
    let volume = world.volumes.iter().find(|volume| volume.name_any() == name);
    let lost = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost");
    let owner = volume.and_then(|volume| volume.spec.as_ref()?.claim_ref.as_ref());
    match (volume, owner) {
        (None, _) if was_bound(claim) && lost => Step::Nothing,
        (None, _) if was_bound(claim) => {
            Step::Lost("ClaimLost", "Bound claim has lost its PersistentVolume. Data on the volume is lost!")
        }
        (None, _) => Step::Nothing,
        (Some(volume), None) => match volume_match::mismatch(claim, volume).filter(|_| !was_bound(claim)) {
            None => Step::Reserve(volume.clone()),
            Some(fault) => {
                let why = fault.words(volume);
                let message = format!("Cannot bind to requested volume {name:?}: {why}");
                Step::Tell(Severity::Warning, "VolumeMismatch", message)
            }
        },
        (Some(volume), Some(owner)) if is_reserved(claim, volume) => {
            match owner.uid.as_deref().unwrap_or_default() {
                "" => Step::Reserve(volume.clone()),
                _ if is_bound(claim) && is_complete(claim, volume) => Step::Nothing,
                _ => Step::Bind(volume.clone()),
            }
        }
        (Some(_), Some(_)) if was_bound(claim) && !lost => Step::Lost(
            "ClaimMisbound",
            "Two claims are bound to the same volume, this one is bound incorrectly",
        ),
        (Some(_), Some(_)) => Step::Nothing,
    }
}

/// A claim that takes what serves.
fn search(world: &World<'_>) -> Step {
    let claim = world.claim;
    let ours = world.volumes.iter().find(|volume| {
        let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        owner.is_some_and(|owner| owner.uid.is_some() && owner.uid == claim.metadata.uid)
    });
    if let Some(volume) = ours {
        return Step::Bind(volume.clone());
    }
    let class = world.class.as_deref();
    let waits =
        class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    let found = volume_match::find(claim, world.volumes, world.node.as_deref().filter(|_| waits));
    // Before a pod has a node, only a volume set aside for this very claim is certain to be right.
    let certain =
        |volume: &Arc<PersistentVolume>| !waits || world.node.is_some() || is_reserved(claim, volume);
    if let Some(volume) = found.filter(certain) {
        return Step::Reserve(volume);
    }
    provide(world, class, waits)
}

/// No volume serves: one is made, or somebody is told why not.
fn provide(world: &World<'_>, class: Option<&StorageClass>, waits: bool) -> Step {
    let normal = |reason, message: &str| Step::Tell(Severity::Normal, reason, message.to_owned());
    let failed = |message: String| Step::Tell(Severity::Warning, "ProvisioningFailed", message);
    let Some(name) = world.class_name else {
        return normal(
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        );
    };
    let Some(class) = class else {
        return failed(format!("storageclass.storage.k8s.io {name:?} not found"));
    };
    if waits && world.node.is_none() {
        return wait_for_consumer(&world.unscheduled);
    }
    match (class.provisioner.as_str(), &world.node) {
        (PROVISIONER, Some(node)) => match provision::volume(world.claim, class, node) {
            Ok(volume) => Step::Provision(Box::new(volume)),
            Err(message) => failed(message),
        },
        (PROVISIONER, None) => failed(format!(
            "failed to provision volume with StorageClass {name:?}: configuration error, no node was specified"
        )),
        ("kubernetes.io/no-provisioner", _) => normal(
            "FailedBinding",
            "no persistent volumes available for this claim and no storage class is set",
        ),
        (other, _) => Step::External(other.to_owned()),
    }
}

/// The pods that will say where the volume is needed.
fn wait_for_consumer(pods: &[String]) -> Step {
    let (reason, message) = match pods {
        [] => ("WaitForFirstConsumer", "waiting for first consumer to be created before binding".to_owned()),
        [one] => ("WaitForPodScheduled", format!("waiting for pod {one} to be scheduled")),
        many => ("WaitForPodScheduled", format!("waiting for pods {} to be scheduled", many.join(","))),
    };
    Step::Tell(Severity::Normal, reason, message)
}

#[cfg(test)]
mod tests;
