//! Joining namespaces that exist, every kind by its path, as pods and `--network container:` do.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::bundle::Bundle;
use knarr_tests::skip::skip;
use serde_json::{Value, json};
use std::process::Command;

/// The kinds by their names in `config.json` and in `/proc/PID/ns`.
const KINDS: &[(&str, &str)] = &[
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

const TELL: &str = "for n in pid net ipc uts cgroup time user; do echo $n=$(readlink /proc/self/ns/$n); done";

fn pid(bundle: &Bundle) -> i64 {
    let state: Value = serde_json::from_str(&bundle.call("state", &[]).ok()).unwrap();
    state["pid"].as_i64().unwrap()
}

/// A container that has one of every kind, and its init.
fn owner(change: impl FnOnce(&mut Bundle)) -> (Bundle, i64) {
    let mut bundle = Bundle::shell("sleep 1000");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.extend([json!({"type": "cgroup"}), json!({"type": "time"})]);
    change(&mut bundle);
    bundle.start();
    let pid = pid(&bundle);
    (bundle, pid)
}

fn link(pid: i64, name: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_str().unwrap().to_string()
}

/// Makes the bundle join that namespace of a process.
fn join(bundle: &mut Bundle, kind: &str, name: &str, pid: i64) {
    let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
    list.retain(|namespace| namespace["type"] != kind);
    list.push(json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")}));
    if kind == "uts" {
        bundle.config.as_object_mut().unwrap().remove("hostname");
    }
}

#[test]
fn a_new_network_has_its_loopback_and_a_joined_one_is_left_as_it_is() {
    // Flags of a link: 1 is up, 8 a loopback.
    const FLAGS: &str = "cat /sys/class/net/lo/flags";
    let fresh = Bundle::shell(FLAGS);
    assert_eq!(fresh.run().ok(), "0x9\n");
    fresh.assert_gone();
    // Whoever made a namespace for it decides about its devices.
    let mut holder = Command::new("unshare").args(["--net", "sleep", "1000"]).spawn().unwrap();
    let mut joined = Bundle::shell(FLAGS);
    knarr_tests::eventually::eventually("a network of its own", std::time::Duration::from_secs(60), || {
        let own = link(i64::from(holder.id()), "net");
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
        if own == ours { Err(own) } else { Ok(()) }
    });
    join(&mut joined, "network", "net", holder.id().into());
    let told = joined.run();
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(told.ok(), "0x8\n");
    joined.assert_gone();
}

#[test]
fn each_kind_alone_and_all_together() {
    let (_owner, owner) = owner(|_| {});
    let mut all = Bundle::shell(TELL);
    for (kind, name) in KINDS {
        let mut bundle = Bundle::shell(TELL);
        join(&mut bundle, kind, name, owner);
        let told = bundle.run().ok();
        let own = |name: &str| format!("{name}={}\n", link(owner, name));
        assert!(told.contains(&own(name)), "{kind}: {told}");
        let elsewhere =
            KINDS.iter().filter(|(other, _)| other != kind && !["cgroup", "time"].contains(other));
        for (_, other) in elsewhere {
            assert!(!told.contains(&own(other)), "{kind}: {told}");
        }
        bundle.assert_gone();
        join(&mut all, kind, name, owner);
    }
    let told = all.run().ok();
    for (_, name) in KINDS {
        assert!(told.contains(&format!("{name}={}\n", link(owner, name))), "{name}: {told}");
    }
    // Its pid namespace goes on without it.
    assert_eq!(pid(&_owner), owner);
}

#[test]
fn a_user_namespace_with_what_belongs_to_it() {
    let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
    let (_owner, owner) = owner(|bundle| {
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map.clone();
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    });
    let mut bundle = Bundle::shell(TELL);
    for (kind, name) in [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")]
    {
        join(&mut bundle, kind, name, owner);
    }
    let told = bundle.run().ok();
    for name in ["user", "net", "ipc", "uts", "pid"] {
        assert!(told.contains(&format!("{name}={}\n", link(owner, name))), "{name}: {told}");
    }
}

#[test]
fn a_mount_namespace_that_exists() {
    // Somebody else's: a process that only holds it.
    let mut holder = Command::new("unshare");
    holder.args([
        "-m",
        "--propagation",
        "private",
        "/bin/busybox",
        "sh",
        "-c",
        "echo ready; exec sleep 1000",
    ]);
    let mut holder = holder.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut ready = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut ready)
        .unwrap();
    let mut bundle = Bundle::shell("readlink /proc/self/ns/mnt; cat /etc/passwd");
    join(&mut bundle, "mount", "mnt", i64::from(holder.id()));
    let expected = link(i64::from(holder.id()), "mnt");
    let said = bundle.run();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let told = said.ok();
    assert_eq!(told, format!("{expected}\nroot:x:0:0:root:/root:/bin/sh\n"));
    bundle.assert_gone();
}

#[test]
fn what_is_no_such_namespace_is_an_error_with_its_path() {
    let own = "/proc/self/ns/uts";
    for (kind, path) in
        [("ipc", own), ("network", "/proc/self/ns/none"), ("network", "/etc/passwd"), ("uts", "relative")]
    {
        let mut bundle = Bundle::shell("true");
        let list = bundle.config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != kind);
        list.push(json!({"type": kind, "path": path}));
        let said = bundle.run().failed();
        assert!(said.contains(path), "{kind} {path}: {said}");
        bundle.assert_gone();
    }
}

/// What a joined namespace belongs to is not the container's to change or to take along.
#[test]
fn the_namespaces_outlive_who_joined_them() {
    let (owner, init) = owner(|_| {});
    let mut bundle = Bundle::shell("sleep 1000");
    for (kind, name) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        join(&mut bundle, kind, name, init);
    }
    bundle.start();
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
    assert_eq!(owner.status(), "running");
    assert_eq!(owner.call_with("exec", &[], &["hostname"]).ok(), "lab\n");
    assert_eq!(bins::run(&mut owner.command(&["list", "--quiet"])).ok(), format!("{}\n", owner.id));
}

