//! Small ways of runc that its own tests and other people's scripts rely on; each was once different here.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::bundle::Bundle;
use knarr_tests::eventually::eventually;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// Whether cgroup v2 has the controllers here.
fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Runs a shell script in which `K` is our runtime, called through the command `KP`.
fn script(bundle: &Bundle, text: &str) -> bins::Said {
    let command = bundle.command(&[]);
    let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
    let words = words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    let text = format!(
        "set -e\ncd {}\nK() {{ $KP {words} \"$@\"; }}\nID={}\n{text}",
        bundle.path().display(),
        bundle.id
    );
    bins::run(Command::new("sh").args(["-c", &text]))
}

#[test]
fn a_process_comes_from_any_descriptor() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["sh", "-c", "echo $0; ls /proc/self/fd | wc -l"]);
    std::fs::write(bundle.path().join("process.json"), process.to_string()).unwrap();
    let said = script(&bundle, "K exec --process /proc/self/fd/7 $ID 7<process.json");
    // Three of its own, and the directory that is listed.
    assert_eq!(said.ok(), "sh\n4\n");
}

#[test]
fn a_program_that_cannot_be_executed_is_told_where_its_output_goes() {
    let bundle = Bundle::shell("");
    bins::write_program(&bundle.rootfs().join("bad"), "#!/no/such/interpreter\n");
    let mut bundle = bundle;
    bundle.config["process"]["args"] = json!(["/bad"]);
    let said = bundle.run();
    assert_eq!((said.code, said.err.as_str()), (255, "exec /bad: no such file or directory\n"), "{said:?}");
    bundle.assert_gone();
    // Nobody waits for it after `start`; what it says must be found all the same.
    let said = script(&bundle, "K create $ID 2>words; K start $ID");
    assert_eq!(said.code, 0, "{said:?}");
    eventually("the words", SOON, || {
        let words = std::fs::read_to_string(bundle.path().join("words")).unwrap();
        if words == "exec /bad: no such file or directory\n" { Ok(()) } else { Err(words) }
    });
}

#[test]
fn a_hook_in_the_container_has_the_environment_of_the_program() {
    let mut bundle = Bundle::shell("cat /told");
    bins::write_program(&bundle.rootfs().join("hook"), "#!/bin/sh\necho \"$ONE $OWN $HOME\" >> /told\n");
    bundle.config["process"]["env"].as_array_mut().unwrap().push(json!("ONE=1"));
    let hooks = json!([{"path": "/hook"}, {"path": "/hook", "env": ["OWN=2"]}]);
    bundle.config["hooks"] = json!({"startContainer": hooks});
    assert_eq!(bundle.run().ok(), "1  /root\n 2 \n");
}

#[test]
fn a_hook_without_an_environment_has_that_of_whoever_runs_it() {
    let mut bundle = Bundle::shell("true");
    let place = bundle.path().to_path_buf();
    let told = |name: &str| place.join(name).display().to_string();
    let hook = |name: &str, own: Value| {
        let script = format!("echo \"$OF_THE_CALLER,$OWN\" > {}", told(name));
        let mut hook = json!({"path": "/bin/sh", "args": ["sh", "-c", script]});
        if !own.is_null() {
            hook["env"] = own;
        }
        hook
    };
    let cases = [
        ("inherits", Value::Null, "yes,\n"),
        ("has-its-own", json!(["OWN=1"]), ",1\n"),
        ("has-an-empty-one", json!([]), ",\n"),
    ];
    for kind in ["createRuntime", "poststart", "poststop"] {
        let of_kind = |(name, own, _): &(&str, Value, &str)| hook(&format!("{kind}-{name}"), own.clone());
        bundle.config["hooks"][kind] = cases.iter().map(of_kind).collect();
    }
    // Inside, where the image's files are seen already, nothing of the caller's.
    bundle.config["hooks"]["createContainer"] = json!([hook("createContainer", Value::Null)]);
    let mut command = bundle.command(&["run", "--bundle", bundle.path().to_str().unwrap(), &bundle.id]);
    bins::run(command.env("OF_THE_CALLER", "yes")).ok();
    for kind in ["createRuntime", "poststart", "poststop"] {
        for (name, _, expected) in &cases {
            let said = std::fs::read_to_string(bundle.path().join(format!("{kind}-{name}"))).unwrap();
            assert_eq!(said, *expected, "{kind} {name}");
        }
    }
    assert_eq!(std::fs::read_to_string(bundle.path().join("createContainer")).unwrap(), ",\n");
    bundle.assert_gone();
}

