//! `kube-public/cluster-info`: where the cluster is and who signs its certificates, for machines that want to join and
//! know nothing yet. Everybody may read it, as in clusters that kubeadm makes.

use super::{RBAC, Server};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use knarr_api::Status;
use serde_json::{Value, json};
use std::net::SocketAddr;

const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
const ROLE: &str = "knarr:cluster-info";

impl Server {
    /// Makes the ConfigMap what it must be, and lets everybody read it.
    pub(super) async fn cluster_info(&self, advertised: SocketAddr, ca_pem: &str) -> Result<(), Status> {
        let role = self.row(RBAC, "v1", "roles")?;
        let binding = self.row(RBAC, "v1", "rolebindings")?;
        let maps = self.row("", "v1", "configmaps")?;
        let info = self.put(&maps, NAMESPACE, object(advertised, ca_pem));
        let role = self.ensure(&role, NAMESPACE, readers());
        let binding = self.ensure(&binding, NAMESPACE, everybody());
        tokio::try_join!(info, role, binding).map(drop)
    }
}

fn object(advertised: SocketAddr, ca_pem: &str) -> Value {
    let ca = STANDARD.encode(ca_pem);
    let kubeconfig = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: \"\"
  cluster:
    server: https://{advertised}
    certificate-authority-data: {ca}
"
    );
    json!({"metadata": {"name": NAME}, "data": {"kubeconfig": kubeconfig}})
}

fn readers() -> Value {
    let rule =
        json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [NAME], "verbs": ["get"]});
    json!({"metadata": {"name": ROLE}, "rules": [rule]})
}

fn everybody() -> Value {
    let subject = json!({"apiGroup": RBAC, "kind": "User", "name": "system:anonymous"});
    json!({
        "metadata": {"name": ROLE}, "subjects": [subject],
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": ROLE},
    })
}
