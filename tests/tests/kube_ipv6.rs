//! Services with addresses of both families, on a node whose pods have both: reached by address and by name, and asked
//! after by load balancers; and two nodes whose pods reach each other, as far as policies let them.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::image_lab::ImageLab;
use knarr_tests::skip::skip;
use knarr_tests::uplink::UPLINK;
use std::process::Command;

/// A node in a network namespace of its own, for the host would have to forward IPv6 otherwise.
const SETUP: &str = r#"
# Each lab has a number of its own, by which its things are called.
NUMBER=$(sed -n 's|^cgroup_root = "/knarr-lab-pods-\([0-9]*\)"$|\1|p' config.toml)
ip route add default via 192.0.2.254
ip -6 route add default via 2001:db8::fe
{
    echo "pod_logs_dir = \"$PWD/logs\""
    cat config.toml
    printf '%s\n' '[network]' "bridge = \"kns$NUMBER\"" "table = \"kns$NUMBER\"" 'pod_cidr = "10.151.0.0/24"' \
        'cluster_cidr = "10.151.0.0/24"' 'service_cidr = "10.197.0.0/24"' \
        "$SECOND" 'service_cidr_v6 = "fd00:96::/112"'
} >six.toml
K() { "$KNARR" --config six.toml --data-dir "$PWD/data" --state-dir "$PWD/state" "$@"; }
k() { kubectl --kubeconfig data/admin.kubeconfig "$@"; }
# Not by way of `K`: a function in the background is a shell, and ending that ends nobody else.
"$KNARR" --config six.toml --data-dir "$PWD/data" --state-dir "$PWD/state" up --listen 0.0.0.0:6443 --node-name node >up.log 2>&1 &
UP=$!
# The configured root of cgroups is not knarr's: `down` leaves it.
ROOTS() { rmdir /sys/fs/cgroup/knarr-lab-pods-$NUMBER /sys/fs/cgroup/*/knarr-lab-pods-$NUMBER 2>/dev/null || true; }
trap 'code=$?; [ $code = 0 ] || tail -n 60 up.log >&2; kill $UP; wait $UP || true; K down; ROOTS' EXIT
until grep -q 'knarr is ready' up.log; do kill -0 $UP; sleep 0.1; done
# What a rule or a name needs to come is a moment.
SOON() { n=0; until "$@" 2>err; do n=$((n+1)); [ $n -lt 300 ] || { cat err >&2; return 1; }; sleep 0.2; done; }
"#;

const OBJECTS: &str = r#"
service() {
    printf '{"apiVersion":"v1","kind":"Service","metadata":{"name":"%s"},"spec":{"selector":{"run":"web"},"ports":[{"port":80}],%s}}' \
        "$1" "$2" | k apply -f - >/dev/null
}
service both '"ipFamilyPolicy":"PreferDualStack"'
service six '"ipFamilies":["IPv6"]'
service four '"type":"ClusterIP"'
service nobody '"ipFamilies":["IPv6"]'
k patch service nobody -p '{"spec":{"selector":{"run":"nobody"}}}' >/dev/null
k run web --image=base:1 --image-pull-policy=Never --command -- \
    sh -c 'echo hello >/tmp/index.html; exec busybox httpd -f -p 80 -h /tmp' >/dev/null
k run client --image=base:1 --image-pull-policy=Never --command -- sh -c 'exec sleep 1000' >/dev/null
k wait --for=condition=Ready pod/web pod/client --timeout=120s >/dev/null
of() { k get service $1 -o "jsonpath={.spec.$2}"; }
GET() { SOON k exec client -- busybox timeout 5 wget -qO- "http://$1/"; }
"#;

/// Two nodes in two namespaces, which a pair of links joins: nobody but the nodes knows the way to their pods.
const TWO_NODES: &str = r#"
NUMBER=$(sed -n 's|^cgroup_root = "/knarr-lab-pods-\([0-9]*\)"$|\1|p' config.toml)
unshare -n sleep 1000 &
HOLD=$!
trap 'kill $HOLD' EXIT
until [ "$(readlink /proc/$HOLD/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
IN() { nsenter --net=/proc/$HOLD/ns/net "$@"; }
ip link add wire0 type veth peer name wire1 netns $HOLD
ip addr add 198.51.100.1/24 dev wire0
ip addr add 2001:db8:1::1/64 dev wire0 nodad
ip link set wire0 up
IN ip link set lo up
IN ip addr add 198.51.100.2/24 dev wire1
IN ip addr add 2001:db8:1::2/64 dev wire1 nodad
IN ip link set wire1 up
IN ip route add default via 198.51.100.1
IN ip -6 route add default via 2001:db8:1::1
settings() {
    echo "pod_logs_dir = \"$PWD/logs$1\""
    sed "s|^monitor_cgroup = \"\(.*\)\"|monitor_cgroup = \"\1-$1\"|
        s|^cgroup_root = \"\(.*\)\"|cgroup_root = \"\1-$1\"\nnode_ip = \"198.51.100.$1\"\nnode_ip_v6 = \"2001:db8:1::$1\"|" config.toml
    printf '%s\n' '[network]' "bridge = \"kns$NUMBER\"" "table = \"kns$NUMBER\"" 'cluster_cidr = "10.151.0.0/16"' \
        'service_cidr = "10.197.0.0/24"' 'cluster_cidr_v6 = "fd00:42::/48"' 'service_cidr_v6 = "fd00:96::/112"'
}
settings 1 >1.toml; settings 2 >2.toml
cp -a data data2
K() { n=$1; shift; "$KNARR" --config $n.toml --data-dir "$PWD/data${n#1}" --state-dir "$PWD/state$n" "$@"; }
k() { kubectl --kubeconfig data/admin.kubeconfig "$@"; }
"$KNARR" --config 1.toml --data-dir "$PWD/data" --state-dir "$PWD/state1" up --listen 0.0.0.0:6443 \
    --advertise 198.51.100.1 --node-name one >1.log 2>&1 &
ONE=$!
TWO=
ROOTS() { for n in 1 2; do rmdir /sys/fs/cgroup/knarr-lab-pods-$NUMBER-$n /sys/fs/cgroup/*/knarr-lab-pods-$NUMBER-$n 2>/dev/null || true; done; }
END() {
    code=$?
    [ $code = 0 ] || tail -n 40 1.log 2.log >&2
    kill $ONE $TWO; wait $ONE $TWO || true
    IN "$KNARR" --config 2.toml --data-dir "$PWD/data2" --state-dir "$PWD/state2" down; K 1 down; ROOTS
    kill $HOLD
}
trap END EXIT
until grep -q 'knarr is ready' 1.log; do kill -0 $ONE; sleep 0.1; done
JOIN=$(K 1 token create | grep -o -- '--server.*')
nsenter --net=/proc/$HOLD/ns/net "$KNARR" --config 2.toml --data-dir "$PWD/data2" --state-dir "$PWD/state2" \
    agent --node-name two $JOIN >2.log 2>&1 &
