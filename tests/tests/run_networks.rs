//! Networks of one's own: containers on one know each other by name, and nobody else gets in; what is shared of another
//! container's namespaces; in Docker's words.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::eventually::eventually;
use knarr_tests::run_lab::{Lab, named};
use serde_json::Value;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Sixteen addresses that no other test has: where nobody says, each lab takes the first free range that it sees.
fn range() -> (String, String) {
    let place = (std::process::id() % 256 * 16 + NEXT.fetch_add(1, Ordering::Relaxed) % 16) * 16;
    let start = format!("10.147.{}", place / 256);
    (format!("{start}.{}/28", place % 256), format!("{start}.{}", place % 256 + 9))
}

fn created(lab: &Lab, name: &str, more: &[&str]) -> String {
    let (subnet, wanted) = range();
    let id = lab.knarr(&[&["network", "create", "--subnet", &subnet], more, &[name]].concat());
    assert_eq!(id.trim().len(), 64, "{id}");
    wanted
}

/// A container that stays.
fn stays(lab: &Lab, name: &str, more: &[&str]) {
    lab.knarr(&[&["run", "-d", "--name", name], more, &["base:1", "sleep", "3600"]].concat());
}

fn field(lab: &Lab, name: &str, template: &str) -> String {
    lab.knarr(&["inspect", "-f", template, name]).trim().to_owned()
}

#[test]
fn containers_know_each_other_by_name() {
    let (lab, db, web) = (Lab::new(), named("net-db"), named("net-web"));
    created(&lab, "mine", &[]);
    stays(&lab, &db, &["--network", "mine", "--network-alias", "main"]);
    for name in [&db, "main"] {
        let said =
            lab.knarr(&["run", "--rm", "--network", "mine", "base:1", "busybox", "ping", "-c", "1", name]);
        assert!(said.contains("1 packets received"), "{said}");
    }
    let hosts = || lab.knarr(&["exec", &db, "cat", "/etc/hosts"]);
    stays(&lab, &web, &["--network", "name=mine,alias=front"]);
    let address = field(&lab, &web, "{{.NetworkSettings.Networks.mine.IPAddress}}");
    assert!(hosts().contains(&format!("{address}\t{web} front ")), "{}", hosts());
    let part = field(
        &lab,
        &web,
        "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{$e.Gateway}} {{$e.MacAddress}}{{end}}",
    );
    let seen = lab.knarr(&[
        "exec",
        &web,
        "sh",
        "-c",
        "echo mine $(ip route | awk '/default/ {print $3}') $(cat /sys/class/net/eth0/address)",
    ]);
    assert_eq!(part, seen.trim());
    lab.knarr(&["exec", &db, "sh", "-c", "echo 1.2.3.4 added >> /etc/hosts"]);
    let other = named("net-other");
    lab.knarr(&["rename", &web, &other]);
    assert!(hosts().contains(&format!("\t{other} front ")) && !hosts().contains(&web), "{}", hosts());
    lab.knarr(&["stop", "-t", "0", &other]);
    assert!(!hosts().contains("front") && hosts().contains("1.2.3.4 added\n"), "{}", hosts());
    lab.knarr(&["start", &other]);
    let own = lab.knarr(&["exec", &other, "cat", "/etc/hosts"]);
    assert!(
        hosts().contains(&format!("\t{other} front ")) && own.contains(&format!("\t{db} main ")),
        "{own}"
    );
    lab.knarr(&["rm", "-f", &other]);
    assert!(!hosts().contains("front"), "{}", hosts());
}

#[test]
fn nobody_else_gets_in() {
    let (lab, inside, port) = (Lab::new(), named("net-inside"), "47123");
    let wanted = created(&lab, "one", &[]);
    created(&lab, "two", &["--internal"]);
    stays(&lab, &inside, &["--network", "one", "--ip", &wanted, "-p", &format!("127.0.0.1:{port}:80")]);
    assert_eq!(field(&lab, &inside, "{{.NetworkSettings.IPAddress}}"), wanted);
    let reaches = |network: &str| {
        let ping = ["busybox", "ping", "-c", "1", "-W", "3", wanted.as_str()];
        lab.0.knarr(&[&["run", "--rm", "--network", network, "base:1"], &ping[..]].concat()).code == 0
    };
    assert!(reaches("one") && !reaches("bridge") && !reaches("two"));
    let run = |more: &[&str]| lab.0.knarr(&[&["run", "--rm"], more, &["base:1", "true"]].concat()).failed();
    let refused = run(&["--network", "one", "--ip", &wanted]);
    assert!(refused.contains("Address already in use"), "{refused}");
    let refused = run(&["--ip", &wanted]);
    assert!(
        refused.contains("user specified IP address is supported on user defined networks only"),
        "{refused}"
    );
    let refused = run(&["--network", "two", "-p", &format!("127.0.0.1:{port}:80")]);
    assert!(refused.contains("port is already allocated"), "{refused}");
    let refused = run(&["--network", "three"]);
    assert!(refused.contains("network three not found"), "{refused}");
}

