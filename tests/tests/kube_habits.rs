//! What people's scripts expect of an API server beside the commands themselves: going over from client-side to
//! server-side apply, causes in the history of rollouts, answers that curl can be searched for, words of refusals.

use knarr_tests::bins::{self, Said};
use knarr_tests::cluster::kubectls;
use knarr_tests::eventually::eventually;
use knarr_tests::server::Server;
use knarr_tests::skip::skip;
use std::path::PathBuf;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

struct Lab {
    server: Server,
    kubectl: PathBuf,
}

impl Lab {
    fn new(test: &str) -> Option<Self> {
        let Some(kubectl) = kubectls().pop() else {
            skip(test, "no kubectl on this machine");
            return None;
        };
        Some(Self { server: Server::start(), kubectl })
    }

    /// Arguments are split at spaces.
    fn run(&self, arguments: &str) -> Said {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        self.server.kubectl(&self.kubectl, &arguments)
    }

    /// Runs a command with a file of this text.
    fn with(&self, command: &str, text: &str) -> Said {
        let file = self.server.file("object.yaml", text);
        self.run(&format!("{command} -f {file}"))
    }

    fn until(&self, what: &str, arguments: &str, holds: impl Fn(&str) -> bool) {
        eventually(what, PATIENCE, || {
            let said = self.run(arguments);
            if holds(&said.out) { Ok(()) } else { Err(format!("{said:?}")) }
        });
    }
}

/// A workload of some image, and why it is so.
fn workload(kind: &str, image: &str, cause: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: {kind}\nmetadata:\n  name: web\n  annotations: {{kubernetes.io/change-cause: '{cause}'}}\n\
         spec:\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
         spec: {{containers: [{{name: c, image: 'example.com/web:{image}'}}]}}\n"
    )
}

fn settings(color: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{color: {color}}}\n")
}

#[test]
fn kubectl_goes_over_to_server_side_apply_and_back() {
    let Some(lab) = Lab::new("apply_goes_over") else { return };
    lab.with("apply", &settings("red")).ok();
    let other = lab.with("apply --server-side --field-manager=other", &settings("blue")).failed();
    assert!(other.contains("conflict with \"kubectl-client-side-apply\" using v1: .data.color"), "{other}");
    lab.with("apply --server-side", &settings("blue")).ok();
    let last = lab.run("apply view-last-applied configmap/settings").ok();
    assert!(last.contains("color: blue"), "what client-side apply compares with is kept true: {last}");
    lab.with("apply", &settings("green")).ok();
    assert_eq!(lab.run("get configmap settings -o jsonpath={.data.color}").ok(), "green");
    lab.run("patch configmap settings -p {\"data\":{\"color\":\"black\"}}").ok();
    let changed = lab.with("apply --server-side", &settings("white")).failed();
    assert!(changed.contains("conflict with \"kubectl-patch\" using v1: .data.color"), "{changed}");
}

fn pod(color: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: one, labels: {{color: {color}}}}}\n\
         spec: {{containers: [{{name: c, image: 'example.com/web:1'}}]}}\n"
    )
}

#[test]
fn what_admission_adds_to_a_pod_stays_whoever_applies_it() {
    let Some(lab) = Lab::new("admission_adds") else { return };
    lab.until("the account of pods", "get serviceaccount default -o name", |text| text.contains("default"));
    lab.with("apply", &pod("red")).ok();
    let owned =
        lab.run("get pod one --show-managed-fields -o jsonpath={.metadata.managedFields[*].fieldsV1}").ok();
    assert!(owned.contains("f:restartPolicy"), "what the kind fills in: {owned}");
    for field in ["f:volumes", "f:volumeMounts", "f:priority", "f:preemptionPolicy", "f:qosClass"] {
        assert!(!owned.contains(field), "{field} is nobody's: {owned}");
    }
    for (command, color) in
        [("apply --server-side", "blue"), ("apply --server-side", "green"), ("apply", "red")]
    {
        let said = lab.with(command, &pod(color));
        assert!(!said.err.contains("Warning"), "{said:?}");
        said.ok();
        assert_eq!(lab.run("get pod one -o jsonpath={.metadata.labels.color}").ok(), color);
    }
    let account = lab.run("get pod one -o jsonpath={.spec.serviceAccountName}").ok();
    assert_eq!(account, "default");
}