TWO=$!
until grep -q 'knarr agent is ready' 2.log; do kill -0 $TWO; sleep 0.1; done
SOON() { n=0; until "$@" 2>err; do n=$((n+1)); [ $n -lt 300 ] || { cat err >&2; return 1; }; sleep 0.2; done; }
on() {
    k run $2 --image=base:1 --image-pull-policy=Never --overrides="{\"spec\":{\"nodeName\":\"$1\"}}" --command -- \
        sh -c "echo $2 >/tmp/index.html; exec busybox httpd -f -p 80 -h /tmp" >/dev/null
}
on one left; on two right
k wait --for=condition=Ready pod/left pod/right --timeout=120s >/dev/null
addr() { k get pod $1 -o "jsonpath={.status.podIPs[$2].ip}"; }
GET() { SOON k exec $1 -- busybox timeout 5 wget -qO- "http://$2/"; }
"#;

/// `second` is the setting from which pods have addresses of version 6.
fn said(second: &str, script: &str) -> String {
    let lab = ImageLab::new();
    let mut command = Command::new("unshare");
    let script = format!("{UPLINK}{SETUP}{OBJECTS}{script}");
    command.args(["-n", "-m", "--propagation", "private", "/bin/bash", "-c", &script]);
    command.current_dir(lab.path("")).env("KNARR", bins::find("knarr")).env("SECOND", second);
    bins::run(&mut command).ok()
}

