//! What the cluster learns of the drivers here: the CSINode object, an annotation of the Node, and the labels of each
//! driver's topology.

use super::{Csi, Driver};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const ANNOTATION: &str = "csi.volume.kubernetes.io/nodeid";
/// How long the API server may take, and how long the Node object may stay unseen.
const ASK: Duration = Duration::from_secs(30);

impl Csi {
    /// Tells the cluster which drivers there are now.
    pub(super) async fn tell_node(&self) -> Result<(), String> {
        let Some(client) = self.client.clone() else { return Ok(()) };
        let drivers = self.lock().clone();
        let tell = async {
            let mut seen = self.node.clone();
            let node = seen.wait_for(Option::is_some).await.map_err(|error| error.to_string())?.clone();
            let node = node.as_deref().cloned().unwrap_or_default();
            let nodes: Api<Node> = Api::all(client.clone());
            let patch = Patch::Merge(node_patch(&drivers));
            let patched = nodes.patch(&self.node_name, &PatchParams::default(), &patch).await;
            patched.map_err(|error| error.to_string())?;
            write(&Api::all(client), &self.node_name, &node, &drivers)
                .await
                .map_err(|error| error.to_string())
        };
        tokio::time::timeout(ASK, tell).await.unwrap_or_else(|_| Err("the API server does not answer".into()))
    }
}

/// Creates the object or changes the list in it.
async fn write(
    api: &Api<CSINode>,
    name: &str,
    node: &Node,
    drivers: &BTreeMap<String, Driver>,
) -> Result<(), kube::Error> {
    let spec = CSINodeSpec { drivers: drivers.iter().map(|(name, driver)| entry(name, driver)).collect() };
    let Some(mut present) = api.get_opt(name).await? else {
        let owner = node.metadata.uid.clone().map(|uid| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: name.to_owned(),
            uid,
            ..Default::default()
        });
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: owner.map(|owner| vec![owner]),
            ..Default::default()
        };
        return api.create(&PostParams::default(), &CSINode { metadata, spec }).await.map(drop);
    };
    present.spec = spec;
    api.replace(name, &PostParams::default(), &present).await.map(drop)
}

fn entry(name: &str, driver: &Driver) -> CSINodeDriver {
    let keys = driver.info.accessible_topology.iter().flat_map(|topology| topology.segments.keys().cloned());
    let mut keys: Vec<String> = keys.collect();
    keys.sort();
    let count = i32::try_from(driver.info.max_volumes_per_node).ok().filter(|count| *count > 0);
    CSINodeDriver {
        name: name.to_owned(),
        node_id: driver.info.node_id.clone(),
        topology_keys: Some(keys),
        allocatable: count.map(|count| VolumeNodeResources { count: Some(count) }),
    }
}

/// The annotation goes with the last driver; labels stay, as the kubelet's do.
fn node_patch(drivers: &BTreeMap<String, Driver>) -> Value {
    let ids: BTreeMap<&String, &String> =
        drivers.iter().map(|(name, driver)| (name, &driver.info.node_id)).collect();
    let ids = if ids.is_empty() { Value::Null } else { Value::String(json!(ids).to_string()) };
    let labels: BTreeMap<String, String> = drivers
        .values()
        .filter_map(|driver| driver.info.accessible_topology.clone())
        .flat_map(|topology| topology.segments)
        .collect();
    json!({"metadata": {"annotations": {ANNOTATION: ids}, "labels": labels}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_cri::csi::{NodeGetInfoResponse, Topology};

    #[test]
    fn drivers_are_told_with_their_limits_and_topology() {
        let info = NodeGetInfoResponse {
            node_id: "id".into(),
            max_volumes_per_node: 3,
            accessible_topology: Some(Topology { segments: [("zone".into(), "z".into())].into() }),
        };
        let driver = Driver { registrar: "r".into(), endpoint: "e".into(), info, abilities: Vec::new() };
        let told = entry("d", &driver);
        assert_eq!(told.topology_keys, Some(vec!["zone".to_owned()]));
        assert_eq!(told.allocatable.and_then(|limit| limit.count), Some(3));
        let patch = node_patch(&[("d".to_owned(), driver)].into());
        assert_eq!(patch["metadata"]["annotations"][ANNOTATION], "{\"d\":\"id\"}");
        assert_eq!(patch["metadata"]["labels"]["zone"], "z");
        assert_eq!(node_patch(&BTreeMap::new())["metadata"]["annotations"][ANNOTATION], Value::Null);
    }
}
