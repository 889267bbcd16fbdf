//! What a container sees, field by field of its configuration.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bundle::Bundle;
use serde_json::json;

#[test]
fn capabilities_limits_umask_and_groups() {
    let script = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status; ulimit -n; umask; id -G; cat /proc/self/oom_score_adj";
    let out = Bundle::report(script, |config| {
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        config["process"]["user"] = json!({"uid": 0, "gid": 3, "umask": 63, "additionalGids": [7]});
        config["process"]["oomScoreAdj"] = json!(500);
    });
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "CapInh:\t0000000000000000");
    assert!(lines[1..4].iter().all(|line| line.ends_with("0000000020000420")), "{out}");
    assert_eq!(&lines[5..], ["NoNewPrivs:\t1", "100", "0077", "3 7", "500"]);
}

#[test]
fn an_unprivileged_user_has_no_capabilities_and_a_home() {
    let out = Bundle::report("id -u; echo $HOME; grep CapEff /proc/self/status", |config| {
        config["process"]["user"] = json!({"uid": 1000, "gid": 1000});
        config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    });
    // The effective set is what was asked for until exec, which clears it for a user.
    assert_eq!(out, "1000\n/\nCapEff:\t0000000000000000\n");
}

#[test]
fn seccomp_refuses_with_the_errno_of_the_rule() {
    let out = Bundle::report("mkdir /x 2>&1; mkdir -p /tmp/y 2>&1; echo end", |config| {
        config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}]});
    });
    assert!(out.contains("Quota exceeded") || out.contains("Disk quota exceeded"), "{out}");
}

/// A profile made before a call existed does not allow it: what comes after the filter must not need new ones.
#[test]
fn a_profile_older_than_the_kernel_lets_the_program_start() {
    for privileges in [true, false] {
        let out = Bundle::report("echo started", |config| {
            config["process"]["noNewPrivileges"] = json!(privileges);
            config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["close_range", "openat2", "clone3", "pidfd_open", "faccessat2", "statx", "rseq", "execveat", "open_tree",
                    "move_mount", "mount_setattr", "fsopen", "fsmount", "fsconfig", "landlock_create_ruleset"],
                 "action": "SCMP_ACT_ERRNO"}]});
        });
        assert_eq!(out, "started\n", "noNewPrivileges {privileges}");
    }
}

#[test]
fn masked_and_read_only_paths() {
    let script = "wc -c < /proc/keys; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/hostname 2>&1 || echo refused; touch /x 2>&1; true";
    let out = Bundle::report(script, |config| config["root"]["readonly"] = json!(true));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(&lines[..2], ["0", "0"]);
    assert!(out.contains("refused") && out.contains("Read-only file system"), "{out}");
}

#[test]
fn devices_are_the_usual_ones_and_no_others_can_be_opened() {
    let script = "stat -c '%n %t:%T %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; readlink /dev/ptmx; \
                  mknod /tmp/m b 8 0 && cat /tmp/m 2>&1; mknod /dev/x c 10 229 2>&1; head -c 1 /dev/x 2>&1; true";
    let out = Bundle::report(script, |config| {
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set] = json!(["CAP_MKNOD"]);
        }
    });
    assert!(out.contains("/dev/null 1:3 666") && out.contains("pts/ptmx"), "{out}");
    assert!(out.contains("Operation not permitted"), "{out}");
}

#[test]
fn mounts_with_attributes_propagation_and_copies() {
    let script = "grep -E ' /(bind|tmp2|etc) ' /proc/self/mountinfo | cut -d' ' -f5,6; cat /bind/f /etc/passwd; touch /bind/g 2>&1; touch /tmp2/ok";
    let mut bundle = Bundle::shell(script);
    let source = bundle.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "from the host\n").unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/bind", "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid", "rprivate"]}));
    mounts.push(
        json!({"destination": "/tmp2", "type": "tmpfs", "source": "tmpfs", "options": ["nodev", "size=64k"]}),
    );
    mounts.push(json!({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}));
    std::os::unix::fs::symlink("busybox", bundle.rootfs().join("bin/cut")).unwrap();
    let out = bundle.run().ok();
    for text in ["/bind ro,nosuid", "/tmp2 rw,nodev", "from the host", "root:x:0:0", "Read-only file system"]
    {
        assert!(out.contains(text), "{text}: {out}");
    }
}

