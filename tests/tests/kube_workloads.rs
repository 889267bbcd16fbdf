//! Workloads and their controllers with unmodified kubectl: what people run on a cluster after the first day.

use knarr_tests::bins::Said;
use knarr_tests::cluster::{Cluster, kubectls};
use knarr_tests::eventually::eventually;
use knarr_tests::skip::skip;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(180);

/// One cluster and one kubectl.
struct Lab<'a> {
    cluster: &'a Cluster,
    kubectl: &'a std::path::Path,
}

impl Lab<'_> {
    fn k(&self, arguments: &[&str]) -> Said {
        self.cluster.kubectl(self.kubectl, arguments)
    }

    fn apply(&self, name: &str, text: &str) {
        let path = self.cluster.manifest(name, text);
        self.k(&["apply", "-f", &path]).ok();
    }

    /// One field of one object.
    fn get(&self, object: &str, path: &str) -> String {
        self.k(&["get", object, "-o", &format!("jsonpath={path}")]).out
    }

    /// A kubectl command that waits; tried again while the machine is slow.
    fn awaits(&self, arguments: &[&str]) {
        eventually(&arguments.join(" "), PATIENCE, || {
            let said = self.k(&[arguments, &["--timeout=20s"]].concat());
            if said.code == 0 { Ok(()) } else { Err(format!("{said:?}")) }
        });
    }

    fn until(&self, what: &str, object: &str, path: &str, wanted: &str) {
        eventually(what, PATIENCE, || {
            let text = self.get(object, path);
            if text == wanted { Ok(()) } else { Err(format!("{object} {path} is {text:?}, not {wanted:?}")) }
        });
    }
}

const SLEEPER: &str = "containers: [{name: c, image: 127.0.0.1:5000/hello:1, command: [sleep, '1000000']}]";

/// Ordered pods with claims of their own, which outlive them; updated from the last to the first.
fn stateful_set_with_claims(lab: &Lab<'_>) {
    lab.apply(
        "db.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}\n\
             ---\napiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: db}\nspec:\n  serviceName: db\n  replicas: 2\n  \
             selector: {matchLabels: {app: db}}\n  template:\n    metadata: {labels: {app: db}}\n    \
             spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: 127.0.0.1:5000/hello:1, command: [sleep, '1000000'], \
             volumeMounts: [{name: data, mountPath: /data}]}]}\n  volumeClaimTemplates:\n  - metadata: {name: data}\n    \
             spec: {storageClassName: local-path, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}\n",
    );
    lab.awaits(&["rollout", "status", "statefulset/db"]);
    assert_eq!(lab.get("pvc/data-db-1", "{.status.phase}"), "Bound");
    lab.k(&["exec", "db-1", "--", "sh", "-c", "echo kept > /data/word"]).ok();
    let old = lab.get("pod/db-1", "{.metadata.uid}");
    lab.k(&["set", "env", "statefulset/db", "A=B"]).ok();
    lab.awaits(&["rollout", "status", "statefulset/db"]);
    assert_ne!(lab.get("pod/db-1", "{.metadata.uid}"), old);
    assert_eq!(lab.k(&["exec", "db-1", "--", "cat", "/data/word"]).ok(), "kept\n");
    lab.k(&["rollout", "undo", "statefulset/db"]).ok();
    lab.awaits(&["rollout", "status", "statefulset/db"]);
    assert_eq!(lab.get("pod/db-0", "{.spec.containers[0].env}"), "");
    lab.k(&["scale", "statefulset/db", "--replicas=0"]).ok();
    lab.until("no pods", "statefulset/db", "{.status.replicas}", "0");
    assert_eq!(lab.get("pvc/data-db-0", "{.status.phase}"), "Bound", "claims stay");
    lab.k(&["delete", "statefulset/db", "service/db", "pvc/data-db-0", "pvc/data-db-1"]).ok();
    eventually("no volumes", PATIENCE, || {
        let left = lab.k(&["get", "pv", "-o", "name"]).ok();
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });
}

