//! kubectl against the API server alone, oldest and newest: what each command prints, as a table. No node runs, so
//! nothing here depends on containers.

use knarr_tests::bins::Said;
use knarr_tests::cluster::kubectls;
use knarr_tests::eventually::eventually;
use knarr_tests::server::Server;
use knarr_tests::skip::skip;
use std::path::Path;
use std::time::Duration;

/// Arguments (split at spaces, `|` stands for one), and what is printed.
type Step = (&'static str, &'static [&'static str]);

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {set: one, edited: before}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: 'example.com/web:1', ports: [{containerPort: 80}]}]}
";
const NODE: &str = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n";

fn run(server: &Server, kubectl: &Path, arguments: &str) -> Said {
    let arguments: Vec<String> = arguments.split(' ').map(|word| word.replace('|', " ")).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    server.kubectl(kubectl, &arguments)
}

/// What only looks may look again: a controller may not have had its turn yet.
const LOOKS: [&str; 5] = ["get ", "describe ", "rollout history ", "explain ", "auth can-i "];

fn check(server: &Server, kubectl: &Path, steps: &[Step]) {
    for (arguments, expected) in steps {
        let arguments = arguments.replace("@", &format!("{}/", server.path("").display()));
        let looks = LOOKS.iter().any(|verb| arguments.starts_with(verb));
        let patience = Duration::from_secs(if looks { 60 } else { 0 });
        eventually(&format!("kubectl {arguments}"), patience, || {
            let said = run(server, kubectl, &arguments);
            let whole = said.code == 0 && expected.iter().all(|word| said.out.contains(word));
            if whole { Ok(()) } else { Err(format!("{expected:?} is not in {said:?}")) }
        });
    }
}

const CREATE: &[Step] = &[
    ("create namespace team", &["namespace/team created"]),
    ("create configmap settings --from-literal=a=b", &["configmap/settings created"]),
    ("create secret generic keys --from-literal=a=b", &["secret/keys created"]),
    ("create serviceaccount robot", &["serviceaccount/robot created"]),
    (
        "create role reader --verb=get,list --resource=pods",
        &["role.rbac.authorization.k8s.io/reader created"],
    ),
    (
        "create rolebinding readers --role=reader --serviceaccount=default:robot",
        &["rolebinding.rbac.authorization.k8s.io/readers created"],
    ),
    (
        "create clusterrole nodes --verb=get --resource=nodes",
        &["clusterrole.rbac.authorization.k8s.io/nodes created"],
    ),
    (
        "create clusterrolebinding nodes --clusterrole=nodes --user=bob",
        &["clusterrolebinding.rbac.authorization.k8s.io/nodes created"],
    ),
    ("create quota small -n team --hard=pods=1,requests.cpu=1", &["resourcequota/small created"]),
    ("create priorityclass high --value=1000", &["priorityclass.scheduling.k8s.io/high created"]),
    ("create job once --image=example.com/i:1 -- true", &["job.batch/once created"]),
    (
        "create cronjob often --image=example.com/i:1 --schedule=*/5|*|*|*|* -- true",
        &["cronjob.batch/often created"],
    ),
    ("create service clusterip plain --tcp=80:8080", &["service/plain created"]),
    ("create ingress front --rule=example.com/*=plain:80", &["ingress.networking.k8s.io/front created"]),
    ("create pdb safe --selector=app=web --min-available=1", &["poddisruptionbudget.policy/safe created"]),
    ("create pdb none --selector=app=web --max-unavailable=0", &["poddisruptionbudget.policy/none created"]),
    ("get pdb none --no-headers", &["N/A", "0"]),
    ("get pdb none -o jsonpath={.spec.maxUnavailable}", &["0"]),
    ("create deployment dry --image=example.com/i:1 --dry-run=server -o name", &["deployment.apps/dry"]),
    ("run dry --image=example.com/i:1 --dry-run=client -o yaml", &["kind: Pod", "image: example.com/i:1"]),
    ("create token robot", &["ey"]),
    ("get cs --no-headers", &["scheduler", "Healthy"]),
];