#[test]
fn what_is_mounted_in_a_read_only_mount_comes_first() {
    let mut bundle =
        Bundle::shell("touch /dev/x || touch /memory/x || ls /dev/pts/ptmx /dev/null; touch /dev/shm/ok");
    let mounts = bundle.config["mounts"].as_array_mut().unwrap();
    for mount in mounts.iter_mut().filter(|mount| mount["destination"] == "/dev") {
        mount["options"].as_array_mut().unwrap().push(json!("ro"));
    }
    mounts.push(json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm"}));
    mounts.push(json!({"destination": "/memory", "type": "tmpfs", "source": "tmpfs", "options": ["ro"]}));
    mounts.push(json!({"destination": "/memory/below", "type": "tmpfs", "source": "tmpfs"}));
    let said = bundle.run();
    assert_eq!((said.code, said.out.as_str()), (0, "/dev/null\n/dev/pts/ptmx\n"), "{said:?}");
    assert_eq!(said.err.matches("Read-only file system").count(), 2, "{said:?}");
}

#[test]
fn a_destination_below_the_root_of_the_host_is_the_same_place() {
    let mut bundle = Bundle::shell("cat /data/f /again/f; grep -c ' /bin ' /proc/self/mountinfo");
    let (root, source) = (bundle.rootfs(), bundle.path().join("source"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "there\n").unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().extend([
        json!({"destination": root.join("data"), "type": "bind", "source": source, "options": ["bind"]}),
        // The source is what the mount before it put there.
        json!({"destination": "/again", "type": "bind", "source": root.join("data"), "options": ["rbind"]}),
    ]);
    bundle.config["linux"]["maskedPaths"] = json!(["/tmp", "/tmp/", "/tmp"]);
    assert_eq!(bundle.run().out, "there\nthere\n0\n");
    bundle.config["process"]["args"] = json!(["sh", "-c", "grep -c ' /tmp ' /proc/self/mountinfo"]);
    assert_eq!(bundle.run().ok(), "1\n", "a path that is masked three times is masked once");
}

#[test]
fn a_waiting_init_holds_nothing_of_the_host() {
    let bundle = Bundle::shell("true");
    bundle.create().ok();
    let state: Value = serde_json::from_str(&bundle.call("state", &[]).ok()).unwrap();
    let fds = std::fs::read_dir(format!("/proc/{}/fd", state["pid"])).unwrap();
    let link = |entry: std::io::Result<std::fs::DirEntry>| std::fs::read_link(entry.unwrap().path()).unwrap();
    let beyond = |path: &PathBuf| {
        let text = path.display().to_string();
        let own =
            ["socket:", "pipe:", "anon_inode:", "/dev/null", "/null"].iter().any(|own| text.starts_with(own));
        !own && !text.ends_with("exec.fifo") && !path.starts_with(std::env::temp_dir())
    };
    let found: Vec<PathBuf> = fds.map(link).filter(beyond).collect();
    assert_eq!(found, Vec::<PathBuf>::new());
}

#[test]
fn it_runs_on_all_cpus_of_its_cgroup_whoever_starts_it() {
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = own.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap();
    let bundle = Bundle::shell("grep Cpus_allowed_list /proc/self/status; sleep 1000");
    let list = "grep Cpus_allowed_list /proc/self/status";
    let said = script(&bundle, &format!("KP='taskset 1'; K run -d $ID >out; K exec $ID {list}"));
    assert_eq!(said.ok().trim_end(), allowed);
    eventually("what init says", SOON, || {
        let out = std::fs::read_to_string(bundle.path().join("out")).unwrap();
        if out.trim_end() == allowed { Ok(()) } else { Err(out) }
    });
}

#[test]
fn commands_about_what_is_not_there_answer_as_runc_does() {
    let bundle = Bundle::shell("true");
    let said = bundle.call_with("list", &[], &[]);
    assert!(said.code != 0, "the root that was named is not there: {said:?}");
    bundle.start();
    eventually("the end", SOON, || match bundle.status() {
        status if status == "stopped" => Ok(()),
        status => Err(status),
    });
    assert!(bundle.call_with("kill", &[], &["0"]).failed().contains("container not running"));
    bundle.call_with("kill", &["--all"], &["0"]).ok();
}

#[test]
fn an_exec_enters_cgroups_below_the_containers_own_only() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    for (wanted, why) in [
        ("..", "bad sub cgroup path: .."),
        ("a/../../b", "bad sub cgroup path"),
        ("nonexistent", "error adding pid"),
        ("whaaat:/", "unknown controller whaaat in SubCgroupPaths"),
    ] {
        let said = bundle.call_with("exec", &["--cgroup", wanted], &["true"]);
        assert!(said.code != 0 && said.err.contains(why), "{wanted}: {said:?}");
    }
    bundle.call_with("exec", &["--cgroup", "/"], &["true"]).ok();
}

#[test]
fn limits_that_mean_something_else_than_they_say() {
    let mut bundle = Bundle::shell("sleep 1000");
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 0});
    bundle.start();
    let limits = bundle
        .cgroups_left()
        .into_iter()
        .filter_map(|own| std::fs::read_to_string(own.join("pids.max")).ok());
    assert_eq!(limits.collect::<Vec<_>>(), ["1\n"]);
    bundle.call("delete", &["--force"]).ok();
    bundle.config["linux"]["resources"] = json!({"unified": {"memory.min": "131072"}});
    let said = bundle.create();
    if unified() {
        said.ok();
    } else {
        assert!(said.failed().contains("invalid configuration: cannot use unified on cgroup v1"));
    }
}

