//! AppArmor on a kernel that has it: the profile of `config.json` and the one of an `exec` are in force, whatever the
//! container does to what it calls `/proc`.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::bundle::Bundle;
use knarr_tests::skip::skip;
use serde_json::json;
use std::process::Command;

/// Everything is allowed but to write a file of a certain name, which the second profile allows.
const PROFILES: &str = "
profile knarr-lab flags=(attach_disconnected) {
    file, capability, network, mount, umount, pivot_root, signal, ptrace, unix, change_profile,
    deny /**/forbidden w,
}
profile knarr-lab-exec flags=(attach_disconnected) {
    file, capability, network, mount, umount, pivot_root, signal, ptrace, unix,
    deny /**/forbidden-to-exec w,
}
";

const TELL: &str = "read -r profile </proc/self/attr/current; echo $profile; \
    (echo x >/tmp/forbidden) 2>/dev/null || echo refused; (echo x >/tmp/forbidden-to-exec) 2>/dev/null || echo refused-to-exec";

/// Whether the profiles are in the kernel now; an entry in the list of skips otherwise.
fn loaded(test: &str) -> bool {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if enabled.trim() != "Y" {
        skip(test, "this kernel has no AppArmor (the virtual machine's has)");
        return false;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), PROFILES).unwrap();
    bins::run(Command::new("apparmor_parser").args(["--replace", "--skip-cache"]).arg(file.path())).ok();
    true
}

fn confined(script: &str) -> Bundle {
    let mut bundle = Bundle::shell(script);
    bundle.config["process"]["apparmorProfile"] = json!("knarr-lab");
    bundle
}

#[test]
fn a_profile_confines_the_program_and_every_exec() {
    if !loaded("a_profile_confines_the_program_and_every_exec") {
        return;
    }
    assert_eq!(confined(TELL).run().ok(), "knarr-lab (enforce)\nrefused\n");
    let bundle = confined("sleep 1000");
    bundle.start();
    assert_eq!(bundle.call_with("exec", &[], &["sh", "-c", TELL]).ok(), "knarr-lab (enforce)\nrefused\n");
    let other = bundle.call_with("exec", &["--apparmor", "knarr-lab-exec"], &["sh", "-c", TELL]).ok();
    assert_eq!(other, "knarr-lab-exec (enforce)\nrefused-to-exec\n");
}

#[test]
fn a_profile_that_is_not_loaded_is_an_error_and_leaves_nothing() {
    if !loaded("a_profile_that_is_not_loaded_is_an_error_and_leaves_nothing") {
        return;
    }
    let mut bundle = Bundle::shell("true");
    bundle.config["process"]["apparmorProfile"] = json!("knarr-no-such-profile");
    let said = bundle.run().failed();
    assert!(said.contains("unable to apply apparmor profile"), "{said}");
    bundle.assert_gone();
    bundle.config["process"]["apparmorProfile"] = json!("knarr-lab");
    bundle.config["process"]["args"] = json!(["sleep", "1000"]);
    bundle.start();
    let said = bundle.call_with("exec", &["--apparmor", "knarr-no-such-profile"], &["true"]);
    assert!(said.failed().contains("unable to apply apparmor profile"));
}

/// CVE-2019-16884, CVE-2023-28642, CVE-2025-52881: a file system that only looks like procfs would swallow the label.
#[test]
fn a_proc_of_the_containers_own_making_cannot_swallow_the_profile() {
    if !loaded("a_proc_of_the_containers_own_making_cannot_swallow_the_profile") {
        return;
    }
    let fake = "mount -t tmpfs fake /proc && mkdir -p /proc/self/attr/apparmor /proc/thread-self/attr/apparmor && \
        touch /proc/self/attr/exec /proc/self/attr/apparmor/exec /proc/thread-self/attr/exec && touch /ready; sleep 1000";
    let mut bundle = confined(fake);
    let capabilities = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.config["process"]["capabilities"] =
        json!({"bounding": capabilities, "effective": capabilities, "permitted": capabilities});
    bundle.start();
    knarr_tests::eventually::eventually("/proc is covered", std::time::Duration::from_secs(60), || {
        bundle.rootfs().join("ready").exists().then_some(()).ok_or_else(String::new)
    });
    let script = "ls /proc/self/attr; (echo x >/tmp/forbidden) 2>/dev/null || echo refused";
    assert_eq!(bundle.call_with("exec", &[], &["sh", "-c", script]).ok(), "apparmor\nexec\nrefused\n");
}
