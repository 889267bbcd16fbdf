//! What an agent may write, beyond what roles can say: its own node, its own lease, the pods it runs.

use super::{Operation, Write};
use crate::authn::NODES;
use crate::registry::fields;
use crate::server::Server;
use knarr_api::{Status, meta};
use serde_json::Value;

/// Labels below this are for administrators: an agent cannot make itself a better node.
const RESTRICTED: &str = "node-restriction.kubernetes.io/";

pub(super) async fn check(server: &Server, write: Write<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = write.user.name.strip_prefix("system:node:").filter(|_| write.user.is_in(NODES)) else {
        return Ok(());
    };
    let why = match (&*write.resource.group, &*write.resource.plural) {
        ("", "nodes") => node_fault(node, write, object),
        ("", "pods") if write.subresource == "eviction" => server.eviction_fault(node, write).await?,
        ("", "pods") => pod_fault(node, write, object),
        ("coordination.k8s.io", "leases") => lease_fault(node, write),
        ("storage.k8s.io", "csinodes") if write.name != node => {
            Some("can only access CSINode with the same name as the requesting node".to_owned())
        }
        ("", "persistentvolumes") => volume_fault(node, write, object),
        ("", "serviceaccounts") => return server.check_token_of_node(node, write, object).await,
        _ => None,
    };
    why.map_or(Ok(()), |why| Err(write.forbidden(&why)))
}

fn node_fault(node: &str, write: Write<'_>, new: &Value) -> Option<String> {
    if write.name != node {
        return Some(format!("node {node:?} is not allowed to modify node {:?}", write.name));
    }
    let Some(old) = write.old.filter(|_| write.operation == Operation::Update) else {
        return (write.operation == Operation::Delete)
            .then(|| format!("node {node:?} is not allowed to delete itself"));
    };
    if write.subresource.is_empty() && fields::list(old, "/spec/taints") != fields::list(new, "/spec/taints")
    {
        return Some(format!("node {node:?} is not allowed to modify taints"));
    }
    let restricted = |object: &Value| -> Vec<(String, Value)> {
        let labels = meta::labels(object).into_iter().flatten();
        labels
            .filter(|(key, _)| key.contains(RESTRICTED))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let (before, after) = (restricted(old), restricted(new));
    let changed =
        after.iter().chain(&before).find(|label| !(before.contains(label) && after.contains(label)));
    changed.map(|(key, _)| format!("is not allowed to modify labels: {key}"))
}

fn pod_fault(node: &str, write: Write<'_>, pod: &Value) -> Option<String> {
    let bound = fields::text(write.old.unwrap_or(pod), "/spec/nodeName");
    match write.operation {
        Operation::Create if write.subresource.is_empty() && !super::is_mirror(pod) => Some(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
        )),
        _ if bound == node => None,
        Operation::Create => {
            Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"))
        }
        Operation::Update => Some(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        )),
        Operation::Delete | Operation::Connect => {
            Some(format!("node {node:?} can only delete pods with spec.nodeName set to itself"))
        }
    }
}

/// Of a volume that lies on it a node may change the metadata: the finalizer that waits for the directory to go.
fn volume_fault(node: &str, write: Write<'_>, volume: &Value) -> Option<String> {
    let old = write.old?;
    let terms = fields::list(old, "/spec/nodeAffinity/required/nodeSelectorTerms").iter();
    let mut expressions = terms.flat_map(|term| fields::list(term, "/matchExpressions"));
    let own = expressions.any(|one| fields::list(one, "/values").iter().any(|value| value == node));
    if own && old.get("spec") == volume.get("spec") {
        return None;
    }
    Some(format!("node {node:?} can only change the metadata of volumes that lie on it"))
}

fn lease_fault(node: &str, write: Write<'_>) -> Option<String> {
    const NAMESPACE: &str = "kube-node-lease";
    if write.namespace != NAMESPACE {
        return Some(format!("can only access leases in the {NAMESPACE:?} system namespace"));
    }
    (write.name != node)
        .then(|| "can only access node lease with the same name as the requesting node".to_owned())
}

impl Server {
    /// A node evicts what it runs.
    async fn eviction_fault(&self, node: &str, write: Write<'_>) -> Result<Option<String>, Status> {
        let found = self.object_at(&format!("core/pods/{}/{}", write.namespace, write.name)).await?;
        let own = found.is_none_or(|pod| fields::text(&pod, "/spec/nodeName") == node);
        Ok((!own).then(|| format!("node {node:?} can only evict pods with spec.nodeName set to itself")))
    }

    /// A token must be bound to a pod that this node runs as that account.
    async fn check_token_of_node(&self, node: &str, write: Write<'_>, request: &Value) -> Result<(), Status> {
        if write.subresource != "token" {
            return Ok(());
        }
        let bound = &request["spec"]["boundObjectRef"];
        if bound["kind"] != "Pod" {
            return Err(write.forbidden("node requested token not bound to a pod"));
        }
        let pod = fields::text(bound, "/name");
        let found = self.object_at(&format!("core/pods/{}/{pod}", write.namespace)).await?;
        if found.is_some_and(|pod| fields::text(&pod, "/spec/nodeName") == node) {
            return Ok(());
        }
        Err(write.forbidden("node requested token bound to a pod scheduled on a different node"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::User;
    use crate::registry::Table;
    use serde_json::json;

    #[test]
    fn a_node_writes_what_is_its_own() {
        let (table, user) = (Table::builtin(), User::node("a"));
        let (nodes, pods) = (table.find("", "v1", "nodes").unwrap(), table.find("", "v1", "pods").unwrap());
        let write = |resource, operation, name| Write {
            user: &user,
            operation,
            resource,
            sent: None,
            subresource: "",
            kind: None,
            namespace: "n",
            name,
            prefix: "",
            old: None,
            dry_run: false,
            options: None,
        };
        let fault = node_fault("a", write(&nodes, Operation::Update, "b"), &json!({}));
        assert_eq!(fault.unwrap(), r#"node "a" is not allowed to modify node "b""#);
        assert_eq!(node_fault("a", write(&nodes, Operation::Create, "a"), &json!({})), None);
        let labelled = json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}});
        let update = Write { old: Some(&Value::Null), ..write(&nodes, Operation::Update, "a") };
        assert!(node_fault("a", update, &labelled).unwrap().contains("node-restriction.kubernetes.io/x"));
        let bound = |node: &str| json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}, "spec": {"nodeName": node}});
        assert_eq!(pod_fault("a", write(&pods, Operation::Create, "p"), &bound("a")), None);
        assert!(pod_fault("a", write(&pods, Operation::Create, "p"), &bound("b")).is_some());
        assert!(
            pod_fault("a", write(&pods, Operation::Create, "p"), &json!({})).unwrap().contains("mirror pods")
        );
    }
}
