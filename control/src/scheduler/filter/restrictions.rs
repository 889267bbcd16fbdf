//! VolumeRestrictions: a claim that is for one pod alone is free only when no other pod has it, wherever that is; and a
//! disk of a target that somebody writes to is on one node once.

use super::Refusal;
use crate::controllers::pods;
use crate::scheduler::request::{self, Request};
use crate::scheduler::snapshot::{NodeState, Snapshot};
use crate::scheduler::volumes::Need;
use k8s_openapi::api::core::v1::{Pod, Volume};

/// Rules out nodes whose pods have such a disk, or all of them while somebody has the claim.
pub(super) fn filter(request: &Request<'_>, node: &NodeState) -> Option<Refusal> {
    let has = |volume: &Volume| node.pods.values().any(|placed| clashes(volume, &placed.pod));
    if request.needs.iter().any(|need| matches!(need, Need::Disk(volume) if has(volume))) {
        return Some(Refusal::passing("node(s) had no available disk"));
    }
    request.is_claimed.then(|| {
        Refusal::passing(
            "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod",
        )
    })
}

/// Whether a pod on some node has a claim that the needs want alone.
pub(in crate::scheduler) fn is_claimed(
    pod: &Pod,
    needs: &[Need],
    snapshot: &Snapshot,
    changed: Option<&NodeState>,
) -> bool {
    let sole = |name: &String| needs.iter().any(|need| matches!(need, Need::Sole(sole) if sole == name));
    let namespace = &pod.metadata.namespace;
    needs.iter().any(|need| matches!(need, Need::Sole(_)))
        && request::nodes(snapshot, changed)
            .flat_map(|node| node.pods.values())
            .filter(|placed| {
                placed.pod.metadata.namespace == *namespace && placed.pod.metadata.uid != pod.metadata.uid
            })
            .any(|placed| pods::claims(&placed.pod).any(|name| sole(&name)))
}

/// Whether a disk can clash with others at all.
pub(in crate::scheduler) fn is_disk(volume: &Volume) -> bool {
    volume.iscsi.is_some() || volume.rbd.is_some()
}

/// Whether a pod has the same disk and one of the two writes.
fn clashes(volume: &Volume, pod: &Pod) -> bool {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(|other| {
        let same_target = match (&volume.iscsi, &other.iscsi) {
            (Some(one), Some(other)) => {
                one.iqn == other.iqn && !(one.read_only == Some(true) && other.read_only == Some(true))
            }
            _ => false,
        };
        let same_image = match (&volume.rbd, &other.rbd) {
            (Some(one), Some(other)) => {
                one.monitors.iter().any(|monitor| other.monitors.contains(monitor))
                    && (&one.pool, &one.image) == (&other.pool, &other.image)
                    && !(one.read_only == Some(true) && other.read_only == Some(true))
            }
            _ => false,
        };
        same_target || same_image
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::informer::Key;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn pod(name: &str, node: Option<&str>, volume: Value) -> Arc<Pod> {
        let spec = json!({"nodeName": node, "containers": [], "volumes": [volume]});
        let metadata = json!({"name": name, "namespace": "n", "uid": name});
        Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
    }

    /// Why each of the nodes a and b is ruled out for a pod, when another is on a.
    fn refused(needs: &[Need], other: Value) -> [Option<String>; 2] {
        let mut snapshot = Snapshot::default();
        for name in ["a", "b"] {
            let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"pods": "9"}}});
            snapshot.set_node(Arc::new(serde_json::from_value(node).unwrap()));
        }
        let other = pod("other", Some("a"), other);
        snapshot.pod_changed(&Key::of(&*other), Some(&other));
        let wanting = pod("p", None, json!({"name": "v", "emptyDir": {}}));
        let request = Request::new(&wanting, wanting.spec.as_ref().unwrap(), needs, None, &snapshot);
        ["a", "b"].map(|name| {
            let refusal = filter(&request, &snapshot.nodes[name]);
            refusal.map(|refusal| format!("{} {}", refusal.may_help, refusal.reasons.concat()))
        })
    }

    #[test]
    fn a_claim_for_one_pod_is_had_once_in_the_cluster() {
        let claim = |name: &str| json!({"name": "v", "persistentVolumeClaim": {"claimName": name}});
        let taken = "true node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
        let sole = [Need::Sole("c".to_owned())];
        assert_eq!(refused(&sole, claim("c")), [Some(taken.to_owned()), Some(taken.to_owned())]);
        assert_eq!(refused(&sole, claim("d")), [None, None]);
        assert_eq!(refused(&[], claim("c")), [None, None]);
    }

    #[test]
    fn a_disk_is_shared_by_readers_alone() {
        let disk = |iqn: &str, read_only: bool| json!({"name": "v", "iscsi": {"targetPortal": "t", "iqn": iqn, "lun": 0, "readOnly": read_only}});
        let need = |volume: Value| [Need::Disk(Box::new(serde_json::from_value(volume).unwrap()))];
        let clash = Some("true node(s) had no available disk".to_owned());
        assert_eq!(refused(&need(disk("i", true)), disk("i", false)), [clash.clone(), None]);
        assert_eq!(refused(&need(disk("i", false)), disk("i", true)), [clash.clone(), None]);
        assert_eq!(refused(&need(disk("i", true)), disk("i", true)), [None, None]);
        assert_eq!(refused(&need(disk("i", false)), disk("j", false)), [None, None]);
        let image =
            |pool: &str| json!({"name": "v", "rbd": {"monitors": ["m", pool], "image": "i", "pool": pool}});
        assert_eq!(refused(&need(image("p")), image("p")), [clash, None]);
        assert_eq!(refused(&need(image("p")), image("q")), [None, None]);
    }
}