fn said_of_two(script: &str) -> String {
    let lab = ImageLab::new();
    let mut command = Command::new("unshare");
    let script = format!("{UPLINK}{TWO_NODES}{script}");
    command.args(["-n", "-m", "--propagation", "private", "/bin/bash", "-c", &script]);
    bins::run(command.current_dir(lab.path("")).env("KNARR", bins::find("knarr"))).ok()
}

#[test]
fn services_are_reached_in_both_families() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        return skip("kube_ipv6", "no kubectl on PATH");
    }
    let out = said(
        "pod_cidr_v6 = \"fd00:42::/112\"",
        r#"
k get pod web -o 'jsonpath={.status.podIPs[*].ip}' | sed 's/[0-9]* fd/ fd/; s/::.*/::/'; echo
for name in both six four; do of $name ipFamilyPolicy; echo " $(of $name ipFamilies)"; done
of both clusterIPs | sed 's/[0-9a-f]*"/"/g'; echo
GET "$(of both 'clusterIPs[0]')"; GET "[$(of both 'clusterIPs[1]')]"; GET "[$(of six clusterIP)]"
GET both; GET six; GET four.default.svc.cluster.local
SOON curl -g -sS -m 5 "http://[$(of both 'clusterIPs[1]')]/"
k get endpointslices -l kubernetes.io/service-name=both -o 'jsonpath={range .items[*]}{.addressType}{"\n"}{end}' | sort
k exec client -- busybox timeout 30 wget -qO- "http://[$(of nobody clusterIP)]/" 2>&1 | grep -c 'refused'
k get service kubernetes -o 'jsonpath={.spec.ipFamilies}'; echo
k patch service both -p '{"spec":{"ipFamilyPolicy":"SingleStack"}}' >/dev/null; of both ipFamilies; echo
k create service clusterip more --tcp=80 --dry-run=server -o 'jsonpath={.spec.ipFamilies}'; echo
"#,
    );
    let expected = "10.151.0. fd00:42::\nPreferDualStack [\"IPv4\",\"IPv6\"]\nSingleStack [\"IPv6\"]\n\
        SingleStack [\"IPv4\"]\n[\"10.197.0.\",\"fd00:96::\"]\nhello\nhello\nhello\nhello\nhello\nhello\nhello\n\
        IPv4\nIPv6\n1\n[\"IPv4\"]\n[\"IPv4\"]\n[\"IPv4\"]\n";
    assert_eq!(out, expected);
}

#[test]
fn a_cluster_gives_its_nodes_ranges_of_both_families() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        return skip("kube_ipv6", "no kubectl on PATH");
    }
    let out = said(
        "cluster_cidr_v6 = \"fd00:42::/48\"",
        r#"
k get node node -o 'jsonpath={.spec.podCIDR} {.spec.podCIDRs}'; echo
k get pod web -o 'jsonpath={.status.podIPs[*].ip}' | sed 's/[0-9]* fd/ fd/; s/::.*/::/'; echo
of both ipFamilies; echo
GET "$(of both 'clusterIPs[0]')"; GET "[$(of both 'clusterIPs[1]')]"; GET both
GET "[$(k get pod web -o 'jsonpath={.status.podIPs[1].ip}')]"
"#,
    );
    let expected = "10.151.0.0/24 [\"10.151.0.0/24\",\"fd00:42::/64\"]\n10.151.0. fd00:42::\n[\"IPv4\",\"IPv6\"]\n\
        hello\nhello\nhello\nhello\n";
    assert_eq!(out, expected);
}

