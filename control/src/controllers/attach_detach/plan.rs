//! What to plug in, what to unplug, and what to tell: decided over the pods' needs and the attachments that there are.

use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::ResourceExt;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A volume of a storage driver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Volume {
    /// Of the PersistentVolume.
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) handle: String,
    /// Whether several nodes may have it at once.
    pub(super) many: bool,
}

impl Volume {
    /// `None` where the volume is no storage driver's.
    pub(super) fn of(volume: &PersistentVolume) -> Option<Self> {
        let spec = volume.spec.as_ref()?;
        let source = spec.csi.as_ref()?;
        let many = |mode: &String| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany");
        Some(Self {
            name: volume.name_any(),
            driver: source.driver.clone(),
            handle: source.volume_handle.clone(),
            many: spec.access_modes.iter().flatten().any(many),
        })
    }

    /// The name of its attachment to a node, which nodes work out for themselves.
    pub(super) fn attachment(&self, node: &str) -> String {
        let mut hasher = Sha256::new();
        [&self.handle, &self.driver, node].into_iter().for_each(|part| hasher.update(part));
        let digits: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("csi-{digits}")
    }

    /// What node status calls it.
    fn unique_name(&self) -> String {
        format!("kubernetes.io/csi/{}^{}", self.driver, self.handle)
    }
}

/// One thing to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Attach(Volume),
    /// Another node has it: why it cannot be had here.
    Refuse(Volume, String),
    Detach(String),
    /// It is to go, and the node says that it uses it.
    Wait(String),
}

/// What follows from one look.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Attachments that are in place, with the names by which the node is told of them.
    pub(super) attached: Vec<(String, String)>,
    /// News of the attacher: success, or why not.
    pub(super) reports: Vec<(Volume, Result<(), String>)>,
}

/// Decides for one node. `known` finds a volume by its name.
pub(super) fn plan(
    node_name: &str,
    node: Option<&Node>,
    wanted: &BTreeMap<Volume, Vec<Arc<Pod>>>,
    attachments: &[Arc<VolumeAttachment>],
    known: impl Fn(&str) -> Option<Volume>,
) -> Plan {
    let mut plan = Plan::default();
    for volume in wanted.keys() {
        let name = volume.attachment(node_name);
        if !attachments.iter().any(|attachment| attachment.name_any() == name) {
            plan.steps.push(begin(volume, node_name, attachments));
        }
    }
    for attachment in attachments.iter().filter(|attachment| attachment.spec.node_name == node_name) {
        let Some(volume) = attachment.spec.source.persistent_volume_name.as_deref().and_then(&known) else {
            continue;
        };
        let name = attachment.name_any();
        // Others make attachments too, for purposes of their own.
        if name != volume.attachment(node_name) {
            continue;
        }
        let status = attachment.status.clone().unwrap_or_default();
        let dying = attachment.metadata.deletion_timestamp.is_some();
        if status.attached && !dying {
            plan.attached.push((name.clone(), volume.unique_name()));
        }
        if wanted.contains_key(&volume) {
            report(
                &mut plan,
                volume,
                node,
                status.attached,
                status.attach_error.and_then(|error| error.message),
            );
        } else if !dying && node.is_some_and(|node| uses(node, &volume)) {
            plan.steps.push(Step::Wait(name));
        } else if !dying {
            plan.steps.push(Step::Detach(name));
        }
    }
    plan.attached.sort();
    plan
}

/// The first step for a volume that is not here.
fn begin(volume: &Volume, node: &str, attachments: &[Arc<VolumeAttachment>]) -> Step {
    let elsewhere = |attachment: &Arc<VolumeAttachment>| {
        attachment.spec.source.persistent_volume_name.as_deref() == Some(&volume.name)
            && attachment.spec.node_name != node
    };
    if volume.many || !attachments.iter().any(elsewhere) {
        return Step::Attach(volume.clone());
    }
    let why = format!(
        "Multi-Attach error for volume {:?} Volume is already exclusively attached to one node and can't be attached to another",
        volume.name
    );
    Step::Refuse(volume.clone(), why)
}