#[test]
fn a_frozen_cgroup_is_refused() {
    let bundle = Bundle::shell("true");
    let (top, file, word) = match unified() {
        true => ("/sys/fs/cgroup", "cgroup.freeze", "1"),
        false => ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN"),
    };
    let cgroup = Path::new(top).join("knarr-tests").join(&bundle.id);
    std::fs::create_dir_all(&cgroup).unwrap();
    std::fs::write(cgroup.join(file), word).unwrap();
    let said = bundle.run();
    std::fs::remove_dir(&cgroup).unwrap();
    assert!(said.failed().contains("container's cgroup unexpectedly frozen"));
    bundle.assert_gone();
}

#[test]
fn capabilities_that_cannot_be_ambient_are_told() {
    let mut bundle = Bundle::shell("grep -E 'CapInh|CapAmb' /proc/self/status; sleep 1000");
    let sets = bundle.config["process"]["capabilities"].as_object_mut().unwrap();
    for name in ["bounding", "effective", "permitted"] {
        sets[name].as_array_mut().unwrap().push(json!("CAP_CHOWN"));
    }
    sets["bounding"].as_array_mut().unwrap().push(json!("CAP_SYSLOG"));
    sets.insert("inheritable".into(), json!(["CAP_CHOWN", "CAP_SYSLOG"]));
    sets.insert("ambient".into(), json!(["CAP_CHOWN", "CAP_KILL"]));
    let said = bundle.create();
    let warning = "level=warning msg=\"can't raise ambient capability CAP_KILL: operation not permitted\"";
    assert!(said.err.contains(warning), "{said:?}");
    bundle.call("start", &[]).ok();
    let status = ["grep", "-E", "CapInh|CapAmb", "/proc/self/status"];
    let out = bundle.call_with("exec", &["--cap", "CAP_SYSLOG"], &status).ok();
    assert_eq!(out, "CapInh:\t0000000400000001\nCapAmb:\t0000000400000001\n");
}