/// The node tells a load balancer whether it has endpoints, for as long as the service wants it to.
#[test]
fn a_load_balancer_asks_in_both_families() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        return skip("kube_ipv6", "no kubectl on PATH");
    }
    let out = said(
        "cluster_cidr_v6 = \"fd00:42::/48\"",
        r#"
service balanced '"type":"LoadBalancer","externalTrafficPolicy":"Local","ipFamilyPolicy":"PreferDualStack"'
PORT=$(of balanced healthCheckNodePort)
ASK() { curl -g -sS -m 5 -w ' %{http_code} %header{x-load-balancing-endpoint-weight}' "http://$1:$PORT/" | tr -d '\n\t '; }
has() { ASK 127.0.0.1 | grep -q "$1"; }
SOON has ':true}2001'; ASK 127.0.0.1; echo; ASK '[::1]'; echo
k delete pod web --now >/dev/null
SOON has ':true}5030'; ASK 127.0.0.1; echo
k patch service balanced -p '{"spec":{"externalTrafficPolicy":"Cluster"}}' >/dev/null
of balanced healthCheckNodePort; echo none
closed() { ! curl -s -o answer -m 5 "http://127.0.0.1:$PORT/"; }
SOON closed
"#,
    );
    let answer = |endpoints: u8, status: u16| {
        format!(
            "{{\"service\":{{\"namespace\":\"default\",\"name\":\"balanced\"}},\"localEndpoints\":{endpoints},\
             \"serviceProxyHealthy\":true}}{status}{endpoints}\n"
        )
    };
    assert_eq!(out, format!("{}{}{}none\n", answer(1, 200), answer(1, 200), answer(0, 503)));
}

#[test]
fn pods_of_two_nodes_reach_each_other_in_both_families() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        return skip("kube_ipv6", "no kubectl on PATH");
    }
    let script = r#"
k get node one two -o 'jsonpath={range .items[*]}{.status.addresses[?(@.type=="InternalIP")].address} {.spec.podCIDRs}{"\n"}{end}'
GET left "$(addr right 0)"; GET left "[$(addr right 1)]"; GET right "$(addr left 0)"; GET right "[$(addr left 1)]"
k get pod right -o 'jsonpath={.status.hostIPs[*].ip}'; echo
"#;
    let out = said_of_two(script);
    let expected = "198.51.100.1 2001:db8:1::1 [\"10.151.0.0/24\",\"fd00:42::/64\"]\n\
        198.51.100.2 2001:db8:1::2 [\"10.151.1.0/24\",\"fd00:42:0:1::/64\"]\n\
        right\nright\nleft\nleft\n198.51.100.2 2001:db8:1::2\n";
    assert_eq!(out, expected);
}

/// Policies hold on the node of the pod that they select, in both families, and by the node's own credentials: these
/// show it the pods of others for as long as there are policies.
#[test]
fn policies_hold_between_nodes() {
    if Command::new("kubectl").args(["version", "--client"]).output().is_err() {
        return skip("kube_policies", "no kubectl on PATH");
    }
    let out = said_of_two(
        r#"
NO() {
    n=0
    while k exec $1 -- busybox timeout 2 wget -qO- "http://$2/" >/dev/null 2>&1; do n=$((n+1)); [ $n -lt 100 ] || return 1; done
    echo "$1 no more"
}
policy() { printf '{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"%s"},"spec":%s}' $1 "$2" | k apply -f - >/dev/null; }
other() { kubectl --kubeconfig data2/node.kubeconfig "$@"; }
pods() { other get pods -A -o name | grep -c pod/left; }
other get pods -A 2>&1 | grep -o 'Forbidden' || true
GET left "$(addr right 0)"; GET left "[$(addr right 1)]"
policy closed '{"podSelector":{"matchLabels":{"run":"right"}}}'
NO left "$(addr right 0)"; NO left "[$(addr right 1)]"
SOON pods
GET right "$(addr left 0)"
policy closed '{"podSelector":{"matchLabels":{"run":"right"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"run":"left"}}}]}]}'
GET left "$(addr right 0)"; GET left "[$(addr right 1)]"
policy names '{"podSelector":{"matchLabels":{"run":"left"}},"policyTypes":["Egress"],
    "egress":[{"to":[{"namespaceSelector":{},"podSelector":{"matchLabels":{"k8s-app":"kube-dns"}}}]}]}'
NO left "$(addr right 0)"
SOON k exec left -- busybox timeout 5 nslookup kubernetes.default.svc.cluster.local >/dev/null
k delete networkpolicies --all >/dev/null
GET left "$(addr right 0)"
other get namespaces 2>&1 | grep -o 'Forbidden' || true
"#,
    );
    let expected = "Forbidden\nright\nright\nleft no more\nleft no more\n1\nleft\nright\nright\nleft no more\nright\n\
        Forbidden\n";
    assert_eq!(out, expected);
}