/// News of a volume that is wanted: told while the node has not been told of success.
fn report(plan: &mut Plan, volume: Volume, node: Option<&Node>, attached: bool, failure: Option<String>) {
    let is_told = node.is_some_and(|node| told(node).contains(&volume.unique_name()));
    match (attached, failure) {
        (true, _) if !is_told => plan.reports.push((volume, Ok(()))),
        (false, Some(why)) => {
            let words = format!("AttachVolume.Attach failed for volume {:?} : {why}", volume.name);
            plan.reports.push((volume, Err(words)));
        }
        _ => {}
    }
}

/// What a node's status says is plugged in.
pub(super) fn told(node: &Node) -> Vec<String> {
    let attached = node.status.iter().flat_map(|status| status.volumes_attached.iter().flatten());
    attached.map(|volume| volume.name.clone()).collect()
}

fn uses(node: &Node, volume: &Volume) -> bool {
    let name = volume.unique_name();
    node.status.iter().flat_map(|status| status.volumes_in_use.iter().flatten()).any(|used| *used == name)
}

/// An administrator has said that nothing runs there any more.
pub(super) fn is_out_of_service(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints.into_iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Whether the node is well.
pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn volume(many: bool) -> Volume {
        Volume { name: "pv".into(), driver: "d.example.com".into(), handle: "h".into(), many }
    }

    fn node(status: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "status": status})).unwrap()
    }

    fn attachment(on: &str, status: Value) -> Arc<VolumeAttachment> {
        let object = json!({"metadata": {"name": volume(false).attachment(on)}, "status": status, "spec": {
            "attacher": "d.example.com", "nodeName": on, "source": {"persistentVolumeName": "pv"}}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn planned(many: bool, wants: bool, node: &Node, attachments: &[Arc<VolumeAttachment>]) -> Plan {
        let wanted = wants.then(|| (volume(many), Vec::new())).into_iter().collect();
        plan("a", Some(node), &wanted, attachments, |name| (name == "pv").then(|| volume(many)))
    }

    const NAME: &str = "kubernetes.io/csi/d.example.com^h";

    #[test]
    fn a_volume_is_plugged_in_reported_and_unplugged() {
        let empty = node(json!({}));
        assert_eq!(planned(false, true, &empty, &[]).steps, [Step::Attach(volume(false))]);
        let waiting = planned(false, true, &empty, &[attachment("a", json!({"attached": false}))]);
        assert_eq!(waiting, Plan::default());
        let failed = json!({"attached": false, "attachError": {"message": "no slot"}});
        let reports = planned(false, true, &empty, &[attachment("a", failed)]).reports;
        assert_eq!(
            reports,
            [(volume(false), Err("AttachVolume.Attach failed for volume \"pv\" : no slot".into()))]
        );

        let here = [attachment("a", json!({"attached": true}))];
        let attached = planned(false, true, &empty, &here);
        assert_eq!(attached.attached, [(here[0].name_any(), NAME.to_owned())]);
        assert_eq!(attached.reports, [(volume(false), Ok(()))]);
        let told =
            node(json!({"volumesAttached": [{"name": NAME, "devicePath": ""}], "volumesInUse": [NAME]}));
        assert!(planned(false, true, &told, &here).reports.is_empty(), "said once");

        assert_eq!(planned(false, false, &told, &here).steps, [Step::Wait(here[0].name_any())]);
        assert_eq!(planned(false, false, &empty, &here).steps, [Step::Detach(here[0].name_any())]);
    }

    #[test]
    fn one_node_at_a_time_unless_the_volume_is_for_many() {
        let elsewhere = [attachment("b", json!({"attached": true}))];
        let refused = planned(false, true, &node(json!({})), &elsewhere).steps;
        assert!(
            matches!(&refused[..], [Step::Refuse(_, why)] if why.starts_with("Multi-Attach error for volume \"pv\""))
        );
        assert_eq!(planned(true, true, &node(json!({})), &elsewhere).steps, [Step::Attach(volume(true))]);
    }

    #[test]
    fn attachments_of_others_are_left_alone() {
        let mut foreign = VolumeAttachment::clone(&attachment("a", json!({"attached": true})));
        foreign.metadata.name = Some("mine".into());
        assert_eq!(planned(false, false, &node(json!({})), &[Arc::new(foreign)]), Plan::default());
    }

    #[test]
    fn names_are_those_that_nodes_expect() {
        let known = Volume { handle: "vol-1".into(), driver: "csi.example.com".into(), ..volume(false) };
        let name = known.attachment("node-1");
        assert_eq!((name.len(), &name[..4]), (68, "csi-"));
    }
}