/// A time that has come starts a job; a job can be started by hand.
fn cron_jobs(lab: &Lab<'_>) {
    lab.apply(
        "cron.yaml",
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: tick}\nspec:\n  schedule: '* * * * *'\n  jobTemplate:\n    spec:\n      \
         template:\n        spec: {restartPolicy: Never, containers: [{name: c, image: 127.0.0.1:5000/hello:1, command: ['true']}]}\n",
    );
    let past = r#"{"status":{"lastScheduleTime":"2020-01-01T00:00:00Z"}}"#;
    lab.k(&["patch", "cronjob/tick", "--subresource=status", "--type=merge", "-p", past]).ok();
    eventually("the job has run", PATIENCE, || {
        let done = lab.get("cronjob/tick", "{.status.lastSuccessfulTime}");
        if done.is_empty() { Err(lab.k(&["describe", "cronjob/tick"]).out) } else { Ok(()) }
    });
    lab.k(&["patch", "cronjob/tick", "-p", r#"{"spec":{"suspend":true}}"#]).ok();
    lab.k(&["create", "job", "by-hand", "--from=cronjob/tick"]).ok();
    lab.awaits(&["wait", "--for=condition=complete", "job/by-hand"]);
    lab.k(&["delete", "cronjob/tick"]).ok();
    eventually("its jobs are gone", PATIENCE, || {
        let left = lab.k(&["get", "jobs,pods", "-o", "name"]).ok();
        if left.trim().is_empty() { Ok(()) } else { Err(left) }
    });
}

/// Roll-out, history, undo, pause, and the budget that a drain must respect.
fn deployments_and_budgets(lab: &Lab<'_>) {
    lab.apply(
        "web.yaml",
        &format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: roll}}\nspec:\n  replicas: 2\n  selector: {{matchLabels: {{app: roll}}}}\n  \
             template:\n    metadata: {{labels: {{app: roll}}}}\n    spec: {{terminationGracePeriodSeconds: 0, {SLEEPER}}}\n\
             ---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: roll}}\nspec: {{minAvailable: 2, selector: {{matchLabels: {{app: roll}}}}}}\n"
        ),
    );
    let rolled = || lab.awaits(&["rollout", "status", "deployment/roll"]);
    rolled();
    lab.k(&["set", "env", "deployment/roll", "A=B"]).ok();
    rolled();
    eventually("two revisions", PATIENCE, || {
        let history = lab.k(&["rollout", "history", "deployment/roll"]).ok();
        let both = ["1         <none>", "2         <none>"].iter().all(|row| history.contains(row));
        if both { Ok(()) } else { Err(history) }
    });
    lab.k(&["rollout", "undo", "deployment/roll"]).ok();
    rolled();
    assert_eq!(lab.get("deployment/roll", "{.spec.template.spec.containers[0].env}"), "");
    let revision = r"{.metadata.annotations.deployment\.kubernetes\.io/revision}";
    lab.until("the third revision", "deployment/roll", revision, "3");
    lab.until("the budget is counted", "pdb/roll", "{.status.currentHealthy}", "2");
    let pod = lab.k(&["get", "pods", "-l", "app=roll", "-o", "jsonpath={.items[0].metadata.name}"]).ok();
    let refused =
        lab.k(&["drain", "node", "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=3s"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(
        refused.err.contains("Cannot evict pod as it would violate the pod's disruption budget."),
        "{refused:?}"
    );
    lab.k(&["delete", "pdb/roll"]).ok();
    lab.k(&["drain", "node", "--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=150s"])
        .ok();
    assert!(lab.k(&["get", "pod", &pod]).failed().contains("not found"));
    let message = "{.items[0].status.conditions[?(@.type=='PodScheduled')].message}";
    eventually("nothing runs on a drained node", PATIENCE, || {
        let text = lab.k(&["get", "pods", "-l", "app=roll", "-o", &format!("jsonpath={message}")]).ok();
        let wanted = "0/1 nodes are available: 1 node(s) were unschedulable. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
        if text == wanted { Ok(()) } else { Err(text) }
    });
    lab.k(&["uncordon", "node"]).ok();
    rolled();
    lab.k(&["delete", "deployment/roll"]).ok();
}

/// A more important pod takes the place of others.
fn preemption(lab: &Lab<'_>) {
    let cpu: u64 = lab.get("node/node", "{.status.allocatable.cpu}").parse().unwrap_or(1);
    let pod = |name: &str, class: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{priorityClassName: {class}, terminationGracePeriodSeconds: 0, containers: [{{name: c, \
             image: 127.0.0.1:5000/hello:1, command: [sleep, '1000000'], resources: {{requests: {{cpu: '{}m'}}}}}}]}}\n",
            cpu * 600
        )
    };
    lab.k(&["create", "priorityclass", "low", "--value=1"]).ok();
    lab.k(&["create", "priorityclass", "high", "--value=1000"]).ok();
    lab.apply("low.yaml", &pod("low", "low"));
    lab.awaits(&["wait", "--for=condition=Ready", "pod/low"]);
    lab.apply("high.yaml", &pod("high", "high"));
    lab.awaits(&["wait", "--for=condition=Ready", "pod/high"]);
    assert!(lab.k(&["get", "pod", "low"]).failed().contains("not found"));
    let events = lab
        .k(&["get", "events", "--field-selector=reason=Preempted", "-o", "jsonpath={.items[0].message}"])
        .ok();
    assert!(events.starts_with("Preempted by pod ") && events.ends_with(" on node node"), "{events}");
    lab.k(&["delete", "pod/high", "priorityclass/low", "priorityclass/high"]).ok();
}

/// A namespace goes with everything in it.
fn namespaces(lab: &Lab<'_>) {
    lab.k(&["create", "namespace", "gone"]).ok();
    lab.k(&["create", "configmap", "c", "-n", "gone"]).ok();
    lab.k(&["create", "deployment", "d", "-n", "gone", &format!("--image={}", lab.cluster.image("hello:1"))])
        .ok();
    lab.awaits(&["rollout", "status", "deployment/d", "-n", "gone"]);
    lab.k(&["delete", "namespace", "gone", "--timeout=150s"]).ok();
    assert!(lab.k(&["get", "namespace", "gone"]).failed().contains("not found"));
}

#[test]
fn workloads_from_a_stateful_set_to_a_drain() {
    let Some(kubectl) = kubectls().pop() else {
        return skip("kube_workloads", "no kubectl on this machine");
    };
    let cluster = Cluster::start();
    let lab = Lab { cluster: &cluster, kubectl: &kubectl };
    stateful_set_with_claims(&lab);
    cron_jobs(&lab);
    deployments_and_budgets(&lab);
    preemption(&lab);
    namespaces(&lab);
}
