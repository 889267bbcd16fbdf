//! Another API server behind ours, as kubectl and the controllers see it: an APIService names its service, and from then on
//! its kinds are there like any other, for as long as it answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers outside #[test] may panic: that is a failed test

#[path = "kube_aggregation/behind.rs"]
mod behind;

use behind::Behind;
use knarr_tests::bins::{self, Said};
use knarr_tests::cluster::kubectls;
use knarr_tests::eventually::eventually;
use knarr_tests::free_port::free_port;
use knarr_tests::server::Server;
use knarr_tests::skip::skip;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);
const SERVICE: &str = "v1.ships.example.com";

struct Lab {
    server: Server,
    kubectl: PathBuf,
    port: u16,
}

impl Lab {
    fn new(kubectl: PathBuf) -> Lab {
        let lab = Lab { server: Server::start(), kubectl, port: free_port() };
        lab.openssl(
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -subj /CN=fleet-ca -days 30",
        );
        lab.openssl("req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=api.fleet.svc");
        std::fs::write(lab.server.path("names"), "subjectAltName=DNS:api.fleet.svc").unwrap();
        lab.openssl("x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out tls.crt -days 30 -extfile names");
        lab
    }

    fn openssl(&self, arguments: &str) {
        let directory = self.server.path("");
        bins::run(Command::new("openssl").args(arguments.split(' ')).current_dir(directory)).ok();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.server.path(name)).unwrap()
    }

    /// Starts the server behind; it believes whom the cluster tells it to believe.
    fn behind(&self) -> Behind {
        let path = "jsonpath={.data.requestheader-client-ca-file}";
        let config = "get configmap -n kube-system extension-apiserver-authentication -o";
        let clients = self.run(&format!("{config} {path}")).ok();
        Behind::start(self.port, &self.read("tls.crt"), &self.read("tls.key"), &clients)
    }

    fn run(&self, arguments: &str) -> Said {
        self.server.kubectl(&self.kubectl, &arguments.split(' ').collect::<Vec<_>>())
    }

    fn create(&self, name: &str, text: &str) {
        self.run(&format!("create -f {}", self.server.file(name, text))).ok();
    }

    /// Waits until a command prints what is wanted.
    fn until(&self, what: &str, arguments: &str, holds: impl Fn(&str) -> bool) {
        eventually(what, PATIENCE, || {
            let said = self.run(arguments);
            let text = format!("{}{}", said.out, said.err);
            if holds(&text) { Ok(()) } else { Err(text) }
        });
    }

    fn until_condition(&self, wanted: &str) {
        let condition = "jsonpath={.status.conditions[0].status}({.status.conditions[0].reason})";
        self.until(wanted, &format!("get apiservice {SERVICE} -o {condition}"), |text| text == wanted);
    }

    /// Says that the server behind serves a group version.
    fn claim(&self, group: &str, version: &str) {
        let encoded = bins::run(Command::new("base64").args(["-w0"]).arg(self.server.path("ca.crt"))).ok();
        self.create(
            "service.yaml",
            &format!(
                "apiVersion: apiregistration.k8s.io/v1\nkind: APIService\nmetadata: {{name: {version}.{group}}}\nspec:\n  \
                 group: {group}\n  version: {version}\n  groupPriorityMinimum: 2000\n  versionPriority: 20\n  \
                 service: {{namespace: fleet, name: api}}\n  caBundle: {encoded}\n"
            ),
        );
    }

    fn register(&self) {
        self.claim("ships.example.com", "v1");
        self.until_condition("False(ServiceNotFound)");
        self.create_service();
    }

    fn create_service(&self) {
        self.create(
            "api.yaml",
            &format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: fleet}}\n---\napiVersion: v1\nkind: Service\n\
                 metadata: {{name: api, namespace: fleet}}\nspec: {{ports: [{{port: 443, targetPort: {0}}}]}}\n---\n\
                 apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata:\n  name: api\n  \
                 namespace: fleet\n  labels: {{kubernetes.io/service-name: api}}\nports: [{{name: '', port: {0}}}]\n\
                 endpoints: [{{addresses: [127.0.0.1]}}]\n",
                self.port
            ),
        );
    }

    fn boat(&self, name: &str, more: &str) -> String {
        let text = format!(
            "apiVersion: ships.example.com/v1\nkind: Boat\nmetadata:\n  name: {name}\n{more}spec: {{sails: 2}}\n"
        );
        self.server.file(&format!("{name}.yaml"), &text)
    }
}

#[test]
fn another_server_serves_a_group() {
    let all = kubectls();
    let Some(kubectl) = all.last().cloned() else { return skip("aggregation", "no kubectl on this machine") };
    let lab = Lab::new(kubectl);
    lab.register();
    lab.until_condition("False(FailedDiscoveryCheck)");
    let refused = lab.run("get --raw /apis/ships.example.com/v1").failed();
    assert!(refused.contains("currently unable to handle the request"), "{refused}");
    let behind = lab.behind();
    lab.until_condition("True(Passed)");
    it_is_told_like_our_own(&lab, &all);
    it_is_told_who_asks(&lab);
    it_is_watched(&lab);
    what_belongs_to_others_goes_with_them(&lab);
    a_namespace_waits_for_it(&lab, behind);
    lab.run(&format!("delete apiservice {SERVICE}")).ok();
    lab.until("it is gone", "get --raw /apis/ships.example.com", |text| text.contains("NotFound"));
}

