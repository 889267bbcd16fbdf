//! An ordinary user runs containers: with a user namespace, without rights over anybody's cgroups.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::bundle::Bundle;
use knarr_tests::skip::skip;
use serde_json::json;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Nobody in particular.
const USER: u32 = 65534;

/// A bundle that belongs to the user, with what only the user's own id can have.
fn bundle(script: &str) -> Bundle {
    let mut bundle = Bundle::shell(script);
    let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
    let linux = &mut bundle.config["linux"];
    linux["uidMappings"] = map.clone();
    linux["gidMappings"] = map;
    linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    linux.as_object_mut().unwrap().remove("resources");
    bundle.config["mounts"][2]["options"] =
        json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
    bins::copy_program(&bins::find("knarr-runtime"), &bundle.path().join("runtime"));
    own(bundle.path());
    std::fs::set_permissions(bundle.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    bundle
}

fn own(path: &Path) {
    std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        std::fs::read_dir(path).unwrap().for_each(|entry| own(&entry.unwrap().path()));
    }
}

/// A command of the runtime, as the user.
fn call(bundle: &Bundle, args: &[&str]) -> Said {
    std::fs::write(bundle.path().join("config.json"), bundle.config.to_string()).unwrap();
    let mut command = Command::new(bundle.path().join("runtime"));
    command.arg("--root").arg(bundle.path().join("own-state")).args(args);
    bins::run(command.current_dir(bundle.path()).uid(USER).gid(USER).env("PATH", "/usr/bin:/bin"))
}

#[test]
fn a_user_is_root_inside_and_nobody_outside() {
    let bundle =
        bundle("id -u; cat /proc/self/uid_map; touch /made; grep CapEff /proc/self/status; hostname");
    let out = call(&bundle, &["run", "c1"]).ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "65534", "1", "CapEff:", "0000000020000420", "lab"], "{out}");
    let made = std::fs::metadata(bundle.rootfs().join("made")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), USER);
    assert!(!bundle.path().join("own-state/c1").exists());
}

#[test]
fn the_whole_life_without_cgroups() {
    let bundle = bundle("sleep 1000");
    call(&bundle, &["create", "c1"]).ok();
    call(&bundle, &["start", "c1"]).ok();
    assert!(call(&bundle, &["state", "c1"]).ok().contains("\"running\""));
    let said = call(&bundle, &["exec", "c1", "sh", "-c", "id -u; exit 3"]);
    assert_eq!((said.code, said.out.as_str()), (3, "0\n"), "{said:?}");
    assert!(call(&bundle, &["pause", "c1"]).failed().contains("freezer"));
    assert!(call(&bundle, &["list"]).ok().contains("c1"));
    call(&bundle, &["delete", "--force", "c1"]).ok();
    assert!(call(&bundle, &["state", "c1"]).failed().contains("container does not exist"));
}

#[test]
fn a_limit_that_nobody_handed_down_is_refused_by_name() {
    let mut bundle = bundle("true");
    bundle.config["linux"]["resources"] = json!({"memory": {"limit": 67_108_864}});
    let said = call(&bundle, &["run", "c1"]).failed();
    assert!(said.contains("cannot set memory limit: container could not join or create cgroup"), "{said}");
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 7}});
    assert!(call(&bundle, &["run", "c1"]).failed().contains("cannot set pids limit"));
}

#[test]
fn a_cgroup_that_was_handed_down_holds_its_limits() {
    let top = Path::new("/sys/fs/cgroup/pids");
    if !top.exists() {
        return skip(
            "a_cgroup_that_was_handed_down_holds_its_limits",
            "version 2 lets a user in only from a cgroup that was handed down with it, as a session's",
        );
    }
    let mut bundle = bundle("sleep 1000");
    let given = format!("knarr-tests/{}-given", bundle.id);
    let directory = top.join(&given);
    std::fs::create_dir_all(&directory).unwrap();
    own(&directory);
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{given}/c1"));
    bundle.config["linux"]["resources"] = json!({"pids": {"limit": 7}});
    call(&bundle, &["create", "c1"]).ok();
    let limit = std::fs::read_to_string(directory.join("c1/pids.max"));
    let processes = std::fs::read_to_string(directory.join("c1/cgroup.procs"));
    let deleted = call(&bundle, &["delete", "--force", "c1"]);
    let left = directory.join("c1").exists();
    std::fs::remove_dir(&directory).unwrap();
    assert_eq!(limit.unwrap().trim(), "7");
    assert_eq!(processes.unwrap().lines().count(), 1);
    deleted.ok();
    assert!(!left);
}

