//! Every node gets its own range of pod addresses, cut from the cluster's.

use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Woken by its nodes.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let (cluster_cidr, node_mask) = (plane.options.cluster_cidr.clone(), plane.options.node_cidr_mask);
    let mut wire = Wire::new("nodecidr", plane);
    let controller = NodeCidrs { client: wire.client(), nodes: wire.keys(), cluster_cidr, node_mask };
    wire.run(1, controller)
}

/// Everything one reconcile needs; one worker, so that no range is given twice.
pub(crate) struct NodeCidrs {
    pub(crate) client: Client,
    pub(crate) nodes: Lister<Node>,
    pub(crate) cluster_cidr: String,
    pub(crate) node_mask: u8,
}

impl Reconcile for NodeCidrs {
    /// Gives a node a range unless it has one. The API server is asked for the present state of all nodes, since
    /// our copy may not show the last assignment yet.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        if self.nodes.get(&key).is_none_or(|node| cidr_of(&node).is_some()) {
            return Ok(Next::Wait);
        }
        let api: Api<Node> = Api::all(self.client.clone());
        let nodes = api.list(&kube::api::ListParams::default()).await?;
        if !lacks_range(&nodes.items, &key.name) {
            return Ok(Next::Wait);
        }
        let taken: BTreeSet<String> = nodes.items.iter().filter_map(cidr_of).collect();
        let Some(free) = first_free(&self.cluster_cidr, self.node_mask, &taken) else {
            tracing::error!(
                node = key.name,
                cidr = self.cluster_cidr,
                "no range is left for the pods of this node"
            );
            return Ok(Next::Wait);
        };
        let patch = json!({"spec": {"podCIDR": free, "podCIDRs": [free]}});
        ignore_not_found(api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await)?;
        Ok(Next::Wait)
    }
}

/// Whether the node is there and has no range. A second one would be refused: it keeps the first as long as it lives.
fn lacks_range(nodes: &[Node], name: &str) -> bool {
    nodes.iter().any(|node| node.metadata.name.as_deref() == Some(name) && cidr_of(node).is_none())
}

fn cidr_of(node: &Node) -> Option<String> {
    node.spec.as_ref()?.pod_cidr.clone().filter(|cidr| !cidr.is_empty())
}

/// The first range of `2^(32-mask)` addresses inside `cluster` that nobody has.
fn first_free(cluster: &str, mask: u8, taken: &BTreeSet<String>) -> Option<String> {
    let (address, length) = cluster.split_once('/')?;
    let (address, length): (Ipv4Addr, u8) = (address.parse().ok()?, length.parse().ok()?);
    if length > mask || mask > 30 {
        return None;
    }
    let base = u32::from(address) & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    let size = 1_u64 << (32 - mask);
    (0..1_u64 << (mask - length)).map(|index| u64::from(base) + index * size).find_map(|first| {
        let cidr = format!("{}/{mask}", Ipv4Addr::from(u32::try_from(first).ok()?));
        (!taken.contains(&cidr)).then_some(cidr)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_given_one_range_only() {
        let node = |name: &str, cidr: &str| -> Node {
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"podCIDR": cidr}})).unwrap()
        };
        let nodes = [node("new", ""), node("served", "10.42.0.0/24")];
        assert!(lacks_range(&nodes, "new"));
        assert!(!lacks_range(&nodes, "served") && !lacks_range(&nodes, "gone"));
    }

    #[test]
    fn ranges_are_given_once_and_run_out() {
        let mut taken = BTreeSet::new();
        for expected in ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24"] {
            let free = first_free("10.42.0.0/22", 24, &taken).unwrap();
            assert_eq!(free, expected);
            taken.insert(free);
        }
        assert_eq!(first_free("10.42.0.0/22", 24, &taken), None);
        taken.remove("10.42.1.0/24");
        assert_eq!(first_free("10.42.0.0/22", 24, &taken).as_deref(), Some("10.42.1.0/24"));
        for nonsense in ["", "10.42.0.0", "10.42.0.0/25", "x/16"] {
            assert_eq!(first_free(nonsense, 24, &BTreeSet::new()), None, "{nonsense}");
        }
    }
}
