//! A container without a mount namespace: its root is changed to, its mounts stand among the host's, and go with it.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::bundle::Bundle;
use serde_json::json;

/// No mount namespace, and nothing that would need one.
fn without(script: &str) -> Bundle {
    let mut bundle = Bundle::shell(script);
    let linux = bundle.config["linux"].as_object_mut().unwrap();
    linux["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "mount");
    linux.remove("maskedPaths");
    linux.remove("readonlyPaths");
    bundle
}

/// Where something is mounted below the bundle, as this process sees it.
fn mounts(bundle: &Bundle) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = bundle.path().to_str().unwrap();
    let place = |line: &str| line.split(' ').nth(4).map(String::from);
    table.lines().filter_map(place).filter_map(|p| p.strip_prefix(root).map(String::from)).collect()
}

fn mount_namespace(path: &str) -> String {
    std::fs::read_link(path).unwrap().display().to_string()
}

#[test]
fn the_program_sees_its_root_and_the_host_sees_the_mounts_until_the_end() {
    let bundle =
        without("ls /; pwd; readlink /proc/self/ns/mnt; echo $$; touch /dev/x && rm /dev/x; cat /etc/passwd");
    let out = bundle.run().ok();
    let own = mount_namespace("/proc/self/ns/mnt");
    let expected = format!("bin\ndev\netc\nproc\nsys\ntmp\n/\n{own}\n1\nroot:x:0:0:root:/root:/bin/sh\n");
    assert_eq!(out, expected);
    bundle.assert_gone();
    // The image is as it was: what stood in it were mounts.
    assert_eq!(std::fs::read_dir(bundle.rootfs().join("dev")).unwrap().count(), 0);
}

#[test]
fn more_processes_and_mounts_go_where_it_is() {
    let bundle = without("sleep 1000");
    bundle.start();
    assert_eq!(mounts(&bundle), ["/rootfs", "/rootfs/proc", "/rootfs/dev", "/rootfs/dev/pts", "/rootfs/sys"]);
    let out =
        bundle.call_with("exec", &[], &["sh", "-c", "ls /; readlink /proc/1/exe; cat /etc/passwd"]).ok();
    assert_eq!(out, "bin\ndev\netc\nproc\nsys\ntmp\n/bin/busybox\nroot:x:0:0:root:/root:/bin/sh\n");
    let source = bundle.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "there\n").unwrap();
    let list = bundle.path().join("mounts.json");
    let wanted =
        json!([{"destination": "/tmp", "type": "bind", "source": source, "options": ["bind", "ro"]}]);
    std::fs::write(&list, wanted.to_string()).unwrap();
    let change = |verb: &str| {
        bins::run(&mut bundle.command(&["mounts", verb, &bundle.id, list.to_str().unwrap()])).ok();
    };
    change("add");
    assert_eq!(bundle.call_with("exec", &[], &["cat", "/tmp/f"]).ok(), "there\n");
    assert!(!std::path::Path::new("/tmp/f").exists());
    change("remove");
    assert!(!mounts(&bundle).contains(&"/rootfs/tmp".to_string()), "{:?}", mounts(&bundle));
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
    assert!(bundle.rootfs().join("bin/busybox").exists());
}

#[test]
fn a_read_only_root_is_read_only_for_the_container_alone() {
    let mut bundle = without("touch /x; touch /dev/x && echo made");
    bundle.config["root"]["readonly"] = json!(true);
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str()), (0, "made\n"), "{said:?}");
    assert!(said.err.contains("Read-only file system"), "{said:?}");
    std::fs::write(bundle.rootfs().join("x"), "").unwrap();
    bundle.assert_gone();
}

#[test]
fn a_root_that_was_a_mount_already_stays_one() {
    let bundle = without("touch /from-inside");
    let root = bundle.rootfs();
    let mount = |words: &[&str]| {
        assert!(
            std::process::Command::new(words[0]).args(&words[1..]).status().unwrap().success(),
            "{words:?}"
        );
    };
    let other = bundle.path().join("other");
    std::fs::rename(&root, &other).unwrap();
    std::fs::create_dir(&root).unwrap();
    mount(&["mount", "--bind", other.to_str().unwrap(), root.to_str().unwrap()]);
    let code = bundle.run().code;
    let left = mounts(&bundle);
    mount(&["umount", root.to_str().unwrap()]);
    assert_eq!((code, left), (0, vec!["/rootfs".to_string()]));
    assert!(other.join("from-inside").exists());
}

#[test]
fn nothing_is_left_of_one_that_could_not_be_made() {
    let mut bundle = without("true");
    bundle.config["process"]["args"] = json!(["/nonexistent"]);
    let error = bundle.run().failed();
    assert!(error.contains("no such file or directory"), "{error}");
    bundle.assert_gone();
}

#[test]
fn what_would_change_the_host_is_refused() {
    for (field, value, why) in [
        (
            "maskedPaths",
            json!(["/proc/keys"]),
            "unable to restrict sys entries without a private MNT namespace",
        ),
        (
            "readonlyPaths",
            json!(["/proc/sys"]),
            "unable to restrict sys entries without a private MNT namespace",
        ),
        ("rootfsPropagation", json!("shared"), "unable to set propagation without a private MNT namespace"),
    ] {
        let mut bundle = without("true");
        bundle.config["linux"][field] = value;
        let error = bundle.run().failed();
        assert!(error.contains(why), "{field}: {error}");
        bundle.assert_gone();
    }
}
