//! Networks of the driver macvlan: containers are neighbours of what is on a link of this machine, or of each other alone
//! where there is none; in Docker's words.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::run_lab::{Lab, named};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A wire of this machine's: the machine itself is at its other end, with the first address of the range.
struct Cable {
    name: String,
    third: u32,
}

impl Cable {
    fn new() -> Self {
        let number = std::process::id() % 64 * 4 + NEXT.fetch_add(1, Ordering::Relaxed) % 4;
        let cable = Self { name: format!("kmv{number}"), third: number };
        let far = cable.far();
        cable.ip(&["link", "add", &cable.name, "type", "veth", "peer", "name", &far]);
        cable.ip(&["link", "set", &cable.name, "up"]);
        cable.ip(&["link", "set", &far, "up"]);
        cable.ip(&["address", "add", &format!("{}/24", cable.address(1)), "dev", &far]);
        cable
    }

    fn far(&self) -> String {
        format!("{}x", self.name)
    }

    fn address(&self, n: u32) -> String {
        format!("10.151.{}.{n}", self.third)
    }

    fn ip(&self, arguments: &[&str]) {
        assert!(Command::new("ip").args(arguments).status().unwrap().success(), "ip {arguments:?}");
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["link", "delete", &self.name]).status();
    }
}

fn stays(lab: &Lab, name: &str, more: &[&str]) {
    lab.knarr(&[&["run", "-d", "--name", name], more, &["base:1", "sleep", "3600"]].concat());
}

fn inside(lab: &Lab, name: &str, script: &str) -> String {
    lab.knarr(&["exec", name, "sh", "-c", script]).trim().to_owned()
}

fn reaches(lab: &Lab, name: &str, other: &str) -> bool {
    lab.0.knarr(&["exec", name, "busybox", "ping", "-c", "1", "-W", "3", other]).code == 0
}

#[test]
fn containers_stand_on_a_link_of_the_machine() {
    let (lab, cable, one, two) = (Lab::new(), Cable::new(), named("wire-one"), named("wire-two"));
    let subnet = format!("{}/24", cable.address(0));
    let parent = format!("parent={}", cable.name);
    lab.knarr(&["network", "create", "-d", "macvlan", "--subnet", &subnet, "-o", &parent, "lan"]);
    let wanted = cable.address(77);
    stays(&lab, &one, &["--network", "lan", "--ip", &wanted]);
    stays(&lab, &two, &["--network", "lan"]);
    assert!(reaches(&lab, &one, &cable.address(1)), "the machine at the other end");
    assert!(reaches(&lab, &two, &wanted) && reaches(&lab, &two, &one), "each other, by name too");
    let way = inside(&lab, &one, "ip route | awk '/^default/ {print $3, $5}'");
    assert_eq!(way, format!("{} eth0", cable.address(1)));

    let document: Value = serde_json::from_str(&lab.knarr(&["network", "inspect", "lan"])).unwrap();
    assert_eq!(
        (&document[0]["Driver"], &document[0]["Options"]["parent"]),
        (&"macvlan".into(), &cable.name[..].into())
    );
    assert_eq!(
        lab.knarr(&["network", "ls", "-f", "driver=macvlan", "--format", "{{.Name}} {{.Driver}}"]),
        "lan macvlan\n"
    );

    lab.knarr(&["network", "disconnect", "lan", &two]);
    assert_eq!(inside(&lab, &two, "ls /sys/class/net"), "lo");
    lab.knarr(&["network", "connect", "--ip", &cable.address(99), "lan", &two]);
    assert!(reaches(&lab, &one, &cable.address(99)));
    lab.knarr(&["restart", "-t", "0", &one]);
    assert!(reaches(&lab, &two, &wanted), "a restart keeps the address");
    lab.knarr(&["rm", "-f", &one, &two]);
    lab.knarr(&["network", "rm", "lan"]);
    assert!(Path::new("/sys/class/net").join(&cable.name).exists(), "it was there before");
}

#[test]
fn without_a_link_containers_have_each_other() {
    let (lab, one, two) = (Lab::new(), named("inner-one"), named("inner-two"));
    let subnet = format!("10.152.{}.0/24", std::process::id() % 256);
    let id = lab.knarr(&["network", "create", "-d", "macvlan", "--subnet", &subnet, "inner"]);
    let link = Path::new("/sys/class/net").join(format!("dm-{}", &id[..12]));
    assert!(link.exists());
    stays(&lab, &one, &["--network", "inner"]);
    stays(&lab, &two, &["--network", "bridge"]);
    lab.knarr(&["network", "connect", "inner", &two]);
    assert!(reaches(&lab, &one, &two));
    assert_eq!(inside(&lab, &one, "ip route | grep -c ^default || true"), "0");
    assert_eq!(inside(&lab, &two, "ip route | awk '/^default/ {print $5}'"), "eth0");
    lab.knarr(&["rm", "-f", &one, &two]);
    lab.knarr(&["network", "rm", "inner"]);
    assert!(!link.exists());
}

#[test]
fn what_cannot_be_is_said_when_it_is_asked_for() {
    let (lab, cable) = (Lab::new(), Cable::new());
    let create = |more: &[&str]| lab.0.knarr(&[&["network", "create", "-d"], more].concat()).failed();
    let parent = format!("parent={}", cable.name);
    lab.knarr(&["network", "create", "-d", "macvlan", "-o", &parent, "-o", "macvlan_mode=passthru", "alone"]);
    for (asked, words) in [
        (&["macvlan", "-o", "parent=lo", "x"][..], "loopback interface is not a valid macvlan parent link"),
        (
            &["macvlan", "-o", "parent=none-such", "x"],
            "invalid subinterface vlan name none-such, example formatting is eth0.10",
        ),
        (&["macvlan", "-o", "macvlan_mode=loud", "x"], "requested macvlan mode 'loud' is not valid"),
        (&["macvlan", "-o", &parent, "x"], "in mode passthru"),
        (&["ipvlan", "x"], "plugin \"ipvlan\" not found"),
    ] {
        let refused = create(asked);
        assert!(refused.contains(words), "{asked:?}: {refused}");
    }
    assert_eq!(lab.knarr(&["network", "rm", "alone"]), "alone\n");
}
