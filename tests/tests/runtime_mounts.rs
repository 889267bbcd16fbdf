//! `mounts add` and `mounts remove`: what is mounted in a container while it runs.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::bundle::Bundle;
use serde_json::{Value, json};

fn mounts(bundle: &Bundle, verb: &str, document: &Value) -> Said {
    let file = bundle.path().join("mounts.json");
    std::fs::write(&file, document.to_string()).unwrap();
    bins::run(&mut bundle.command(&["mounts", verb, &bundle.id, file.to_str().unwrap()]))
}

fn inside(bundle: &Bundle, script: &str) -> Said {
    bundle.call_with("exec", &[], &["sh", "-c", script])
}

fn host_directory(bundle: &Bundle) -> std::path::PathBuf {
    let source = bundle.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "from the host\n").unwrap();
    source
}

#[test]
fn mounts_come_and_go_while_the_program_runs() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let source = host_directory(&bundle);
    let document = json!({"mounts": [
        {"destination": "/new/dir", "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid"]},
        {"destination": "/new/file", "type": "bind", "source": source.join("f"), "options": ["bind"]},
        {"destination": "/memory", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k", "noexec"]},
        {"destination": "/again", "type": "proc", "source": "proc"},
    ]});
    mounts(&bundle, "add", &document).ok();
    let out = inside(
        &bundle,
        "cat /new/dir/f /new/file; touch /new/dir/g 2>&1; touch /memory/ok; grep ' /memory ' /proc/self/mountinfo; \
         cat /again/1/cmdline",
    );
    for text in ["from the host\nfrom the host", "Read-only file system", "noexec", "size=64k", "sleep\0"] {
        assert!(out.out.contains(text), "{text}: {out:?}");
    }
    // The list alone will do, too.
    mounts(&bundle, "remove", &document["mounts"]).ok();
    let out = inside(&bundle, "grep -cE ' (/new|/memory|/again)' /proc/self/mountinfo; ls /new/dir").out;
    assert_eq!(out, "0\n");
    assert_eq!(bundle.status(), "running");
}

#[test]
fn a_container_with_users_of_its_own_owns_what_is_mounted_for_it() {
    let mut bundle = Bundle::shell("sleep 1000");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.path(), open).unwrap();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    for name in ["dev/pts", "memory", "data"] {
        std::fs::create_dir_all(bundle.rootfs().join(name)).unwrap();
    }
    let source = host_directory(&bundle);
    // A directory that nobody but root of the host may enter.
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    let shut = bundle.path().join("shut");
    std::fs::create_dir(&shut).unwrap();
    std::fs::rename(&source, shut.join("source")).unwrap();
    std::fs::set_permissions(&shut, closed).unwrap();
    bundle.start();
    let document = json!([
        {"destination": "/memory", "type": "tmpfs", "source": "tmpfs"},
        {"destination": "/data", "type": "bind", "source": shut.join("source"), "options": ["bind"]},
    ]);
    mounts(&bundle, "add", &document).ok();
    let out = inside(&bundle, "stat -c %u /memory; touch /memory/x && cat /data/f").ok();
    assert_eq!(out, "0\nfrom the host\n");
}

#[test]
fn links_lead_nowhere_outside() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let outside = bundle.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, bundle.rootfs().join("link")).unwrap();
    mounts(&bundle, "add", &json!([{"destination": "/link/x", "type": "tmpfs", "source": "tmpfs"}])).ok();
    assert!(!outside.join("x").exists());
    let inside_root = bundle.rootfs().join(outside.strip_prefix("/").unwrap()).join("x");
    assert!(inside_root.exists(), "made beneath the root");
}

#[test]
fn mistakes_are_named_and_change_nothing() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.create().ok();
    for (verb, document, why) in [
        (
            "add",
            json!([{"destination": "/x", "type": "bind", "source": "/nonexistent", "options": ["bind"]}]),
            "no such file",
        ),
        ("add", json!([{"type": "tmpfs"}]), "destination is missing"),
        ("add", json!({"mounts": 7}), "mounts: invalid type"),
        ("remove", json!([{"destination": "/tmp"}]), "error unmounting \"/tmp\""),
        ("remove", json!([{"destination": "/"}]), "cannot be unmounted"),
        ("change", json!([]), "unknown command change"),
    ] {
        let error = mounts(&bundle, verb, &document).failed().replace('\\', "");
        assert!(error.contains(why), "{why}: {error}");
    }
    assert_eq!(bundle.status(), "created");
    bundle.call("delete", &["--force"]).ok();
    assert!(mounts(&bundle, "add", &json!([])).failed().contains("container does not exist"));
    bundle.assert_gone();
}

/// Engines mount volumes and images of their own as overlays, whose layers have long paths.
#[test]
fn options_may_be_longer_than_one_call_takes() {
    let mut bundle = Bundle::shell(
        "cat /over/0 /over/1 /over/2; touch /over/new 2>&1; grep ' /over ' /proc/self/mountinfo",
    );
    let layers: Vec<String> = (0..3)
        .map(|number| {
            let layer = bundle.path().join(format!("{number}{}", "x".repeat(200)));
            std::fs::create_dir(&layer).unwrap();
            std::fs::write(layer.join(number.to_string()), format!("layer {number}\n")).unwrap();
            layer.to_str().unwrap().to_owned()
        })
        .collect();
    let options = [format!("lowerdir={}", layers.join(":")), "nosuid".to_owned(), "noatime".to_owned()];
    let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/over", "type": "overlay", "source": "overlay", "options": options}));
    let out = bundle.run();
    for text in
        ["layer 0\nlayer 1\nlayer 2\n", "Read-only file system", "nosuid", "noatime", " - overlay overlay "]
    {
        assert!(out.out.contains(text), "{text}: {out:?}");
    }
    assert_eq!(out.out.matches(" /over ").count(), 1, "nothing is left of how it was made: {out:?}");
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before, "the host sees nothing");
    let plan = bundle.command(&["plan", "--bundle", bundle.path().to_str().unwrap()]).output().unwrap();
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.contains("mount(\"overlay\", \"lowerdir="), "{plan}");
}
