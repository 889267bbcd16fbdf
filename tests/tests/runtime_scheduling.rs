//! How the program is scheduled and where its memory is: `process.scheduler`, `ioPriority`, `linux.memoryPolicy`,
//! `linux.personality`, read back inside the container.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bundle::Bundle;
use serde_json::json;

fn refused(change: impl FnOnce(&mut serde_json::Value)) -> String {
    let mut bundle = Bundle::shell("true");
    change(&mut bundle.config);
    let error = bundle.run().failed();
    bundle.assert_gone();
    error
}

#[test]
fn scheduler_policy_and_niceness() {
    let out = Bundle::report("cat /proc/self/stat", |config| {
        config["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
    });
    let fields: Vec<&str> = out.rsplit_once(") ").unwrap().1.split_whitespace().collect();
    // Fields 19 and 41 of proc_pid_stat(5): nice, policy (SCHED_BATCH is 3).
    assert_eq!((fields[16], fields[38]), ("5", "3"), "{out}");
    let error = refused(|config| config["process"]["scheduler"] = json!({"policy": "SCHED_X"}));
    assert!(error.contains("process.scheduler.policy"), "{error}");
}

#[test]
fn priority_of_io() {
    for (class, priority, said) in
        [("IOPRIO_CLASS_BE", 3, "best-effort: prio 3"), ("IOPRIO_CLASS_IDLE", 0, "idle")]
    {
        let out = Bundle::report("busybox ionice -p $$", |config| {
            config["process"]["ioPriority"] = json!({"class": class, "priority": priority});
        });
        assert!(out.starts_with(said), "{class}: {out}");
    }
    let error = refused(|config| {
        config["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_BE", "priority": 8});
    });
    assert!(error.contains("process.ioPriority.priority"), "{error}");
}

#[test]
fn memory_policy() {
    let out = Bundle::report("cat /proc/self/numa_maps", |config| {
        config["linux"]["memoryPolicy"] =
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]});
    });
    assert!(out.contains(" bind=static:0 "), "{out}");
    let error = refused(|config| {
        config["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"]});
    });
    assert!(error.contains("linux.memoryPolicy.flags"), "{error}");
}

#[test]
fn personality() {
    let out = Bundle::report("busybox uname -m", |config| {
        config["linux"]["personality"] = json!({"domain": "LINUX32"})
    });
    assert_ne!(out.trim(), std::env::consts::ARCH);
    let error = refused(|config| config["linux"]["personality"] = json!({"domain": "HURD"}));
    assert!(error.contains("linux.personality"), "{error}");
}

#[test]
fn fields_that_this_kernel_has_not_are_refused_in_the_words_of_runc() {
    let error = refused(|config| config["linux"]["intelRdt"] = json!({"l3CacheSchema": "L3:0=f"}));
    assert!(error.contains("intelRdt is specified in config, but Intel RDT is not enabled"), "{error}");
    let error = refused(|config| {
        config["linux"]["mountLabel"] = json!("system_u:object_r:container_file_t:s0:c1,c2")
    });
    assert!(error.contains("selinux is disabled or not supported"), "{error}");
}

#[test]
fn a_limit_of_kernel_memory_is_ignored_aloud() {
    let mut bundle = Bundle::shell("true");
    bundle.config["linux"]["resources"]["memory"] = json!({"kernel": 1_048_576});
    let said = bundle.run();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains("level=warning") && said.err.contains("Kernel memory settings are ignored"),
        "{said:?}"
    );
}
