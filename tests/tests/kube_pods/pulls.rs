//! Images of registries that ask who is there.

use crate::node::{Node, waiting};
use crate::simple;
use knarr_tests::bins::run;
use knarr_tests::registry::Registry;
use serde_json::{Value, json};
use std::process::Command;

/// A registry that asks for a password: without one, with the pod's, and with that of its service account.
pub(crate) fn pull_secrets_open_registries(node: &Node) {
    let registry = Registry::with_login(&node.path("private"));
    let server = format!("127.0.0.1:{}", registry.port);
    let (from, to) = (format!("docker://{}", node.busybox()), format!("docker://{server}/private:1"));
    let insecure = ["--src-tls-verify=false", "--dest-tls-verify=false", "--dest-creds=user:secret"];
    run(Command::new("skopeo").arg("copy").args(insecure).args([&from, &to])).ok();
    let private = |secrets: Value, account: &str| {
        let mut spec = simple(node, "sleep 1000");
        spec["containers"][0]["image"] = json!(format!("{server}/private:1"));
        spec["containers"][0]["imagePullPolicy"] = json!("Always");
        spec["imagePullSecrets"] = secrets;
        spec["serviceAccountName"] = json!(account);
        spec
    };
    node.pod("stranger", private(json!([]), "default"));
    node.event("stranger", "Failed", "Failed to pull image");
    let pod = node.when("stranger", "its pull is refused", |pod| {
        let waiting = waiting(&pod["status"]["containerStatuses"][0]);
        ["ErrImagePull", "ImagePullBackOff"].iter().any(|reason| waiting["reason"] == *reason)
    });
    let message = waiting(&pod["status"]["containerStatuses"][0])["message"].to_string().to_lowercase();
    assert!(message.contains("may require authorization"), "{message}");
    let words = ["create", "secret", "docker-registry", "entry", "--docker-username=user"];
    let rest = [&format!("--docker-server={server}"), "--docker-password=secret"];
    node.k(&[&words[..], &rest[..]].concat()).ok();
    node.pod("invited", private(json!([{"name": "entry"}]), "default"));
    node.ready("invited");
    node.k(&["create", "serviceaccount", "member"]).ok();
    let patch = json!({"imagePullSecrets": [{"name": "entry"}]}).to_string();
    node.k(&["patch", "serviceaccount", "member", "-p", &patch]).ok();
    node.pod("member", private(json!([]), "member"));
    node.ready("member");
    node.k(&["delete", "pod", "stranger", "invited", "member", "--wait=false"]).ok();
}