const CHANGE: &[Step] = &[
    ("diff -f @none.yaml", &[]),
    ("apply -f @web.yaml", &["deployment.apps/web created"]),
    ("apply -f @web.yaml", &["deployment.apps/web unchanged"]),
    ("apply --server-side --force-conflicts -f @web.yaml", &["deployment.apps/web serverside-applied"]),
    ("set image deployment/web c=example.com/web:2", &["deployment.apps/web image updated"]),
    ("rollout history deployment/web", &["REVISION", "1", "2"]),
    ("rollout undo deployment/web", &["deployment.apps/web rolled back"]),
    ("rollout pause deployment/web", &["deployment.apps/web paused"]),
    ("rollout resume deployment/web", &["deployment.apps/web resumed"]),
    ("rollout restart deployment/web", &["deployment.apps/web restarted"]),
    ("scale deployment/web --replicas=1", &["deployment.apps/web scaled"]),
    ("get deployment web --subresource=scale", &["DESIRED", "AVAILABLE"]),
    (
        "autoscale deployment/web --min=1 --max=3 --cpu-percent=80",
        &["horizontalpodautoscaler.autoscaling/web autoscaled"],
    ),
    ("expose deployment/web --port=80", &["service/web exposed"]),
    ("label deployment/web color=red", &["deployment.apps/web labeled"]),
    ("annotate deployment/web note=x", &["deployment.apps/web annotate"]),
    ("patch deployment web -p {\"metadata\":{\"labels\":{\"p\":\"1\"}}}", &["deployment.apps/web patched"]),
    (
        "patch deployment web --type=merge -p {\"metadata\":{\"labels\":{\"p\":\"2\"}}}",
        &["deployment.apps/web patched"],
    ),
    (
        "patch deployment web --type=json -p [{\"op\":\"remove\",\"path\":\"/metadata/labels/p\"}]",
        &["deployment.apps/web patched"],
    ),
    ("edit deployment web", &["deployment.apps/web edited"]),
    ("get deployment web -o jsonpath={.metadata.labels.edited}", &["after"]),
    (
        "wait deployment/web --for=jsonpath={.spec.replicas}=1 --timeout=90s",
        &["deployment.apps/web condition met"],
    ),
    ("replace --force -f @web.yaml", &["deployment.apps \"web\" deleted", "deployment.apps/web replaced"]),
    ("delete deployment web", &["deployment.apps \"web\" deleted"]),
];

const ADMINISTER: &[Step] = &[
    ("create -f @node.yaml", &["node/n1 created"]),
    ("cordon n1", &["node/n1 cordoned"]),
    ("get node n1 --no-headers", &["SchedulingDisabled"]),
    ("uncordon n1", &["node/n1 uncordoned"]),
    ("taint node n1 a=b:NoSchedule", &["node/n1 tainted"]),
    ("delete node n1", &["node \"n1\" deleted"]),
    ("auth can-i list pods --as=system:serviceaccount:default:robot", &["yes"]),
    (
        "auth can-i --list --as=system:serviceaccount:default:robot",
        &["pods", "[get list]", "selfsubjectreviews"],
    ),
    ("auth whoami --as=amy --as-group=dev", &["amy", "dev", "system:authenticated"]),
    ("get flowschemas", &["PRIORITYLEVEL", "catch-all", "workload-leader-election"]),
    ("get prioritylevelconfigurations", &["NOMINALCONCURRENCYSHARES", "workload-low"]),
    ("auth reconcile -f @role.yaml", &["reconciled"]),
    ("api-resources", &["deployments", "componentstatuses", "metrics.k8s.io/v1beta1", "NodeMetrics"]),
    ("get servicecidrs", &["CIDRS", "kubernetes", "10.96.0.0/16"]),
    ("get clusterrole system:kube-scheduler system:persistent-volume-provisioner -o name", &["clusterrole"]),
    ("get role -n kube-system extension-apiserver-authentication-reader -o name", &["role"]),
    (
        "get cm -n kube-system extension-apiserver-authentication -o yaml",
        &["client-ca-file", "BEGIN CERTIFICATE"],
    ),
    ("explain deployment.spec.strategy", &["RollingUpdate", "FIELDS:"]),
    ("explain pods --api-version=metrics.k8s.io/v1beta1", &["PodMetrics", "containers"]),
    ("get --raw /readyz?verbose", &["[+]ping ok", "readyz check passed"]),
    ("get --raw /metrics", &["apiserver_request_total{"]),
    ("describe quota small -n team", &["pods", "requests.cpu"]),
];