/// kubectl of every age finds, explains and prints its kinds.
fn it_is_told_like_our_own(lab: &Lab, kubectls: &[PathBuf]) {
    let shown = lab.run(&format!("get apiservice {SERVICE} --no-headers")).ok();
    assert!(shown.contains("fleet/api   True"), "{shown}");
    lab.run(&format!("create -f {}", lab.boat("first", ""))).ok();
    for kubectl in kubectls {
        let run = |arguments: &[&str]| lab.server.kubectl(kubectl, arguments).ok();
        assert!(run(&["api-resources"]).contains("ships.example.com/v1"), "{}", kubectl.display());
        assert!(run(&["explain", "boats"]).contains("carries what is loaded"), "{}", kubectl.display());
        assert!(run(&["explain", "bt.spec"]).contains("How many sails it has"), "{}", kubectl.display());
        assert!(run(&["get", "bt", "--no-headers"]).contains("first"), "{}", kubectl.display());
    }
    let refused = lab.run("get boat second").failed();
    assert!(refused.contains("boats.ships.example.com \"second\" not found"), "{refused}");
}

/// Our credentials stay here; the user goes on, and what they may do is asked here first.
fn it_is_told_who_asks(lab: &Lab) {
    let refused = lab.run("get boats --as amy").failed();
    assert!(
        refused.contains("cannot list resource \"boats\" in API group \"ships.example.com\""),
        "{refused}"
    );
    lab.run("create role sailor --verb=create,get,list --resource=boats.ships.example.com").ok();
    lab.run("create rolebinding sailor --role=sailor --user=amy").ok();
    let file = lab.boat("hers", "");
    lab.until("amy may", "auth can-i create boats --as amy", |text| text.contains("yes"));
    let said = lab.run(&format!("create -f {file} --as amy --as-group sailors --validate=false")).ok();
    assert!(said.contains("boat.ships.example.com/hers created"), "{said}");
    let told =
        lab.run("get boat hers -o jsonpath={.status.user}|{.status.groups}|{.status.authorization}").ok();
    assert_eq!(told, "amy|sailors,system:authenticated|");
}

fn it_is_watched(lab: &Lab) {
    let wait = lab
        .server
        .kubectl(&lab.kubectl, &["wait", "--for=jsonpath={.spec.sails}=2", "boat/first", "--timeout=60s"]);
    assert!(wait.ok().contains("condition met"));
}

/// The garbage collector and quotas know its kinds.
fn what_belongs_to_others_goes_with_them(lab: &Lab) {
    lab.run("create configmap owner").ok();
    let uid = lab.run("get configmap owner -o jsonpath={.metadata.uid}").ok();
    let owner =
        format!("  ownerReferences: [{{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]\n");
    lab.run(&format!("create -f {}", lab.boat("owned", &owner))).ok();
    lab.run("create quota boats --hard=count/boats.ships.example.com=5").ok();
    lab.until("it is counted", "get quota boats -o jsonpath={.status.used}", |text| text.contains(":\"3\""));
    lab.run("delete configmap owner").ok();
    lab.until("it is gone", "get boats", |text| !text.contains("owned"));
}

/// Nobody knows what is in a namespace as long as one server does not say.
fn a_namespace_waits_for_it(lab: &Lab, behind: Behind) {
    lab.run("create namespace doomed").ok();
    lab.run(&format!("create -n doomed -f {}", lab.boat("lost", ""))).ok();
    drop(behind);
    lab.until_condition("False(FailedDiscoveryCheck)");
    lab.run("delete namespace doomed --wait=false").ok();
    lab.until("it says why", "get namespace doomed -o jsonpath={.status.conditions[0]}", |text| {
        text.contains("stale GroupVersion discovery: ships.example.com/v1")
            && text.contains("DiscoveryFailed")
    });
    let _again = lab.behind();
    lab.until("it is gone", "get namespace doomed", |text| text.contains("NotFound"));
}

