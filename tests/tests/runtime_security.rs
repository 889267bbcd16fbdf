//! Known escapes, performed. Each test is named after what the attacker tries; the number is that of the advisory.

use knarr_tests::bundle::Bundle;
use serde_json::json;
use std::os::unix::fs::symlink;
use std::path::Path;

/// CVE-2021-30465, CVE-2024-45310: a mount target that leads out of the root.
#[test]
fn a_mount_target_that_is_a_link_to_the_host() {
    let mut bundle = Bundle::shell("grep -c leads /proc/self/mountinfo");
    let outside = bundle.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(&outside, bundle.rootfs().join("leads")).unwrap();
    symlink("../../../../../../../..", bundle.rootfs().join("up")).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/leads/inner", "type": "tmpfs", "source": "t"}));
    mounts.push(json!({"destination": "/up/made-by-mount", "type": "tmpfs", "source": "t"}));
    bundle.run();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
    assert!(!Path::new("/made-by-mount").exists());
}

/// CVE-2019-19921, CVE-2023-27561: `/proc` is a link, so labels would be written elsewhere.
#[test]
fn a_proc_that_is_a_link() {
    let bundle = Bundle::shell("true");
    std::fs::remove_dir(bundle.rootfs().join("proc")).unwrap();
    symlink("/tmp", bundle.rootfs().join("proc")).unwrap();
    let said = bundle.run().failed();
    assert!(said.contains("must be mounted on ordinary directory"), "{said}");
    bundle.assert_gone();
}

/// CVE-2024-21626: a working directory that is a leaked descriptor of the host.
#[test]
fn a_working_directory_through_a_leaked_descriptor() {
    for number in 3..12 {
        let mut bundle = Bundle::shell("ls /proc/self/fd | wc -l; pwd -P");
        bundle.config["process"]["cwd"] = json!(format!("/proc/self/fd/{number}"));
        let said = bundle.run();
        assert_ne!(said.code, 0, "descriptor {number}: {said:?}");
    }
}

/// The same by a caller that forgets to close: nothing but 0, 1, 2 (and the one `ls` itself opens) is inherited.
#[test]
fn descriptors_of_the_caller_do_not_leak() {
    let bundle = Bundle::shell("ls /proc/self/fd");
    let path = bundle.path().to_str().unwrap().to_string();
    let inner = bundle.command(&["run", "--bundle", &path, &bundle.id]);
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|w| w.to_string_lossy().into_owned())
        .collect();
    let mut outer = std::process::Command::new("/bin/busybox");
    outer.args(["sh", "-c", "exec 7</ 8</etc/passwd; exec \"$@\"", "sh"]).args(words);
    assert_eq!(knarr_tests::bins::run(&mut outer).ok(), "0\n1\n2\n3\n");
}

/// CVE-2019-5736: the kernel is made to execute the runtime inside, which is then opened for writing.
#[test]
fn the_runtime_cannot_be_overwritten_from_inside() {
    let runtime = knarr_tests::bins::find("knarr-runtime");
    let before = std::fs::read(&runtime).unwrap();
    let bundle = Bundle::shell("");
    let mut bundle = bundle;
    // The script's interpreter is the runtime itself; its process stays visible as /proc/self/exe of the reader.
    knarr_tests::bins::write_program(&bundle.rootfs().join("evil"), "#!/proc/self/exe --help\n");
    bundle.config["process"]["args"] = json!(["/evil"]);
    bundle.run();
    bundle.config["process"]["args"] = json!(["sh", "-c", "sleep 1000"]);
    bundle.start();
    let script = "for p in /proc/[0-9]*; do dd if=/dev/zero of=$p/exe bs=1 count=1 conv=notrunc 2>/dev/null; done; true";
    bundle.call_with("exec", &[], &["sh", "-c", script]);
    assert_eq!(std::fs::read(&runtime).unwrap(), before);
}

/// CVE-2025-31133: a `/dev/null` of the container's own lies over the file it should hide.
#[test]
fn a_replaced_null_device_is_not_used_for_masking() {
    let mut bundle = Bundle::shell("cat /proc/keys | wc -c; stat -c %t:%T /proc/keys");
    let trap = bundle.path().join("trap");
    std::fs::write(&trap, "readable").unwrap();
    let bind = json!({"destination": "/dev/null", "type": "bind", "source": trap, "options": ["bind"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(bind);
    let said = bundle.run();
    // Either refused (the path is no null device), or masked with the real one.
    assert!(said.code != 0 || said.out == "0\n1:3\n", "{said:?}");
}

/// CVE-2026-41579: an image whose `/dev` is a link has its nodes made elsewhere.
#[test]
fn a_dev_that_is_a_link_to_the_host() {
    let mut bundle = Bundle::shell("true");
    let outside = bundle.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    bundle.config["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    std::fs::remove_dir(bundle.rootfs().join("dev")).unwrap();
    symlink(&outside, bundle.rootfs().join("dev")).unwrap();
    bundle.run();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "a node was made outside");
}

/// CVE-2022-29162: a process of `exec` with inheritable capabilities.
#[test]
fn exec_gives_no_inheritable_capabilities() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let out = bundle
        .call_with("exec", &["--cap", "CAP_CHOWN"], &["grep", "-E", "Cap(Inh|Amb)", "/proc/self/status"])
        .ok();
    assert_eq!(out, "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n");
}

/// CVE-2026-30892 and crafted names.
#[test]
fn ambiguous_users_and_ids_are_refused() {
    let mut bundle = Bundle::shell("sleep 1000");
    bundle.start();
    for user in ["root", "0:", "0:0:0", "-1", " 0"] {
        assert!(
            bundle.call_with("exec", &["--user", user], &["true"]).failed().contains("invalid user"),
            "{user}"
        );
    }
    let real = std::mem::replace(&mut bundle.id, "../escape".into());
    assert!(bundle.run().failed().contains("invalid container ID format"));
    bundle.id = real;
}
