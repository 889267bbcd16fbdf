//! Objects that others hold, mirror or keep up: claims in use, Endpoints written by hand, the first roles; and what
//! kubectl shows of a warning. One control plane, no node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers outside #[test] may panic: that is a failed test

use knarr_tests::bins::Said;
use knarr_tests::cluster::kubectls;
use knarr_tests::eventually::eventually;
use knarr_tests::server::Server;
use knarr_tests::skip::skip;
use std::path::{Path, PathBuf};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

/// A control plane and the newest kubectl.
struct Lab {
    server: Server,
    kubectl: PathBuf,
}

impl Lab {
    fn new(test: &str) -> Option<Lab> {
        let Some(kubectl) = kubectls().pop() else {
            skip(test, "no kubectl on this machine");
            return None;
        };
        Some(Lab { server: Server::start(), kubectl })
    }

    fn run(&self, arguments: &str) -> Said {
        let kubectl: &Path = &self.kubectl;
        self.server.kubectl(kubectl, &arguments.split(' ').collect::<Vec<_>>())
    }

    fn create(&self, name: &str, text: &str) -> Said {
        self.run(&format!("create -f {}", self.server.file(name, text)))
    }

    /// Waits until a command prints what is wanted.
    fn until(&self, what: &str, arguments: &str, holds: impl Fn(&str) -> bool) {
        eventually(what, PATIENCE, || {
            let said = self.run(arguments);
            let text = format!("{}{}", said.out, said.err);
            if holds(&text) { Ok(()) } else { Err(text) }
        });
    }
}

#[test]
fn a_claim_outlives_its_deletion_while_a_pod_has_it() {
    let Some(lab) = Lab::new("claim_in_use") else { return };
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data}\nspec:\n  \
                 accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 1Mi}}\n---\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: user}\nspec:\n  nodeName: nowhere\n  \
               containers: [{name: c, image: 'example.com/i:1'}]\n  \
               volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]\n";
    // Pods of nodes that nobody knows are removed at once.
    lab.create("node.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: nowhere}\n").ok();
    lab.until("the node to be known", "get node nowhere -o jsonpath={.spec.podCIDR}", |text| {
        text.contains('/')
    });
    lab.until("the service account of pods", "get serviceaccount default -o name", |text| {
        text.contains("serviceaccount/default")
    });
    lab.create("claim.yaml", &format!("{claim}{pod}")).ok();
    lab.run("delete pvc data --wait=false").ok();
    let shown = lab.run("get pvc data --no-headers").ok();
    assert!(shown.contains("Terminating"), "{shown}");
    lab.run("delete pod user --force --grace-period=0").ok();
    lab.until("the claim to go", "get pvc data", |text| text.contains("NotFound"));
}

#[test]
fn a_namespace_says_what_keeps_it() {
    let Some(lab) = Lab::new("namespace_kept") else { return };
    let held = "apiVersion: v1\nkind: Namespace\nmetadata: {name: held}\n---\napiVersion: v1\nkind: ConfigMap\n\
                metadata: {name: m, namespace: held, finalizers: [example.com/hold]}\n";
    lab.create("held.yaml", held).ok();
    lab.run("delete namespace held --wait=false").ok();
    lab.until("the reason", "get namespace held -o jsonpath={.status.conditions[*].message}", |text| {
        text.contains("Some resources are remaining: configmaps. has 1 resource instances")
            && text.contains("has finalizers remaining: example.com/hold in 1 resource instances")
    });
    lab.run(r#"patch configmap m -n held --type=merge -p {"metadata":{"finalizers":null}}"#).ok();
    lab.until("the namespace to go", "get namespace held", |text| text.contains("NotFound"));
}

#[test]
fn endpoints_written_by_hand_become_slices() {
    let Some(lab) = Lab::new("endpoint_mirror") else { return };
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{port: 5432}]}\n---\n\
                apiVersion: v1\nkind: Endpoints\nmetadata: {name: db}\nsubsets:\n\
                - {addresses: [{ip: 192.0.2.7}], ports: [{port: 5432}]}\n";
    let created = lab.create("db.yaml", text);
    let warned = "Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";
    assert!(created.err.contains(warned), "{}", created.err);
    created.ok();
    let slices = "get endpointslices -l kubernetes.io/service-name=db -o jsonpath={.items[*].endpoints[*].addresses[*]}";
    lab.until("a slice", slices, |text| text == "192.0.2.7");
    lab.run("delete endpoints db").ok();
    lab.until("no slice", slices, str::is_empty);
}

#[test]
fn the_first_roles_are_completed_and_never_cut() {
    let Some(mut lab) = Lab::new("role_upkeep") else { return };
    let rules =
        |lab: &Lab, role: &str| lab.run(&format!("get clusterrole {role} -o jsonpath={{.rules}}")).ok();
    let whole = rules(&lab, "system:discovery");
    let other =
        r#"[{"op":"replace","path":"/rules","value":[{"verbs":["get"],"nonResourceURLs":["/mine"]}]}]"#;
    lab.run(&format!("patch clusterrole system:discovery --type=json -p {other}")).ok();
    lab.run(&format!("patch clusterrole system:basic-user --type=json -p {other}")).ok();
    lab.run("annotate --overwrite clusterrole system:basic-user rbac.authorization.kubernetes.io/autoupdate=false")
        .ok();
    lab.server.kill();
    lab.server.again(&[]);
    let completed = rules(&lab, "system:discovery");
    assert!(completed.contains("/mine") && completed.len() > whole.len(), "{completed}");
    let left = rules(&lab, "system:basic-user");
    assert!(left.contains("/mine") && !left.contains("selfsubjectaccessreviews"), "{left}");
}

#[test]
fn kubectl_shows_warnings_and_faults_as_kubernetes_words_them() {
    let Some(lab) = Lab::new("kubectl_warnings") else { return };
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 0\n  \
                      selector: {matchLabels: {a: b}}\n  template:\n    metadata: {labels: {a: b}}\n    \
                      spec: {containers: [{name: c, image: 'example.com/i:1', env: [{name: A}, {name: A}]}]}\n";
    let said = lab.create("web.yaml", deployment);
    let warned = "Warning: spec.template.spec.containers[0].env[1]: hides previous definition of \"A\", which may be dropped when using apply";
    assert!(said.err.contains(warned), "{}", said.err);
    said.ok();
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec:\n  podSelector: {}\n  \
                  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]\n";
    let refused = lab.create("policy.yaml", policy).failed();
    let words = "The NetworkPolicy \"p\" is invalid: spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.0/33\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    assert!(refused.contains(words), "{refused}");
}
