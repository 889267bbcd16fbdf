//! Which of the two sides makes what, and when, in the cases where the order depends on the host: read as the names of
//! the steps, for a whole plan.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use super::{Host, Options, Plan, Side, Step};
use crate::cgroups::layout::{Hierarchy, Layout};
use crate::intel_rdt::Resctrl;
use crate::spec;
use serde_json::{Value, json};

fn hierarchy(controllers: &[&str]) -> Hierarchy {
    Hierarchy {
        controllers: controllers.iter().map(|name| (*name).to_string()).collect(),
        mount: "/sys/fs/cgroup".into(),
        own: "".into(),
    }
}

fn first() -> Layout {
    Layout::V1(vec![hierarchy(&["memory"]), hierarchy(&["pids"])])
}

fn hybrid() -> Layout {
    Layout::V1(vec![hierarchy(&["memory"]), hierarchy(&[])])
}

fn second() -> Layout {
    Layout::V2(hierarchy(&[]))
}

/// The names of what comes before anything is mounted, on one side.
fn beginning(layout: Layout, linux: &Value, side: Side) -> Vec<&'static str> {
    let mut linux = linux.clone();
    linux["resources"] = json!({"pids": {"limit": 5}});
    let document = json!({
        "ociVersion": "1.3.0", "root": {"path": "rootfs"}, "process": {"cwd": "/", "args": ["sh"], "user": {}}, "linux": linux,
    });
    let spec = spec::parse(document.to_string().as_bytes()).unwrap();
    let options = Options { id: "c".into(), bundle: "/b".into(), no_new_keyring: true, ..Options::default() };
    let host = Host { layout, kcore: false, selinux: false, resctrl: Resctrl::default() };
    let plan = Plan::new(&spec, &options, &host).unwrap();
    let names = plan.side(side).map(Step::name);
    names.take_while(|name| *name != "detach from host" && *name != "await init").collect()
}

#[test]
fn a_network_is_made_beside_the_cgroups_of_version_1() {
    let own = json!({"namespaces": [{"type": "mount"}, {"type": "network"}]});
    let runtime = ["clone", "create cgroups", "limit cgroups", "open cgroups", "release init"];
    assert_eq!(beginning(first(), &own, Side::Runtime), runtime);
    let init = ["new network", "loopback", "await release", "enter cgroups"];
    assert_eq!(beginning(first(), &own, Side::Init)[..4], init);
    assert_eq!(
        beginning(hybrid(), &own, Side::Runtime),
        [&["create unified cgroup"], &runtime[..]].concat(),
        "the clone enters the one of version 2"
    );
}

#[test]
fn cgroups_come_before_the_clone_where_nothing_is_made_beside_them() {
    let usual = ["create cgroups", "limit cgroups", "open cgroups", "clone"];
    let joined = json!({"namespaces": [{"type": "mount"}, {"type": "network", "path": "/run/netns/a"}]});
    assert_eq!(beginning(first(), &joined, Side::Runtime), usual);
    assert_eq!(beginning(first(), &joined, Side::Init)[0], "enter cgroups");
    let users = json!({
        "namespaces": [{"type": "mount"}, {"type": "network"}, {"type": "user"}],
        "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
        "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
    });
    assert_eq!(beginning(first(), &users, Side::Runtime)[..4], usual, "init has no rights to them");
    let device = json!({"namespaces": [{"type": "mount"}, {"type": "network"}], "netDevices": {"eth1": {}}});
    assert_eq!(beginning(first(), &device, Side::Runtime)[..4], usual, "a device needs a network to go to");
    let own = json!({"namespaces": [{"type": "mount"}, {"type": "network"}]});
    let runtime = beginning(second(), &own, Side::Runtime);
    let place = |wanted: &str| runtime.iter().position(|name| *name == wanted).unwrap();
    assert!(place("create cgroups") < place("clone"), "{runtime:?}");
}