/// As with what people install to measure usage: it serves the group from then on, and ours does again when it is gone.
#[test]
fn another_server_measures_usage() {
    const USAGE: &str = "v1beta1.metrics.k8s.io";
    const NODES: &str = "get --raw /apis/metrics.k8s.io/v1beta1/nodes";
    let all = kubectls();
    let Some(kubectl) = all.last().cloned() else { return skip("aggregation", "no kubectl on this machine") };
    let lab = Lab::new(kubectl);
    let resources = "get --raw /apis/metrics.k8s.io/v1beta1";
    assert!(lab.run(resources).ok().contains("PodMetrics"));
    assert!(!lab.run(NODES).ok().contains("measured"));
    lab.create_service();
    let _behind = lab.behind();
    lab.claim("metrics.k8s.io", "v1beta1");
    lab.until("it answers", NODES, |text| text.contains("measured"));
    lab.run(&format!("wait --for=condition=Available apiservice/{USAGE} --timeout=60s")).ok();
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: measured}\nstatus: {allocatable: {cpu: 14, memory: 14Gi}}\n";
    lab.create("node.yaml", node);
    for kubectl in &all {
        let run = |arguments: &[&str]| lab.server.kubectl(kubectl, arguments).ok();
        let shown = run(&["top", "nodes", "--no-headers"]);
        assert!(shown.contains("measured") && shown.contains("7000m") && shown.contains("50%"), "{shown}");
        let kinds = run(&["api-resources", "--api-group=metrics.k8s.io", "--no-headers"]);
        assert!(kinds.contains("NodeMetrics") && !kinds.contains("PodMetrics"), "{kinds}");
    }
    lab.run(&format!("delete apiservice {USAGE}")).ok();
    lab.until("ours answers again", NODES, |text| {
        text.contains("NodeMetricsList") && !text.contains("measured")
    });
    assert!(lab.run(resources).ok().contains("PodMetrics"));
}

/// As with what people install to scale by queues and by requests: autoscalers ask it.
#[test]
fn another_server_has_metrics_to_scale_by() {
    let Some(kubectl) = kubectls().last().cloned() else {
        return skip("aggregation", "no kubectl on this machine");
    };
    let lab = Lab::new(kubectl);
    lab.run("create deployment web --image=example.com/web:1").ok();
    let metrics = [
        "{type: External, external: {metric: {name: queue, selector: {matchLabels: {of: web}}}, target: {type: AverageValue, averageValue: 10}}}",
        "{type: Object, object: {metric: {name: hits}, describedObject: {apiVersion: v1, kind: Service, name: front}, target: {type: AverageValue, averageValue: 10}}}",
    ];
    let text = format!(
        "apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{name: web}}\nspec:\n  \
         scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: web}}\n  maxReplicas: 9\n  metrics: [{}]\n",
        metrics.join(", ")
    );
    lab.create("hpa.yaml", &text);
    for (reason, why) in [
        (
            "FailedGetExternalMetric",
            "could not find the requested resource (get queue.external.metrics.k8s.io)",
        ),
        ("FailedGetObjectMetric", "no custom metrics API (custom.metrics.k8s.io) registered"),
    ] {
        let events = format!("get events --field-selector reason={reason} -o jsonpath={{.items[*].message}}");
        lab.until("nobody has it", &events, |text| text.contains(why));
    }
    lab.create_service();
    let _behind = lab.behind();
    let size = "get deployment web -o jsonpath={.spec.replicas}";
    lab.claim("external.metrics.k8s.io", "v1beta1");
    lab.until("it grows by the queue", size, |text| text == "3");
    lab.claim("custom.metrics.k8s.io", "v1beta2");
    lab.until("it grows by the hits", size, |text| text == "5");
    lab.until("it is told", "get hpa --no-headers", |text| text.contains("6/10 (avg), 10/10 (avg)"));
}

/// What we serve stays ours as long as its APIService says so, and goes to whoever takes that word away.
#[test]
fn a_group_of_ours_is_taken_over_by_taking_its_label_away() {
    const LABEL: &str = "kube-aggregator.kubernetes.io/automanaged";
    let Some(kubectl) = kubectls().last().cloned() else {
        return skip("aggregation", "no kubectl on this machine");
    };
    let mut lab = Lab::new(kubectl);
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: rafts.sea.example.com}\n\
        spec:\n  group: sea.example.com\n  scope: Namespaced\n  names: {plural: rafts, kind: Raft}\n  versions:\n  \
        - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}\n";
    lab.create("rafts.yaml", definition);
    let service = "v1.sea.example.com";
    let shown = format!("get apiservice {service} --no-headers");
    lab.until("it is registered", &shown, |text| text.contains("Local   True"));
    let taken = r#"{"spec":{"service":{"namespace":"sea","name":"api"},"insecureSkipTLSVerify":true}}"#;
    let take = format!("patch apiservice {service} --type=merge -p {taken}");
    lab.run(&take).ok();
    lab.until("it is ours again", &shown, |text| text.contains("Local   True"));
    lab.run(&format!("label apiservice {service} {LABEL}-")).ok();
    lab.run(&take).ok();
    lab.until("nobody serves it", &shown, |text| text.contains("sea/api   False (ServiceNotFound)"));
    let rafts = "get --raw /apis/sea.example.com/v1/rafts";
    lab.until("it is passed on", rafts, |text| text.contains("unable to handle the request"));
    lab.run(&format!("delete apiservice {service}")).ok();
    lab.until("it is ours again", "get rafts", |text| text.contains("No resources found"));
    // Those of our own groups are looked after when the server starts.
    lab.run("patch apiservice v1.batch --type=merge -p {\"spec\":{\"versionPriority\":3}}").ok();
    lab.server.kill();
    lab.server.again(&[]);
    let priority = lab.run("get apiservice v1.batch -o jsonpath={.spec.versionPriority}").ok();
    assert_eq!(priority, "15");
}