/// The options of the version 2 tree belong to all its mounts in the initial cgroup namespace: a container's mount must
/// not take them away from the host.
#[test]
fn without_a_cgroup_namespace_the_hosts_tree_is_shown_and_keeps_its_options() {
    let host = || {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        mounts.lines().find(|line| line.contains(" /sys/fs/cgroup cgroup2 ")).map(str::to_owned)
    };
    let Some(before) = host() else {
        let why = "/sys/fs/cgroup is not version 2 here (the virtual machine's is)";
        return skip("without_a_cgroup_namespace_the_hosts_tree_is_shown_and_keeps_its_options", why);
    };
    let remount = |options: &str| {
        let options = format!("remount,rw,nosuid,nodev,noexec{options}");
        bins::run(Command::new("mount").args(["-o", &options, "/sys/fs/cgroup"])).ok()
    };
    if !before.contains("nsdelegate") {
        remount(",nsdelegate");
    }
    let told = Bundle::report(
        "cat /sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/cgroup.procs",
        |config| {
            let view = json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]});
            config["mounts"].as_array_mut().unwrap().push(view);
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|kind| kind["type"] != "cgroup");
        },
    );
    let after = host().unwrap();
    if !before.contains("nsdelegate") {
        remount("");
    }
    assert!(told.lines().any(|pid| pid == "1"), "its own cgroup is in the tree: {told:?}");
    assert!(after.contains("nsdelegate"), "{after}");
}

/// The ids of the tree are mapped as those of the namespace, whose maps the configuration does not name.
#[test]
fn an_idmapped_mount_in_a_user_namespace_that_is_joined() {
    let reachable = |bundle: &Bundle| {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bundle.path(), open).unwrap();
        std::fs::create_dir_all(bundle.rootfs().join("dev/pts")).unwrap();
    };
    let (_owner, pid) = owner(|bundle| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        bundle.config["linux"]["uidMappings"] = map.clone();
        bundle.config["linux"]["gidMappings"] = map;
        bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        reachable(bundle);
    });
    let mut bundle = Bundle::shell("stat -c %u /mapped/f");
    reachable(&bundle);
    join(&mut bundle, "user", "user", pid);
    let source = bundle.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "").unwrap();
    std::fs::create_dir_all(bundle.rootfs().join("mapped")).unwrap();
    let mapped =
        json!({"destination": "/mapped", "type": "bind", "source": source, "options": ["bind", "idmap"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(mapped);
    assert_eq!(bundle.run().ok(), "0\n");
}
