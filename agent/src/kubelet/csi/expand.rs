//! The node's part of giving a claim more room: once the volume has grown, what is on it does (`NodeExpandVolume`), and the
//! claim says so.
//!
//! Whether there is anything to do is read off the objects: the volume's capacity is more than the claim has. The volume
//! itself is made larger by the driver's controller, before.

use super::places::Places;
use super::publish::{is_staged, secrets, text};
use super::{Csi, CsiVolume, Driver};
use crate::kubelet::events::Severity;
use crate::kubelet::host::Host;
use crate::kubelet::{pod, resources};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use knarr_cri::csi::node_service_capability::rpc::Type;
use knarr_cri::csi::{CapacityRange, NodeExpandVolumeRequest};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// Says that the file system on a volume is yet to grow.
const PENDING: &str = "FileSystemResizePending";

impl Csi {
    /// For a pod that has the volume already.
    pub(super) async fn grow(&self, host: &Host, pod: &Pod, volume: &CsiVolume) -> Result<(), String> {
        let driver = self.for_mount(&volume.driver)?;
        let _turn = self.turn(&volume.handle).await;
        let places = Places::of_pod(&self.root, &host.paths, pod::uid(pod), volume);
        self.expand(host, pod, volume, &driver, &places).await
    }

    /// The caller has the volume's turn, and the pod has it at `places`.
    pub(super) async fn expand(
        &self,
        host: &Host,
        pod: &Pod,
        volume: &CsiVolume,
        driver: &Driver,
        places: &Places,
    ) -> Result<(), String> {
        let (Some(client), Some(claim), true) =
            (&self.client, &volume.claim, driver.can(Type::ExpandVolume) && !volume.read_only)
        else {
            return Ok(());
        };
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), pod::namespace(pod));
        let found = claims.get(claim).await.map_err(|error| error.to_string())?;
        let Some(bytes) = volume.capacity.filter(|bytes| is_due(*bytes, &found)) else { return Ok(()) };
        let request = self.expand_request(host, volume, driver, places, bytes).await?;
        let refused = |error: String| {
            let text =
                format!("NodeExpandVolume.NodeExpandVolume failed for volume \"{}\" : {error}", volume.name);
            host.recorder.pod(pod, Severity::Warning, "VolumeResizeFailed", text.clone());
            text
        };
        driver.expand(request).await.map_err(refused)?;
        let patch = Patch::Merge(finished(&found, bytes));
        let patched = claims.patch_status(claim, &PatchParams::default(), &patch).await;
        patched.map_err(|error| format!("updating claim {claim}: {error}"))?;
        let node = &self.node_name;
        let text = format!("MountVolume.NodeExpandVolume succeeded for volume \"{}\" {node}", volume.name);
        host.recorder.pod(pod, Severity::Normal, "FileSystemResizeSuccessful", text);
        Ok(())
    }

    async fn expand_request(
        &self,
        host: &Host,
        volume: &CsiVolume,
        driver: &Driver,
        places: &Places,
        bytes: i64,
    ) -> Result<NodeExpandVolumeRequest, String> {
        let staging = is_staged(driver, volume).then(|| text(&places.staging.target));
        Ok(NodeExpandVolumeRequest {
            volume_id: volume.handle.clone(),
            volume_path: text(&places.target),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            staging_target_path: staging.unwrap_or_default(),
            volume_capability: Some(volume.capability(driver.can(Type::SingleNodeMultiWriter), None)),
            secrets: secrets(host, volume.expand_secret.as_ref()).await?,
        })
    }
}

/// A claim that says nothing of its size has just been bound.
fn is_due(bytes: i64, claim: &PersistentVolumeClaim) -> bool {
    let capacity = claim.status.as_ref().and_then(|status| status.capacity.as_ref());
    let has = capacity.and_then(|all| resources::value(all.get("storage")?));
    has.is_some_and(|has| bytes > has)
}

/// The claim's status once it has so many bytes. A claim that was changed meanwhile is looked at again later.
fn finished(claim: &PersistentVolumeClaim, bytes: i64) -> Value {
    let status = claim.status.clone().unwrap_or_default();
    let wanted = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    // In the words in which it was asked for, where that is what it has.
    let said = wanted.and_then(|all| all.get("storage")).filter(|said| resources::value(said) == Some(bytes));
    let storage = said.cloned().unwrap_or_else(|| Quantity(bytes.to_string()));
    let mut conditions = status.conditions.unwrap_or_default();
    conditions.retain(|condition| condition.type_ != PENDING && condition.type_ != "Resizing");
    json!({"metadata": {"resourceVersion": claim.metadata.resource_version}, "status": {
        "capacity": {"storage": storage}, "conditions": conditions,
        "allocatedResourceStatuses": {"storage": null}}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(status: Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": "c", "resourceVersion": "7"},
            "spec": {"resources": {"requests": {"storage": "2Gi"}}}, "status": status}))
        .unwrap()
    }

    #[test]
    fn a_claim_that_has_less_than_its_volume_is_given_more() {
        assert!(is_due(2 << 30, &claim(json!({"capacity": {"storage": "1Gi"}}))));
        assert!(!is_due(2 << 30, &claim(json!({"capacity": {"storage": "2Gi"}}))));
        assert!(!is_due(2 << 30, &claim(json!({}))), "not bound yet");
    }

    #[test]
    fn what_waited_for_the_node_does_not_wait_any_more() {
        let pending = json!({"type": PENDING, "status": "True"});
        let other = json!({"type": "ModifyingVolume", "status": "True"});
        let patch = finished(&claim(json!({"conditions": [pending, other.clone()]})), 2 << 30);
        assert_eq!(patch["status"]["conditions"], json!([other]));
        assert_eq!(patch["status"]["capacity"]["storage"], "2Gi");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(finished(&claim(json!({})), 5)["status"]["capacity"]["storage"], "5");
    }
}