#[test]
fn networks_are_listed_inspected_and_removed() {
    let (lab, user) = (Lab::new(), named("net-user"));
    created(&lab, "mine", &["--label", "kind=test", "-o", "com.docker.network.driver.mtu=1400"]);
    created(&lab, "idle", &["--internal"]);
    let listed = |more: &[&str]| lab.knarr(&[&["network", "ls", "--format", "{{.Name}}"], more].concat());
    assert_eq!(listed(&[]), "bridge\nhost\nidle\nmine\nnone\n");
    assert_eq!(listed(&["-f", "type=custom", "--filter", "label=kind=test"]), "mine\n");
    stays(&lab, &user, &["--network", "mine"]);
    assert_eq!(listed(&["-f", "dangling=true"]), "idle\n");
    assert_eq!(lab.knarr(&["exec", &user, "cat", "/sys/class/net/eth0/mtu"]), "1400\n");
    let document: Value = serde_json::from_str(&lab.knarr(&["network", "inspect", "mine"])).unwrap();
    let (network, id) = (&document[0], field(&lab, &user, "{{.Id}}"));
    assert_eq!((&network["Driver"], &network["Labels"]["kind"]), (&"bridge".into(), &"test".into()));
    assert_eq!(network["Containers"][&id]["Name"], user.as_str());
    assert_eq!(lab.knarr(&["ps", "-q", "--no-trunc", "-f", "network=mine"]).trim(), id);

    let refused = lab.0.knarr(&["network", "rm", "mine"]).failed();
    assert!(refused.contains("has active endpoints"), "{refused}");
    for (arguments, words) in [
        (&["create", "mine"][..], "network with name mine already exists"),
        (&["create", "host"], "operation is not permitted on predefined host network"),
        (&["create", "-d", "overlay", "far"], "plugin \"overlay\" not found"),
        (&["create", "--subnet", "10.0.0.1/8", "far"], "invalid CIDR address"),
        (&["create", "-o", "com.docker.network.bridge.name=lo", "far"], "is taken by a link of this machine"),
        (&["rm", "bridge"], "bridge is a pre-defined network and cannot be removed"),
        (&["rm", "none-such"], "network none-such not found"),
    ] {
        let refused = lab.0.knarr(&[&["network"], arguments].concat()).failed();
        assert!(refused.contains(words), "{refused}");
    }
    assert_eq!(lab.knarr(&["network", "prune", "-f"]), "Deleted Networks:\nidle\n\n");
    lab.knarr(&["rm", "-f", &user]);
    assert_eq!(lab.knarr(&["network", "rm", "mine"]), "mine\n");
}

#[test]
fn namespaces_of_another_container() {
    let (lab, first, second) = (Lab::new(), named("ns-first"), named("ns-second"));
    stays(&lab, &first, &["--ipc", "shareable", "-h", "front"]);
    let id = field(&lab, &first, "{{.Id}}");
    let other = format!("container:{first}");
    let shared = ["--network", &other, "--pid", &other, "--ipc", &other];
    let spaces = "readlink /proc/self/ns/net; readlink /proc/self/ns/pid; readlink /proc/self/ns/ipc";
    let own = lab.knarr(&["exec", &first, "sh", "-c", spaces]);
    let script = format!("{spaces}; hostname; touch /dev/shm/from-other");
    let said = lab.knarr(&[&["run", "--rm"], &shared[..], &["base:1", "sh", "-c", &script]].concat());
    assert_eq!(said, format!("{own}front\n"));
    lab.knarr(&["exec", &first, "test", "-e", "/dev/shm/from-other"]);

    // It follows the other one's life, whatever that is called now.
    stays(&lab, &second, &shared[..2]);
    assert_eq!(field(&lab, &second, "{{.HostConfig.NetworkMode}}"), format!("container:{id}"));
    lab.knarr(&["stop", "-t", "0", &second, &first]);
    let refused = lab.0.knarr(&["start", &second]).failed();
    assert!(refused.contains("cannot join network of a non running container"), "{refused}");
    lab.knarr(&["start", &first]);
    lab.knarr(&["start", &second]);
    let space = |name: &str| lab.knarr(&["exec", name, "readlink", "/proc/self/ns/net"]);
    assert_eq!(space(&second), space(&first));
    for (more, words) in [
        (&["-h", "x"][..], "conflicting options: hostname and the network mode"),
        (&["-p", "80"], "conflicting options: port publishing and the container type network mode"),
    ] {
        let refused = lab.0.knarr(&[&["run", "--rm"], &shared[..2], more, &["base:1", "true"]].concat());
        assert!(refused.failed().contains(words));
    }
    let refused = lab.0.knarr(&["run", "--rm", "--pid", "container:none-such", "base:1", "true"]).failed();
    assert!(refused.contains("No such container: none-such"), "{refused}");
}

