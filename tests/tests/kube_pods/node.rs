//! A started node with the newest kubectl of this machine, and the questions that tests ask of its pods.

use knarr_tests::bins::Said;
use knarr_tests::cluster::{Cluster, kubectls};
use knarr_tests::eventually::eventually;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct Node {
    cluster: Cluster,
    kubectl: PathBuf,
}

impl Node {
    /// `None` without kubectl.
    pub(crate) fn start() -> Option<Node> {
        let kubectl = kubectls().pop()?;
        Some(Node { cluster: Cluster::start(), kubectl })
    }

    /// The same in a cluster that has room for more nodes.
    pub(crate) fn start_for_many_nodes() -> Option<Node> {
        let kubectl = kubectls().pop()?;
        Some(Node { cluster: Cluster::start_for_many_nodes(), kubectl })
    }

    /// The same with everything below `base`, and with further settings of the kubelet half.
    pub(crate) fn start_in(base: &std::path::Path, kubelet: &str) -> Option<Node> {
        let kubectl = kubectls().pop()?;
        Some(Node { cluster: Cluster::start_in(base, kubelet), kubectl })
    }

    pub(crate) fn cluster_cidr(&self) -> &str {
        self.cluster.cluster_cidr()
    }

    pub(crate) fn k(&self, arguments: &[&str]) -> Said {
        self.cluster.kubectl(&self.kubectl, arguments)
    }

    /// A kubectl that goes on until it is killed; what it says is in `log`.
    pub(crate) fn background(&self, arguments: &[&str], log: &Path) -> Child {
        let log = std::fs::File::create(log).expect("a log");
        let mut command = self.cluster.kubectl_command(&self.kubectl);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        command.spawn().expect("kubectl")
    }

    /// Runs one of our own commands on this node's directories.
    pub(crate) fn knarr(&self, arguments: &[&str]) -> Said {
        self.cluster.knarr(arguments)
    }

    pub(crate) fn kubectl_path(&self) -> &std::path::Path {
        &self.kubectl
    }

    /// Stops the agent and the control plane, and starts them again; pods go on.
    pub(crate) fn restart(&mut self) {
        self.cluster.stop();
        self.cluster.up(&[]);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.cluster.path(name)
    }

    pub(crate) fn image(&self, name: &str) -> String {
        self.cluster.image(name)
    }

    pub(crate) fn busybox(&self) -> String {
        self.image("busybox:1")
    }

    /// Creates a pod, once its namespace has its service account.
    pub(crate) fn pod(&self, name: &str, spec: Value) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec,
            "metadata": {"name": name, "labels": {"app": name}}});
        let file = self.cluster.manifest(&format!("{name}.json"), &pod.to_string());
        self.eventually(&format!("{name} is created"), || {
            let said = self.k(&["create", "-f", &file]);
            if said.code != 0 && said.err.to_lowercase().contains("service account") {
                return Err(said.err);
            }
            said.ok();
            Ok(())
        });
    }

    pub(crate) fn get(&self, name: &str) -> Value {
        let said = self.k(&["get", "pod", name, "-o", "json", "--ignore-not-found"]).ok();
        serde_json::from_str(&said).unwrap_or_default()
    }

    /// The pod, once it is as wanted.
    pub(crate) fn when(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{name}: {what}"), PATIENCE, || {
            let pod = self.get(name);
            if wanted(&pod) { Ok(pod) } else { Err(format!("{:#}", pod["status"])) }
        })
    }

    pub(crate) fn ready(&self, name: &str) -> Value {
        self.when(name, "it is ready", |pod| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        })
    }

    /// What a pod says, once that is as wanted: it may be ready before it has said anything.
    pub(crate) fn says(&self, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        eventually(&format!("{name}: its log"), PATIENCE, || {
            let said = self.k(&["logs", name]);
            if said.code == 0 && wanted(&said.out) { Ok(said.out) } else { Err(format!("{said:?}")) }
        })
    }

    pub(crate) fn gone(&self, name: &str) {
        eventually(&format!("{name} is gone"), PATIENCE, || {
            let pod = self.get(name);
            if pod.is_null() { Ok(()) } else { Err(format!("{:#}", pod["status"])) }
        });
    }

    /// Waits for an event about a pod.
    pub(crate) fn event(&self, pod: &str, reason: &str, text: &str) {
        let selector = format!("involvedObject.name={pod},reason={reason}");
        eventually(&format!("{pod}: event {reason}"), PATIENCE, || {
            let events = self.k(&["get", "events", "--field-selector", &selector, "-o", "json"]).ok();
            let events: Value = serde_json::from_str(&events).unwrap_or_default();
            let found = events["items"].as_array().cloned().unwrap_or_default();
            let fits = |event: &Value| event["message"].as_str().is_some_and(|said| said.contains(text));
            if found.iter().any(fits) { Ok(()) } else { Err(format!("{found:#?}")) }
        });
    }

    pub(crate) fn eventually<T>(&self, what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
        eventually(what, PATIENCE, attempt)
    }
}

/// `state.terminated` of a container's status.
pub(crate) fn terminated(status: &Value) -> &Value {
    &status["state"]["terminated"]
}

/// `state.waiting` of a container's status.
pub(crate) fn waiting(status: &Value) -> &Value {
    &status["state"]["waiting"]
}