#[test]
fn histories_say_why() {
    let Some(lab) = Lab::new("histories_say_why") else { return };
    for kind in ["Deployment", "DaemonSet", "StatefulSet"] {
        let name = kind.to_lowercase();
        for (image, cause) in [("1", "first"), ("2", "second")] {
            lab.with("apply", &workload(kind, image, cause)).ok();
            let history = format!("rollout history {name}/web");
            lab.until("the revision", &history, |text| text.contains(cause));
        }
        lab.run(&format!("rollout undo {name}/web --to-revision=1")).ok();
        let history = format!("rollout history {name}/web");
        lab.until("a third revision", &history, |text| text.lines().any(|line| line.starts_with("3 ")));
        let shown = lab.run(&history).ok();
        assert!(shown.lines().any(|line| line.starts_with("3 ") && line.ends_with("first")), "{shown}");
    }
    let past =
        "get rs -o jsonpath={.items[*].metadata.annotations.deployment\\.kubernetes\\.io/revision-history}";
    lab.until("the numbers of before", past, |text| text.trim() == "1");
}

#[test]
fn answers_are_as_scripts_search_them() {
    let Some(lab) = Lab::new("answers_for_scripts") else { return };
    let curl = |path: &str| bins::run(&mut lab.server.curl(path)).ok();
    let namespace = curl("/api/v1/namespaces/default");
    assert!(namespace.contains("\n    \"phase\": \"Active\"\n"), "{namespace}");
    assert!(curl("/version").contains("\n  \"minor\": \"33\",\n"));
    let compact = curl("/api/v1/namespaces/default?pretty=false");
    assert!(compact.contains("\"phase\":\"Active\""), "{compact}");
    let raw = lab.run("get --raw /api/v1").ok();
    let maps = "{\"name\":\"configmaps\",\"singularName\":\"configmap\",\"namespaced\":true,\"kind\":\"ConfigMap\",\"verbs\":[";
    assert!(raw.contains(maps) && raw.contains("\"shortNames\":[\"cm\"],\"storageVersionHash\":\""), "{raw}");
    let all = "\"shortNames\":[\"po\"],\"categories\":[\"all\"]";
    assert!(raw.contains(all), "{raw}");
    // A watch stays one line for each event.
    let path =
        "/api/v1/namespaces?watch=1&timeoutSeconds=1&resourceVersion=0&fieldSelector=metadata.name%3Ddefault";
    let watched = curl(path);
    assert!(watched.lines().count() == 1 && watched.starts_with("{\"type\":\"ADDED\""), "{watched}");
}

const SHIPS: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ships.sea.example.com}
spec:
  group: sea.example.com
  scope: Namespaced
  names: {plural: ships, singular: ship, kind: Ship}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
  - {name: v1beta1, served: true, storage: false, deprecated: true, schema: {openAPIV3Schema: {type: object}}}
";

#[test]
fn deprecated_versions_of_ones_own_are_warned_of() {
    let Some(lab) = Lab::new("deprecated_versions") else { return };
    lab.with("create", SHIPS).ok();
    lab.run("wait crd/ships.sea.example.com --for=condition=Established --timeout=60s").ok();
    lab.until("the kind", "api-resources --api-group=sea.example.com -o name", |text| text.contains("ships"));
    let said = lab.run("get ships.v1beta1.sea.example.com");
    let words = "Warning: sea.example.com/v1beta1 Ship is deprecated; use sea.example.com/v1 Ship";
    assert!(said.err.contains(words), "{said:?}");
    assert!(!lab.run("get ships.v1.sea.example.com").err.contains("deprecated"));
    let failed = lab.run("get ships.v1beta1.sea.example.com --warnings-as-errors").failed();
    assert!(failed.contains("1 warning received"), "{failed}");
}