/// What is mounted below the source gets the attributes too, or keeps its own.
#[test]
fn recursive_attributes_reach_what_is_mounted_below() {
    let script = "grep -E ' /(all|top|kept)/below ' /proc/self/mountinfo | while read -r a b c d place attributes rest; do \
        echo $place $attributes; done; for t in all top kept; do touch /$t/below/x 2>/dev/null && echo $t is writable; done";
    let mut bundle = Bundle::shell(script);
    let source = bundle.path().join("source");
    std::fs::create_dir_all(source.join("below")).unwrap();
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    for (place, options) in [
        ("/all", vec!["rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime"]),
        ("/top", vec!["rbind", "ro", "nosuid"]),
        ("/kept", vec!["rbind", "ro", "rdev", "rsuid", "rexec", "rrelatime"]),
    ] {
        mounts.push(json!({"destination": place, "type": "bind", "source": source, "options": options}));
    }
    let path = bundle.path().to_str().unwrap().to_string();
    let inner = bundle.command(&["run", "--bundle", &path, &bundle.id]);
    let mut outer = std::process::Command::new("/bin/busybox");
    let setup =
        format!("/bin/busybox mount -t tmpfs -o nosuid,relatime t {}/below; exec \"$@\"", source.display());
    outer.args(["unshare", "-m", "/bin/busybox", "sh", "-c", &setup, "sh"]);
    let said = knarr_tests::bins::run(outer.arg(inner.get_program()).args(inner.get_args()));
    assert_eq!(
        said.ok(),
        "/all/below ro,nosuid,nodev,noexec,noatime\n/top/below rw,nosuid,relatime\n/kept/below rw,relatime\n\
         top is writable\nkept is writable\n"
    );
}

#[test]
fn user_and_time_namespaces_and_idmapped_mounts() {
    let mut bundle = Bundle::shell(
        "id -u; cat /proc/self/uid_map; stat -c %u /mapped/f; cat /proc/self/timens_offsets; cat /sys/class/net/lo/flags",
    );
    let source = bundle.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "").unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.path(), open).unwrap();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let linux = &mut bundle.config["linux"];
    linux["uidMappings"] = map.clone();
    linux["gidMappings"] = map.clone();
    linux["timeOffsets"] = json!({"boottime": {"secs": 7777, "nanosecs": 0}});
    linux["namespaces"].as_array_mut().unwrap().extend([json!({"type": "user"}), json!({"type": "time"})]);
    let mapped =
        json!({"destination": "/mapped", "type": "bind", "source": source, "options": ["bind", "idmap"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(mapped);
    for name in ["mapped", "dev/pts"] {
        std::fs::create_dir_all(bundle.rootfs().join(name)).unwrap();
    }
    chown_tree(&bundle.rootfs(), 100_000);
    let out = bundle.run().ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words[..5], ["0", "0", "100000", "65536", "0"], "{out}");
    assert!(out.contains("7777"), "{out}");
    assert!(out.ends_with("\n0x9\n"), "the loopback is not up: {out}");
}

/// Once the runtime waited for an init that it had not cloned yet.
#[test]
fn a_mount_that_cannot_be_idmapped_is_an_error() {
    let mut bundle = Bundle::shell("true");
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    let sysfs = json!({"destination": "/mapped", "type": "bind", "source": "/sys/kernel", "options": ["bind", "idmap"]});
    bundle.config["mounts"].as_array_mut().unwrap().push(sysfs);
    let error = bundle.run().failed();
    assert!(error.contains("MOUNT_ATTR_IDMAP on /sys/kernel"), "{error}");
    bundle.assert_gone();
}

fn chown_tree(path: &std::path::Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        std::fs::read_dir(path).unwrap().for_each(|entry| chown_tree(&entry.unwrap().path(), id));
    }
}

#[test]
fn limits_are_in_force_before_the_program() {
    let mut bundle = Bundle::shell("sleep 1000");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 12});
    bundle.start();
    let read = |files: [&str; 2]| {
        let value = files.iter().find_map(|file| {
            let (controller, name) = file.split_once('/').unwrap();
            let own = bundle.cgroups_left().into_iter();
            own.filter(|path| controller.is_empty() || path.to_str().unwrap().contains(controller))
                .find_map(|path| std::fs::read_to_string(path.join(name)).ok())
        });
        value.unwrap().trim().to_string()
    };
    assert_eq!(read(["memory/memory.limit_in_bytes", "/memory.max"]), "67108864");
    assert_eq!(read(["pids/pids.max", "/pids.max"]), "12");
}

#[test]
fn sysctls_and_names_of_its_own_namespaces() {
    let out =
        Bundle::report("hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward", |config| {
            config["domainname"] = json!("example");
            config["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1"});
        });
    assert_eq!(out, "lab\nexample\n1\n");
    let mut bundle = Bundle::shell("true");
    bundle.config["linux"]["sysctl"] = json!({"kernel.core_pattern": "|/x"});
    assert!(bundle.run().failed().contains("is not in a separate kernel namespace"));
}