#[test]
fn what_cannot_work_is_refused_in_the_words_of_runc() {
    let seccomp = |action: &str, call: &str| {
        json!({"seccomp": {"defaultAction": action, "listenerPath": "/none",
            "syscalls": [{"names": [call], "action": "SCMP_ACT_NOTIFY"}]}})
    };
    let policy = |mode: &str, nodes: &str| json!({"memoryPolicy": {"mode": mode, "nodes": nodes}});
    for (linux, why) in [
        (seccomp("SCMP_ACT_ALLOW", "write"), "SCMP_ACT_NOTIFY cannot be used for the write syscall"),
        (seccomp("SCMP_ACT_NOTIFY", "mkdir"), "SCMP_ACT_NOTIFY cannot be used as default action"),
        (seccomp("SCMP_ACT_ALLOW", "mkdir"), "failed to connect with seccomp agent"),
        (policy("INTERLEAVE", "0"), "invalid memory policy mode"),
        (policy("", "0"), "invalid memory policy mode"),
        (policy("MPOL_DEFAULT", "0-7"), "mode requires 0 nodes but got 8"),
        (policy("MPOL_BIND", ""), "mode requires at least one node but got 0"),
    ] {
        let mut bundle = Bundle::shell("true");
        bundle.config["linux"].as_object_mut().unwrap().extend(linux.as_object().unwrap().clone());
        let said = bundle.run();
        assert!(said.code != 0 && said.err.contains(why), "{why}: {said:?}");
        bundle.assert_gone();
    }
    let mut bundle = Bundle::shell("true");
    bundle.config["linux"]
        .as_object_mut()
        .unwrap()
        .extend(policy("MPOL_DEFAULT", "").as_object().unwrap().clone());
    bundle.run().ok();
}

#[test]
fn lines_of_events_begin_with_what_they_are() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let line = bundle.call("events", &["--stats"]).ok();
    assert!(
        line.starts_with(&format!("{{\"type\":\"stats\",\"id\":\"{}\",\"data\":{{", bundle.id)),
        "{line}"
    );
}

#[test]
fn help_is_laid_out_as_scripts_expect() {
    let bundle = Bundle::shell("true");
    for verb in ["create", "checkpoint", "kill", "features"] {
        let out = bins::run(&mut bundle.command(&[verb, "--help"])).ok();
        let mut lines = out.lines();
        assert_eq!(lines.next(), Some("NAME:"));
        assert!(lines.next().unwrap().starts_with(&format!("   knarr-runtime {verb} - ")), "{out}");
    }
}

#[test]
fn hooks_stand_where_they_work() {
    let mut bundle = Bundle::shell("cat /from-container");
    let hook =
        |name: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo {name} > {name}")]}]);
    bundle.config["hooks"] = json!({
        "prestart": hook("from-prestart"),
        "createRuntime": hook("from-runtime"),
        "createContainer": hook("from-container"),
    });
    assert_eq!(bundle.run().ok(), "from-container\n");
    for name in ["from-prestart", "from-runtime"] {
        assert!(bundle.path().join(name).exists(), "{name}");
    }
    bundle.assert_gone();
}

#[test]
fn a_container_that_waits_for_start_ends_on_a_signal() {
    for signal in ["HUP", "INT", "QUIT", "TERM"] {
        let bundle = Bundle::shell("true");
        bundle.create().ok();
        bundle.call_with("kill", &[], &[signal]).ok();
        eventually("the end", SOON, || match bundle.status() {
            status if status == "stopped" => Ok(()),
            status => Err(format!("{signal}: {status}")),
        });
        bundle.call("delete", &[]).ok();
        bundle.assert_gone();
    }
}

#[test]
fn no_limit_of_memory_means_none_of_swap() {
    let mut bundle = Bundle::shell("sleep 1000");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
    bundle.start();
    let (memory, with_swap) = match unified() {
        true => ("memory.max", "memory.swap.max"),
        false => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    };
    let own = bundle.cgroups_left().into_iter().find(|own| own.join(memory).exists()).unwrap();
    // A kernel without swap has nothing to limit.
    if own.join(with_swap).exists() {
        bundle.call("update", &["--memory-swap", "96M"]).ok();
    }
    bundle.call("update", &["--memory", "-1"]).ok();
    for file in [memory, with_swap].into_iter().filter(|file| own.join(file).exists()) {
        let limit = std::fs::read_to_string(own.join(file)).unwrap();
        // Version 1 has a number for it, which depends on the size of a page.
        let none = limit.trim().parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60) || limit == "max\n";
        assert!(none, "{file}: {limit}");
    }
}

