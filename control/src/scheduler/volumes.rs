//! Claims of a pod and the nodes that can serve them: bound volumes say from where they can be reached, unbound
//! claims of classes that wait for their first pod need a volume that is there or one that can be made.

use super::filter::restrictions;
use super::snapshot::NodeState;
use crate::controllers::informer::{Key, Lister};
use crate::controllers::{ownership, pods, volume_match};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use std::sync::Arc;

/// The copies that claims are looked up in.
#[derive(Clone)]
pub(super) struct Storage {
    pub(super) claims: Lister<PersistentVolumeClaim>,
    pub(super) volumes: Lister<PersistentVolume>,
    pub(super) classes: Lister<StorageClass>,
}

/// What one claim asks of a node.
#[derive(Debug)]
pub(super) enum Need {
    /// The node must reach this volume.
    Volume(Arc<PersistentVolume>),
    /// The volume is gone.
    Gone,
    /// The node must reach one of the volumes that would serve, unless one can be made there.
    Open {
        claim: Arc<PersistentVolumeClaim>,
        volumes: Vec<Arc<PersistentVolume>>,
        /// The class that makes one.
        made: Option<Arc<StorageClass>>,
    },
    /// No other pod may have the claim of this name.
    Sole(String),
    /// A disk that cannot be shared with whoever writes to it.
    Disk(Box<Volume>),
}

impl Storage {
    /// The needs of a pod, or what keeps it from every node.
    pub(super) fn needs(&self, pod: &Pod) -> Result<Vec<Need>, String> {
        let namespace = pod.namespace().unwrap_or_default();
        let owned: Vec<String> = pods::ephemeral_volumes(pod).map(|(name, _)| name).collect();
        let mut needs: Vec<Need> = disks(pod).collect();
        for name in pods::claims(pod) {
            let claim = self.claims.get(&Key::new(&namespace, &name));
            if owned.contains(&name) {
                is_for(pod, &name, claim.as_deref())?;
            }
            let class = claim.as_ref().and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone());
            let class = class.and_then(|class| self.classes.get(&Key::new("", &class)));
            let sole = claim.as_deref().is_some_and(is_for_one_pod);
            needs.push(need(&name, claim, class, &self.volumes.all())?);
            needs.extend(sole.then_some(Need::Sole(name)));
        }
        Ok(needs)
    }

    /// Resolves when the copies are complete.
    pub(super) async fn synced(&self) {
        self.claims.synced().await;
        self.volumes.synced().await;
        self.classes.synced().await;
    }

    /// Whether a claim has its volume by now; one that is gone needs none.
    pub(super) fn is_bound(&self, claim: &PersistentVolumeClaim) -> bool {
        self.claims.get(&Key::of(claim)).is_none_or(|claim| is_bound(&claim))
    }
}

/// The claim of a generic ephemeral volume must be the pod's own.
fn is_for(pod: &Pod, name: &str, claim: Option<&PersistentVolumeClaim>) -> Result<(), String> {
    let Some(claim) = claim else {
        return Err(format!(
            "waiting for ephemeral volume controller to create the persistentvolumeclaim {name:?}"
        ));
    };
    let owner = ownership::controller_of(&claim.metadata).map(|owner| owner.uid.as_str());
    if owner == pod.metadata.uid.as_deref() {
        return Ok(());
    }
    let (namespace, pod) = (pod.namespace().unwrap_or_default(), pod.name_any());
    Err(format!("PVC {namespace}/{name} was not created for pod {namespace}/{pod} (pod is not owner)"))
}

/// Volumes of a pod that name a disk themselves.
fn disks(pod: &Pod) -> impl Iterator<Item = Need> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter(|volume| restrictions::is_disk(volume)).map(|volume| Need::Disk(Box::new(volume.clone())))
}