#[test]
fn options_that_few_need() {
    let lab = Lab::new();
    let said = |more: &[&str], script: &str| {
        let words = [&["run", "--rm"], more, &["base:1", "sh", "-c", script]].concat();
        lab.knarr(&words)
    };
    let name =
        said(&["-h", "mine", "--domainname", "example.org"], "hostname; cat /proc/sys/kernel/domainname");
    assert_eq!(name, "mine\nexample.org\n");
    assert_eq!(said(&["--network", "host", "--hostname", "other"], "hostname"), "other\n");
    assert_eq!(
        said(&["--uts", "host"], "hostname"),
        std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap()
    );
    assert_eq!(said(&["-a", "stdout"], "echo out; echo err >&2"), "out\n");
    let group = format!("lab-parent-{}", std::process::id());
    let groups = said(&["--cgroupns", "host", "--cgroup-parent", &group], "cat /proc/self/cgroup");
    assert!(groups.contains(&format!("/{group}/")), "{groups}");
    said(&["--device-cgroup-rule", "c 42:* rmw", "--annotation", "a=b", "--memory", "0.5g"], "true");
    for (more, words) in [
        (&["--gpus", "all"][..], "could not select device driver \"\" with capabilities: [[gpu]]"),
        (&["--uts", "host", "-h", "x"], "conflicting options: hostname and the UTS mode"),
        (&["--userns", "keep-id"], "invalid USER mode"),
        (&["--blkio-weight", "5"], "range of blkio weight is from 10 to 1000"),
        (&["--log-driver", "syslog"], "error looking up logging plugin syslog"),
        (&["-a", "stdin", "-d"], "Conflicting options: -a and -d"),
        (&["-a", "nothing"], "valid streams are STDIN, STDOUT and STDERR"),
        (
            &["--pull", "never", "--platform", "linux/s390x"],
            "does not provide the specified platform (linux/s390x)",
        ),
        (&["-i", "-t"], "the input device is not a TTY"),
    ] {
        let refused = lab.0.knarr(&[&["run", "--rm"], more, &["base:1", "true"]].concat()).failed();
        assert!(refused.contains(words), "{more:?}: {refused}");
    }
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
        // Made for the container, as Docker leaves it: above its own.
        let _absent = std::fs::remove_dir(hierarchy.unwrap().path().join(&group));
    }
    let _absent = std::fs::remove_dir(format!("/sys/fs/cgroup/{group}"));
}

#[test]
fn a_container_without_logs_and_one_with_another_policy() {
    let (lab, quiet, mended) = (Lab::new(), named("no-logs"), named("policy"));
    stays(&lab, &quiet, &["--log-driver", "none"]);
    let refused = lab.0.knarr(&["logs", &quiet]).failed();
    assert!(refused.contains("configured logging driver does not support reading"), "{refused}");
    lab.knarr(&["create", "--name", &mended, "base:1", "false"]);
    assert_eq!(lab.knarr(&["logs", &mended]), "");
    lab.knarr(&["update", "--restart", "on-failure:2", &mended]);
    assert_eq!(field(&lab, &mended, "{{.HostConfig.RestartPolicy.Name}}"), "on-failure");
    lab.knarr(&["start", &mended]);
    eventually("it was started again twice", Duration::from_secs(60), || {
        let now = field(&lab, &mended, "{{.RestartCount}} {{.State.Status}}");
        if now == "2 exited" { Ok(()) } else { Err(now) }
    });
    let refused = lab.0.knarr(&["update", &mended]).failed();
    assert!(refused.contains("you must provide one or more flags"), "{refused}");
    let refused = lab.0.knarr(&["update", "--restart", "sometimes", &mended]).failed();
    assert!(refused.contains("invalid restart policy: unknown policy 'sometimes'"), "{refused}");
}