const REMOVE: &[Step] = &[
    ("delete job/once cronjob/often svc/plain svc/web ing/front pdb/safe pdb/none hpa/web", &["deleted"]),
    (
        "delete role/reader rolebinding/readers clusterrole/nodes clusterrolebinding/nodes pc/high",
        &["deleted"],
    ),
    ("delete configmap/settings secret/keys sa/robot ns/team", &["deleted"]),
];

/// What must fail, and with which words.
const REFUSED: &[Step] = &[
    (
        "run big -n team --image=example.com/i:1",
        &[
            "Error from server (Forbidden)",
            "pods \"big\" is forbidden: failed quota: small: must specify requests.cpu for: big",
        ],
    ),
    ("auth can-i delete nodes --as=bob", &["no"]),
    (
        "get pods --as=bob",
        &[
            "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\"",
        ],
    ),
    ("top node", &["metrics not available yet"]),
    ("create priorityclass system-mine --value=1", &["is invalid: metadata.name: Forbidden"]),
];

fn refused(server: &Server, kubectl: &Path) {
    for (arguments, expected) in REFUSED {
        let said = run(server, kubectl, arguments);
        assert_ne!(said.code, 0, "kubectl {arguments}: {said:?}");
        let all = format!("{}{}", said.out, said.err);
        for word in *expected {
            assert!(all.contains(word), "kubectl {arguments}: {word:?} is not in:\n{all}");
        }
    }
}

#[test]
fn commands_of_the_oldest_and_the_newest_kubectl() {
    let kubectls = kubectls();
    let (Some(oldest), Some(newest)) = (kubectls.first(), kubectls.last()) else {
        return skip("kube_commands", "no kubectl on this machine");
    };
    let server = Server::start();
    let _files = [
        server.file("web.yaml", WEB),
        server.file("node.yaml", NODE),
        server.file("none.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n"),
        server.file("role.yaml", "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: made, namespace: default}\nrules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n"),
    ];
    for kubectl in [newest, oldest] {
        check(&server, kubectl, CREATE);
        check(&server, kubectl, CHANGE);
        check(&server, kubectl, ADMINISTER);
        refused(&server, kubectl);
        check(&server, kubectl, REMOVE);
    }
}

#[test]
fn tokens_are_made_listed_and_deleted() {
    let server = Server::start();
    let said = server.knarr(&["token", "create", "--ttl", "1h", "--description", "for n2"]).ok();
    let (token, command) = said.split_once('\n').expect("a token, then a command");
    assert!(command.starts_with("knarr agent --server https://"), "{command}");
    assert!(command.contains(&format!(" --token {token} --ca-hash sha256:")), "{command}");
    let listed = server.knarr(&["token", "list"]).ok();
    assert!(listed.contains(token) && listed.contains("for n2"), "{listed}");
    let id = token.split('.').next().unwrap_or_default();
    assert!(server.knarr(&["token", "delete", id]).ok().contains("deleted"));
    assert!(server.knarr(&["token", "delete", id]).failed().contains("no bootstrap token"));
}
