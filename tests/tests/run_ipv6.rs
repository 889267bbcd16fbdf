//! Containers with IPv6 addresses beside those of IPv4: their published ports, and how these are shown.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::image_lab::ImageLab;
use knarr_tests::uplink::UPLINK;
use std::process::Command;

/// A network namespace with a link to the world; `K` is knarr, `GET` asks a server.
const SETUP: &str = r#"
sed 's/^cluster_cidr/pod_cidr_v6 = "fd00:77::\/112"\n&/' config.toml > six.toml
K() { "$KNARR" --config six.toml --data-dir "$PWD/data" --state-dir "$PWD/state" "$@"; }
GET() { curl -g -s -m 30 --retry 30 --retry-delay 1 --retry-connrefused "http://$1/hostname"; }
FAIL() { curl -g -s -m 5 "http://$1/hostname" >/dev/null && echo "$1 answers"; true; }
trap 'K rm -f $WEB >/dev/null; K down' EXIT
"#;

/// `name` and the process make the container's name, which no other has: it names its cgroup.
fn said(name: &str, script: &str) -> String {
    let lab = ImageLab::new();
    let mut command = Command::new("unshare");
    command.args([
        "-n",
        "-m",
        "--propagation",
        "private",
        "/bin/sh",
        "-c",
        &format!("{UPLINK}{SETUP}{script}"),
    ]);
    let web = format!("{name}-{}", std::process::id());
    command.current_dir(lab.path("")).env("KNARR", bins::find("knarr")).env("WEB", &web);
    bins::run(&mut command).ok().replace(&web, "web")
}

const SERVER: &str = "K run -d --name $WEB -h $WEB $PORTS base:1 sh -c \
    'hostname > /tmp/hostname; exec busybox httpd -f -p 80 -h /tmp' >/dev/null\n";

#[test]
fn a_port_is_published_in_both_families() {
    let out = said(
        "both",
        &format!(
            "PORTS='-p 8080:80'\n{SERVER}\
         GET 127.0.0.1:8080; GET 192.0.2.1:8080; GET [2001:db8::1]:8080\n\
         K port $WEB; K port $WEB 80; K ps --format '{{{{.Ports}}}}'\n\
         K inspect -f '{{{{with .NetworkSettings}}}}{{{{.GlobalIPv6Address}}}}/{{{{.GlobalIPv6PrefixLen}}}} {{{{.IPv6Gateway}}}} {{{{json .Ports}}}}{{{{end}}}}' $WEB\n\
         K exec $WEB cat /etc/hosts | grep -c $WEB\n\
         K run --rm -p [::]:8080:80 base:1 true 2>&1 || echo $?\n\
         K stop -t 0 $WEB; K start $WEB; GET [2001:db8::1]:8080\n"
        ),
    );
    let expected = "web\nweb\nweb\n80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n0.0.0.0:8080\n[::]:8080\n\
         0.0.0.0:8080->80/tcp, [::]:8080->80/tcp\n\
         fd00:77::2/112 fd00:77::1 {\"80/tcp\":[{\"HostIp\":\"0.0.0.0\",\"HostPort\":\"8080\"},{\"HostIp\":\"::\",\"HostPort\":\"8080\"}]}\n\
         2\n\
         knarr: failed to setup network for sandbox: Bind for :::8080 failed: port is already allocated\n125\n\
         web\nweb\nweb\n";
    assert_eq!(out, expected);
}

#[test]
fn a_port_is_published_where_it_is_asked_for() {
    let out = said(
        "chosen",
        &format!(
            "PORTS='-p 0.0.0.0:8081:80 -p [::]:8082:80 -p [2001:db8::1]:8083:80'\n{SERVER}\
         GET 127.0.0.1:8081; GET [2001:db8::1]:8082; GET [2001:db8::1]:8083\n\
         FAIL [2001:db8::1]:8081; FAIL 127.0.0.1:8082; FAIL 127.0.0.1:8083\n\
         K ps --format '{{{{.Ports}}}}'\n\
         K run --rm -p [::1]:8084:80 base:1 true 2>&1 || echo $?\n\
         K run --rm -p [2001:db8::2]:8084:80 base:1 true 2>&1 || echo $?\n"
        ),
    );
    let expected = "web\nweb\nweb\n\
         0.0.0.0:8081->80/tcp, [::]:8082->80/tcp, [2001:db8::1]:8083->80/tcp\n\
         knarr: --publish [::1]:8084: the kernel takes no answers to ::1 from another link; 127.0.0.1 can be published\n125\n\
         knarr: failed to bind host port [2001:db8::2]:8084/tcp: cannot assign requested address\n125\n";
    assert_eq!(out, expected);
}