#[test]
fn more_ids_than_ones_own_need_the_program_that_knows_who_may() {
    let mut bundle = bundle("true");
    bundle.config["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": USER, "size": 1}, {"containerID": 1, "hostID": 4_000_000_000_u32, "size": 5}]);
    let said = call(&bundle, &["run", "c1"]).failed();
    assert!(said.contains("newuidmap"), "{said}");
}

/// What `spec --rootless` writes shows no cgroup of the host, although all of `/sys` is bound (CVE-2023-25809).
#[test]
fn the_starter_configuration_hides_the_hosts_cgroups() {
    let mut bundle = bundle("true");
    call(&bundle, &["state", "none"]).failed();
    std::fs::remove_file(bundle.path().join("config.json")).unwrap();
    let mut spec = Command::new(bundle.path().join("runtime"));
    bins::run(spec.args(["spec", "--rootless"]).current_dir(bundle.path()).uid(USER).gid(USER)).ok();
    let text = std::fs::read(bundle.path().join("config.json")).unwrap();
    bundle.config = serde_json::from_slice(&text).unwrap();
    bundle.config["process"]["terminal"] = json!(false);
    let show = "grep ' /sys/fs/cgroup ' /proc/self/mounts | tail -n 1; mkdir /sys/fs/cgroup/x && echo made";
    bundle.config["process"]["args"] = json!(["sh", "-c", format!("{show}; true")]);
    let out = call(&bundle, &["run", "c1"]).ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert!(words.len() == 6 && words[3].starts_with("ro,"), "one mount, which cannot be written: {out}");
}

#[test]
fn what_waits_for_start_can_be_joined() {
    let bundle = bundle("sleep 1000");
    call(&bundle, &["create", "c1"]).ok();
    let said = call(&bundle, &["exec", "c1", "sh", "-c", "echo joined; id -u"]);
    call(&bundle, &["delete", "--force", "c1"]).ok();
    assert_eq!(said.ok(), "joined\n0\n");
}

#[test]
fn a_container_whose_processes_cannot_all_be_killed_is_warned_of() {
    let mut bundle = bundle("true");
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    let proc = json!({"destination": "/proc", "type": "none", "source": "/proc", "options": ["rbind"]});
    bundle.config["mounts"][0] = proc;
    let said = call(&bundle, &["run", "c1"]);
    assert!(said.err.contains("no cgroup and no private pid namespace"), "{said:?}");
}

/// `/dev/ptmx` leads to the container's own terminals, whatever device is asked for there.
#[test]
fn links_stay_where_devices_are_asked_for_in_their_places() {
    let mut bundle = bundle("readlink /dev/ptmx");
    let device = json!({"path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2});
    bundle.config["linux"]["devices"] = json!([device]);
    assert_eq!(call(&bundle, &["run", "c1"]).ok(), "pts/ptmx\n");
}

/// The listener is taken out of an init that the user could not look into since its ids changed.
#[test]
fn a_supervisor_gets_the_listener_of_an_ordinary_users_filter() {
    for no_new_privileges in [true, false] {
        let mut bundle = bundle("echo decided");
        let socket = bundle.path().join("supervisor");
        let supervisor = UnixListener::bind(&socket).unwrap();
        own(&socket);
        bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
        bundle.config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "listenerMetadata": "for it",
            "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}],
        });
        assert_eq!(call(&bundle, &["run", "c1"]).ok(), "decided\n");
        let (mut told, mut text) = (supervisor.accept().unwrap().0, String::new());
        told.read_to_string(&mut text).unwrap();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&state["metadata"], &state["fds"]), (&json!("for it"), &json!(["seccompFd"])));
    }
}