fn is_for_one_pod(claim: &PersistentVolumeClaim) -> bool {
    let modes = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
    modes.into_iter().any(|mode| mode == "ReadWriteOncePod")
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

fn need(
    name: &str,
    claim: Option<Arc<PersistentVolumeClaim>>,
    class: Option<Arc<StorageClass>>,
    volumes: &[Arc<PersistentVolume>],
) -> Result<Need, String> {
    let claim = claim.ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
    if claim.metadata.deletion_timestamp.is_some() {
        return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase == Some("Lost") {
        return Err(format!("persistentvolumeclaim {name:?} bound to non-existent persistentvolume"));
    }
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    if is_bound(&claim) {
        let found = volumes.iter().find(|one| Some(one.name_any().as_str()) == volume);
        return Ok(found.cloned().map_or(Need::Gone, Need::Volume));
    }
    let waits = class.filter(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    let Some(class) = waits.filter(|_| volume.is_none()) else {
        return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
    };
    let serving: Vec<_> = volumes
        .iter()
        .filter(|volume| volume_match::find(&claim, std::slice::from_ref(volume), None).is_some())
        .cloned()
        .collect();
    let made = Some(class).filter(|class| class.provisioner != "kubernetes.io/no-provisioner");
    Ok(Need::Open { claim, volumes: serving, made })
}

/// Why a node cannot serve these needs.
pub(super) fn refusal(needs: &[Need], node: &NodeState) -> Option<&'static str> {
    needs.iter().find_map(|need| match need {
        Need::Volume(volume) if !volume_match::reaches(volume, &node.node) => {
            Some("node(s) had volume node affinity conflict")
        }
        Need::Gone => Some("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"),
        Need::Open { volumes, made, .. }
            if !made.as_deref().is_some_and(|class| is_made_on(class, node))
                && !volumes.iter().any(|volume| volume_match::reaches(volume, &node.node)) =>
        {
            Some("node(s) didn't find available persistent volumes to bind")
        }
        _ => None,
    })
}

/// Whether volumes of the class are made for a node: it lies in one of the topologies that the class allows, if it says
/// which.
fn is_made_on(class: &StorageClass, node: &NodeState) -> bool {
    let Some(allowed) = class.allowed_topologies.as_deref().filter(|all| !all.is_empty()) else {
        return true;
    };
    allowed.iter().any(|term| {
        let labels = term.match_label_expressions.as_deref().unwrap_or_default();
        !labels.is_empty()
            && labels.iter().all(|one| {
                node.node.labels().get(&one.key).is_some_and(|value| one.values.iter().any(|it| it == value))
            })
    })
}

/// Claims that are still to be bound for the pod's node.
pub(super) fn open(needs: &[Need]) -> Vec<Arc<PersistentVolumeClaim>> {
    let open = |need: &Need| match need {
        Need::Open { claim, .. } => Some(claim.clone()),
        _ => None,
    };
    needs.iter().filter_map(open).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_claims_ask_for() {
        let claim = |phase: &str, volume: Option<&str>| -> Option<Arc<PersistentVolumeClaim>> {
            let spec = json!({"volumeName": volume, "storageClassName": "s"});
            let object = json!({"metadata": {"name": "c", "namespace": "n"}, "spec": spec, "status": {"phase": phase}});
            Some(Arc::new(serde_json::from_value(object).unwrap()))
        };
        let class = |mode: &str| -> Option<Arc<StorageClass>> {
            let object = json!({"metadata": {}, "provisioner": "p", "volumeBindingMode": mode});
            Some(Arc::new(serde_json::from_value(object).unwrap()))
        };
        let (late, now) = (class("WaitForFirstConsumer"), class("Immediate"));
        let immediate = "pod has unbound immediate PersistentVolumeClaims";
        assert_eq!(need("c", None, None, &[]).unwrap_err(), "persistentvolumeclaim \"c\" not found");
        assert_eq!(need("c", claim("Pending", None), now, &[]).unwrap_err(), immediate);
        assert_eq!(need("c", claim("Pending", None), None, &[]).unwrap_err(), immediate);
        assert!(matches!(
            need("c", claim("Pending", None), late.clone(), &[]),
            Ok(Need::Open { made: Some(_), .. })
        ));
        assert!(matches!(need("c", claim("Bound", Some("v")), late, &[]), Ok(Need::Gone)));
    }

    #[test]
    fn volumes_are_made_where_their_class_allows() {
        let node = |zone: &str| {
            let object = json!({"metadata": {"name": "n", "labels": {"zone": zone}}});
            NodeState::new(Arc::new(serde_json::from_value(object).unwrap()))
        };
        let refused = |allowed: serde_json::Value, zone: &str| {
            let class = json!({"metadata": {}, "provisioner": "p", "allowedTopologies": allowed});
            let claim = serde_json::from_value(json!({"metadata": {"name": "c"}})).unwrap();
            let made = Some(Arc::new(serde_json::from_value(class).unwrap()));
            refusal(&[Need::Open { claim: Arc::new(claim), volumes: vec![], made }], &node(zone))
        };
        let there = json!([{"matchLabelExpressions": [{"key": "zone", "values": ["a", "b"]}]}]);
        let none = Some("node(s) didn't find available persistent volumes to bind");
        assert_eq!((refused(there.clone(), "b"), refused(there, "c")), (None, none));
        assert_eq!((refused(json!([]), "c"), refused(json!([{}]), "c")), (None, none));
    }

    #[test]
    fn the_claim_of_an_ephemeral_volume_is_the_pods_own() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}})).unwrap();
        let claim = |uid: &str| -> PersistentVolumeClaim {
            let owner =
                json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]);
            serde_json::from_value(json!({"metadata": {"name": "p-v", "ownerReferences": owner}})).unwrap()
        };
        assert_eq!(is_for(&pod, "p-v", Some(&claim("u"))), Ok(()));
        let foreign = "PVC n/p-v was not created for pod n/p (pod is not owner)";
        assert_eq!(is_for(&pod, "p-v", Some(&claim("old"))), Err(foreign.to_owned()));
        let none = "waiting for ephemeral volume controller to create the persistentvolumeclaim \"p-v\"";
        assert_eq!(is_for(&pod, "p-v", None), Err(none.to_owned()));
    }
}