#[test]
fn what_can_never_be_is_said() {
    let Some(lab) = Lab::new("never") else { return };
    lab.with("create", "apiVersion: v1\nkind: Node\nmetadata: {name: silent}\n").ok();
    // Where no node is ready at all, pods are left where they are.
    lab.with("create", "apiVersion: v1\nkind: Node\nmetadata: {name: awake}\nstatus:\n  conditions: [{type: Ready, status: 'True', lastHeartbeatTime: '2100-01-01T00:00:00Z'}]\n").ok();
    lab.with("create", &settings("red")).ok();
    // Whoever names version 0 overwrites what there is.
    let any = settings("blue").replace("name: settings", "name: settings, resourceVersion: '0'");
    lab.with("replace", &any).ok();
    let refused = lab.run("patch configmap settings -p {\"metadata\":{\"labels\":\"red\"}}").failed();
    assert!(refused.contains("cannot restore map from string"), "{refused}");
    let cron = "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: never}\nspec:\n  schedule: '59 23 31 2 *'\n  \
                jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'example.com/i:1'}]}}}}\n";
    lab.with("create", cron).ok();
    lab.until("the warning", "events --for=CronJob/never", |text| {
        text.contains("InvalidSchedule") && text.contains("invalid schedule: 59 23 31 2 *")
    });
    // A node of which nothing is heard, ever.
    let reasons = "get node silent -o jsonpath={.status.conditions[*].reason}";
    lab.until("its conditions", reasons, |text| text.matches("NodeStatusNeverUpdated").count() == 4);
    lab.until("its taints", "describe node silent", |text| {
        text.contains("node.kubernetes.io/unreachable:NoExecute")
            && text.contains("Kubelet never posted node status.")
    });
}

/// A node that nobody is, a pod for it, and a policy that does not let pods go there.
const FORBIDDEN_NODE: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: quiet}
status:
  allocatable: {cpu: "4", memory: 8Gi, pods: "10"}
  conditions: [{type: Ready, status: "True", lastHeartbeatTime: "2100-01-01T00:00:00Z"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: quiet}
spec:
  matchConstraints:
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods/binding]}]
  validations: [{expression: object.target.name != 'quiet', message: let it rest}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: quiet}
spec: {policyName: quiet, validationActions: [Deny]}
---
apiVersion: v1
kind: Pod
metadata: {name: guest}
spec: {containers: [{name: c, image: "example.com/i:1"}]}
"#;

#[test]
fn a_binding_that_is_refused_is_told_and_tried_again() {
    let Some(lab) = Lab::new("refused_binding") else { return };
    lab.with("create", FORBIDDEN_NODE).ok();
    let refused = "running Bind plugin \"DefaultBinder\": pods \"guest\" is forbidden: ValidatingAdmissionPolicy \
                   'quiet' with binding 'quiet' denied request: let it rest";
    lab.until("the event", "get events --field-selector=reason=FailedScheduling", |out| {
        out.contains(refused)
    });
    let condition = "get pod guest -o jsonpath={.status.conditions[?(@.type==\"PodScheduled\")]}";
    lab.until("the condition", condition, |out| out.contains("\"reason\":\"SchedulerError\""));
    lab.run("delete validatingadmissionpolicybinding quiet").ok();
    lab.until("a node", "get pod guest -o jsonpath={.spec.nodeName}", |out| out == "quiet");
    let scheduled = "get events --field-selector=reason=Scheduled -o yaml --show-managed-fields";
    lab.until("the owner of the event", scheduled, |out| out.contains("apiVersion: events.k8s.io/v1"));
}
