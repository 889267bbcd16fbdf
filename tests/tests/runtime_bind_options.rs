//! Options of a bind mount against what its source has: they replace it, as runc takes them, but for what a user
//! namespace locks.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::bundle::Bundle;
use serde_json::json;
use std::os::unix::fs::PermissionsExt;

/// Options of the source, of the bind mount, and what the container sees.
type Case = (&'static str, &'static str, &'static str);

/// Runs a container with one mount for each case, in a mount namespace where the sources have their options.
fn run(bundle: &mut Bundle, cases: &[Case]) -> Said {
    let mut setup = String::new();
    for (index, (source, words, _)) in cases.iter().enumerate() {
        let path = bundle.path().join(format!("source{index}"));
        std::fs::create_dir(&path).unwrap();
        let path = path.display();
        setup += &format!("mount -t tmpfs t {path} && mount -o remount,bind,{source} {path} || exit 1\n");
        let words: Vec<&str> = words.split(',').collect();
        let mount = json!({"destination": format!("/to/{index}"), "type": "bind", "source": path.to_string(), "options": words});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        std::fs::create_dir_all(bundle.rootfs().join(format!("to/{index}"))).unwrap();
    }
    let path = bundle.path().to_str().unwrap().to_string();
    let inner = bundle.command(&["run", "--bundle", &path, &bundle.id]);
    let mut outer = std::process::Command::new("unshare");
    outer.args(["-m", "sh", "-c", &format!("{setup}exec \"$@\""), "sh"]);
    bins::run(outer.arg(inner.get_program()).args(inner.get_args()))
}

fn shows() -> Bundle {
    Bundle::shell(
        "while read -r a b c d place options rest; do case $place in /to/*) echo $place $options;; esac; \
         done < /proc/self/mountinfo",
    )
}

fn with_users(mut bundle: Bundle) -> Bundle {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    std::fs::set_permissions(bundle.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::create_dir_all(bundle.rootfs().join("dev/pts")).unwrap();
    bundle
}

fn expect(mut bundle: Bundle, cases: &[Case]) {
    let said = run(&mut bundle, cases).ok();
    let seen: Vec<&str> = said.lines().collect();
    for (index, (source, words, expected)) in cases.iter().enumerate() {
        assert!(seen.contains(&format!("/to/{index} {expected}").as_str()), "{words} of {source}: {said}");
    }
}

#[test]
fn words_replace_what_the_source_has() {
    expect(
        shows(),
        &[
            ("ro,noexec,nodiratime", "bind", "ro,noexec,nodiratime,relatime"),
            ("ro,noexec,nodiratime", "bind,rprivate", "ro,noexec,nodiratime,relatime"),
            ("ro,noexec,nodiratime", "bind,dev", "rw,nodiratime,relatime"),
            ("ro", "bind,nosuid,nodev,rprivate", "rw,nosuid,nodev,relatime"),
            ("ro", "bind,rw", "rw,relatime"),
            ("nosuid,nodev,noexec,noatime", "bind,dev,suid,exec,atime", "rw,noatime"),
            ("nosuid,nodev,noexec,noatime", "bind,ro", "ro,noatime"),
            ("noatime", "bind,norelatime", "rw,noatime"),
            ("noatime", "bind,relatime", "rw,relatime"),
            ("noatime", "bind,nodiratime", "rw,nodiratime,relatime"),
            ("nodiratime", "bind,strictatime", "rw"),
            ("noatime", "bind,nodiratime,strictatime", "rw,nodiratime"),
        ],
    );
}

#[test]
fn what_a_user_namespace_locks_stays() {
    expect(
        with_users(shows()),
        &[
            ("ro,noexec,nodiratime", "bind", "ro,noexec,nodiratime,relatime"),
            ("ro,noexec,nodiratime", "bind,dev", "ro,noexec,nodiratime,relatime"),
            ("ro", "bind,nosuid,nodev,rprivate", "ro,nosuid,nodev,relatime"),
            ("nosuid,nodev,noexec,noatime", "bind,ro", "ro,nosuid,nodev,noexec,noatime"),
            ("nodev,nosuid,noatime", "bind,ro,exec", "ro,nosuid,nodev,noatime"),
            ("noatime,nodiratime", "bind,norelatime", "rw,noatime,nodiratime"),
        ],
    );
}

#[test]
fn to_unlock_by_name_is_refused() {
    for case in [
        ("ro", "bind,rw,nosuid", ""),
        ("nodev,nosuid", "bind,dev,suid,exec", ""),
        ("relatime", "bind,noatime", ""),
        ("nodiratime", "bind,strictatime", ""),
    ] {
        let mut bundle = with_users(Bundle::shell("true"));
        let said = run(&mut bundle, &[case]).failed();
        let told = ["error mounting", "/to/0", "operation not permitted"];
        assert!(told.iter().all(|part| said.contains(part)), "{case:?}: {said}");
        bundle.assert_gone();
    }
}