#[test]
fn a_parent_cgroup_that_somebody_else_made_and_left_empty() {
    let mut bundle = Bundle::shell("true");
    let pod = format!("knarr-tests/{}-pod", bundle.id);
    bundle.config["linux"]["cgroupsPath"] = json!(format!("/{pod}/{}", bundle.id));
    let top = Path::new("/sys/fs/cgroup");
    let cpuset = if unified() { top.join(&pod) } else { top.join("cpuset").join(&pod) };
    std::fs::create_dir_all(cpuset).unwrap();
    let said = bundle.run();
    let hierarchies = std::fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
    for hierarchy in hierarchies.chain([top.to_path_buf()]) {
        match std::fs::remove_dir(hierarchy.join(&pod)) {
            Ok(()) => {}
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::ResourceBusy, "{hierarchy:?}"),
        }
    }
    said.ok();
}

#[test]
fn the_root_and_its_mounts_have_the_propagation_that_was_asked_for() {
    let alone = [false, false];
    for (root, of_root) in [("", alone), ("private", alone), ("unbindable", alone), ("rslave", [false, true])]
    {
        let mut bundle = Bundle::shell("grep -E '^([^ ]+ ){4}(/|/memory) ' /proc/self/mountinfo");
        bundle.config["linux"]["rootfsPropagation"] = json!(root);
        bundle.config["mounts"].as_array_mut().unwrap().push(
            json!({"destination": "/memory", "type": "tmpfs", "source": "tmpfs", "options": ["shared"]}),
        );
        // Shared mounts around it that are nobody else's.
        let around = "unshare -m --propagation slave unshare -m --propagation shared";
        let out = script(&bundle, &format!("KP='{around}'; K run $ID")).ok();
        let lines: Vec<&str> = out.lines().collect();
        let [root_line, memory] = lines.as_slice() else { panic!("{root}: {out}") };
        let told = [root_line.contains(" shared:"), root_line.contains(" master:")];
        assert_eq!(told, of_root, "{root}: {out}");
        assert_eq!(root_line.contains(" unbindable"), root == "unbindable", "{out}");
        assert!(memory.contains(" /memory ") && memory.contains(" shared:"), "{root}: {out}");
        bundle.assert_gone();
    }
}

#[test]
fn ids_are_mapped_of_what_a_mount_before_brought_into_the_root() {
    let map = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 65536}]);
    for users in [false, true] {
        let mut bundle = Bundle::shell("stat -c %u /mnt/f /final/f; cat /final/f");
        let source = bundle.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("f"), "there\n").unwrap();
        for name in ["mnt", "final", "dev/pts"] {
            std::fs::create_dir_all(bundle.rootfs().join(name)).unwrap();
        }
        let inside = bundle.rootfs().join("mnt");
        bundle.config["mounts"].as_array_mut().unwrap().extend([
            json!({"destination": "/mnt", "type": "bind", "source": source, "options": ["bind"]}),
            json!({"destination": "/final", "type": "bind", "source": inside, "options": ["rbind", "idmap"],
                "uidMappings": map(100_000), "gidMappings": map(100_000)}),
        ]);
        if users {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(bundle.path(), open).unwrap();
            bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            bundle.config["linux"]["uidMappings"] = map(100_000);
            bundle.config["linux"]["gidMappings"] = map(100_000);
        }
        // Root of the host is nobody inside, but for the map.
        let expected = if users { "65534\n0\nthere\n" } else { "0\n100000\nthere\n" };
        assert_eq!(bundle.run().ok(), expected);
        bundle.assert_gone();
    }
}

#[test]
fn a_read_only_path_without_a_slash_begins_at_the_root() {
    let mut bundle = Bundle::shell("touch /tmp/x");
    bundle.config["linux"]["readonlyPaths"] = json!(["tmp", "not-there", "../../tmp"]);
    assert!(bundle.run().failed().contains("Read-only file system"));
    bundle.assert_gone();
}

#[test]
fn the_first_cpus_of_an_exec_are_logged_as_a_mask() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(["true"]);
    process["execCPUAffinity"] = json!({"initial": "0"});
    std::fs::write(bundle.path().join("process.json"), process.to_string()).unwrap();
    let said = script(&bundle, "K --debug exec --process process.json $ID");
    assert!(said.err.contains("affinity: 0x1\""), "{said:?}");
}
