//! The life of a container through every command, as callers of runc see it.

use knarr_tests::bundle::Bundle;
use knarr_tests::effort::effort;
use knarr_tests::eventually::eventually;
use knarr_tests::skip::skip;
use serde_json::{Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn until_status(bundle: &Bundle, wanted: &str) {
    eventually(wanted, SOON, || match bundle.status() {
        status if status == wanted => Ok(()),
        status => Err(status),
    });
}

#[test]
fn created_running_stopped_gone() {
    let mut bundle = Bundle::shell("sleep 1000");
    bundle.config["annotations"] = json!({"a": "b"});
    bundle.create().ok();
    let state: Value = serde_json::from_str(&bundle.call("state", &[]).ok()).unwrap();
    assert_eq!(state["status"], "created");
    assert_eq!(state["annotations"]["a"], "b");
    assert_eq!(state["bundle"], bundle.path().to_str().unwrap());
    assert!(state["pid"].as_i64().unwrap() > 1 && state["created"].as_str().unwrap().ends_with('Z'));
    bundle.call("start", &[]).ok();
    assert_eq!(bundle.status(), "running");
    assert!(bundle.call("start", &[]).failed().contains("cannot start an already running container"));
    assert!(bundle.call("delete", &[]).failed().contains("that is not stopped: running"));
    bundle.call_with("kill", &[], &["0"]).ok();
    bundle.call_with("kill", &[], &["KILL"]).ok();
    until_status(&bundle, "stopped");
    assert!(bundle.call_with("kill", &[], &["0"]).failed().contains("container not running"));
    assert!(bundle.call_with("kill", &[], &["9"]).failed().contains("container not running"));
    assert!(bundle.call("start", &[]).failed().contains("cannot start a container that has stopped"));
    bundle.call("delete", &[]).ok();
    bundle.assert_gone();
}

#[test]
fn what_does_not_exist() {
    let bundle = Bundle::shell("true");
    for verb in ["state", "start", "delete", "kill", "pause", "resume", "update", "events"] {
        let said = bundle.call(verb, &[]);
        assert_eq!(said.code, 1, "{verb}: {said:?}");
        assert!(said.err.contains("container does not exist"), "{verb}: {said:?}");
    }
    assert_eq!(bundle.call("delete", &["--force"]).code, 0);
}

#[test]
fn run_ends_as_its_program_ends() {
    for (script, code) in
        [("exit 0", 0), ("exit 37", 37), ("kill -KILL $$", 137), ("kill -TERM $$; sleep 5", 143)]
    {
        let bundle = Bundle::shell(script);
        // Init of a pid namespace is deaf to signals of its own; a child is not.
        let wrapped = format!("sh -c '{script}'; exit $?");
        let mut bundle2 = bundle;
        bundle2.config["process"]["args"][2] = json!(wrapped);
        assert_eq!(bundle2.run().code, code, "{script}");
        bundle2.assert_gone();
    }
}

#[test]
fn a_program_that_ends_at_once_is_never_missed() {
    let bundle = Bundle::shell("true");
    for round in 0..effort(40) {
        assert_eq!(bundle.run().code, 0, "round {round}");
    }
    bundle.assert_gone();
}

#[test]
fn a_program_that_ends_at_once_was_started_all_the_same() {
    let bundle = Bundle::shell("true");
    for round in 0..20 {
        bundle.create().ok();
        let said = bundle.call("start", &[]);
        assert_eq!(said.code, 0, "round {round}: {said:?}");
        bundle.call("delete", &["--force"]).ok();
    }
    bundle.assert_gone();
}

#[test]
fn a_timeline_reaches_the_start_of_the_program() {
    let bundle = Bundle::shell("true");
    let (directory, file) = (bundle.path().to_str().unwrap(), bundle.path().join("timeline"));
    let file = file.to_str().unwrap();
    let operations = || -> Vec<String> {
        let trace: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap().iter();
        events.map(|event| event["name"].as_str().unwrap().to_string()).collect()
    };
    let has = |name: &str| operations().iter().any(|operation| operation.starts_with(name));
    bundle.call("run", &["--bundle", directory, "--timeline", file]).ok();
    assert!(has("clone3(") && has("await the program"), "{:?}", operations());
    bundle.call("create", &["--bundle", directory, "--timeline", file]).ok();
    assert!(has("clone3(") && !has("await the program"), "{:?}", operations());
    bundle.call("start", &["--timeline", file]).ok();
    assert!(has("clone3(") && has("write(<exec.fifo>"), "added to what create wrote: {:?}", operations());
}

#[test]
fn a_missing_program_is_the_error_of_create_and_leaves_nothing() {
    for (program, text) in [
        ("/nonexistent", "exec: \"/nonexistent\": stat /nonexistent: no such file or directory"),
        ("nonexistent", "exec: \"nonexistent\": executable file not found in $PATH"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ] {
        for verb in ["run", "create"] {
            let mut bundle = Bundle::shell("");
            bundle.config["process"]["args"] = json!([program]);
            let said = bundle.call(verb, &["--bundle", bundle.path().to_str().unwrap()]);
            assert_eq!(said.code, 1);
            assert!(
                said.err.contains("unable to start container process: error during container init: "),
                "{said:?}"
            );
            assert!(said.err.replace('\\', "").contains(text), "{said:?}");
            bundle.assert_gone();
        }
    }
}

#[test]
fn a_wrong_type_in_the_configuration_names_the_field() {
    let mut bundle = Bundle::shell("true");
    bundle.config["process"]["args"] = json!("not a list");
    let said = bundle.run();
    assert!(said.err.contains("process.args: invalid type"), "{said:?}");
    bundle.assert_gone();
}

#[test]
fn the_json_log_has_the_last_error() {
    let bundle = Bundle::shell("true");
    let log = bundle.path().join("log");
    let mut command =
        bundle.command(&["--log", log.to_str().unwrap(), "--log-format", "json", "state", "nope"]);
    assert_eq!(knarr_tests::bins::run(&mut command).code, 1);
    let text = std::fs::read_to_string(&log).unwrap();
    let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (line["level"].as_str(), line["msg"].as_str()),
        (Some("error"), Some("container does not exist"))
    );
}

#[test]
fn exec_joins_everything_and_tells_the_status() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let script = "hostname; pwd; echo $A; id -u; readlink /proc/1/exe; exit 7";
    let said =
        bundle.call_with("exec", &["-e", "A=1", "--cwd", "/tmp", "--user", "5:6"], &["sh", "-c", script]);
    assert_eq!((said.code, said.out.lines().take(4).collect::<Vec<_>>()), (7, vec!["lab", "/tmp", "1", "5"]));
    let file = bundle.path().join("process.json");
    let process = json!({"args": ["sh", "-c", "echo $B"], "env": ["B=2", "PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
    std::fs::write(&file, process.to_string()).unwrap();
    let pid_file = bundle.path().join("pid");
    let flags = ["--process", file.to_str().unwrap(), "--pid-file", pid_file.to_str().unwrap()];
    assert_eq!(bundle.call("exec", &flags).ok(), "2\n");
    assert!(std::fs::read_to_string(pid_file).unwrap().parse::<i32>().unwrap() > 0);
    let missing = bundle.call_with("exec", &[], &["nope"]).failed();
    assert!(missing.contains("executable file not found in $PATH"), "{missing}");
}

#[test]
fn pause_resume_ps_list_update_events() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    bundle.call("pause", &[]).ok();
    assert_eq!(bundle.status(), "paused");
    assert!(bundle.call_with("exec", &[], &["true"]).failed().contains("cannot exec in a paused container"));
    bundle.call("resume", &[]).ok();
    assert_eq!(bundle.status(), "running");
    assert!(bundle.call("resume", &[]).failed().contains("container not paused"));
    let pids: Vec<i32> = serde_json::from_str(&bundle.call("ps", &["--format", "json"]).ok()).unwrap();
    assert!(!pids.is_empty());
    let list = knarr_tests::bins::run(&mut bundle.command(&["list", "--format", "json"])).ok();
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((list[0]["id"].as_str(), list[0]["owner"].as_str()), (Some(bundle.id.as_str()), Some("root")));
    bundle.call("update", &["--pids-limit", "77"]).ok();
    let stats: Value = serde_json::from_str(&bundle.call("events", &["--stats"]).ok()).unwrap();
    assert_eq!((stats["type"].as_str(), stats["data"]["pids"]["limit"].as_u64()), (Some("stats"), Some(77)));
}

#[test]
fn hooks_run_in_order_with_the_state_and_a_failing_one_undoes_all() {
    let mut bundle = Bundle::shell("echo program >> /trace");
    let trace = bundle.rootfs().join("trace");
    let hook = |name: &str, path: &str| {
        let script = format!("read -r state; echo {name} >> {path}; echo \"$state\" | grep -q '\"id\"'");
        json!([{"path": "/bin/busybox", "args": ["busybox", "sh", "-c", script], "env": ["PATH=/bin"]}])
    };
    let outside = trace.to_str().unwrap().to_string();
    bundle.config["hooks"] = json!({
        "prestart": hook("prestart", &outside), "createRuntime": hook("createRuntime", &outside),
        "createContainer": hook("createContainer", &outside), "startContainer": hook("startContainer", "/trace"),
        "poststart": [], "poststop": hook("poststop", &outside)});
    bundle.run().ok();
    let lines = std::fs::read_to_string(&trace).unwrap();
    let expected = ["prestart", "createRuntime", "createContainer", "startContainer", "program", "poststop"];
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    bundle.config["hooks"] = json!({"createRuntime": [{"path": "/bin/busybox", "args": ["busybox", "sleep", "100"], "timeout": 1}]});
    let said = bundle.run().failed();
    assert!(said.contains("createRuntime hook #0: hook ran past specified timeout of 1.0s"), "{said}");
    bundle.assert_gone();
}

#[test]
fn a_terminal_in_the_foreground() {
    let mut bundle = Bundle::shell("tty; stty size");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({"height": 30, "width": 90});
    let out = bundle.run().ok();
    // A pipe reads what the program wrote: no carriage returns of a terminal's.
    assert_eq!(out, "/dev/pts/0\n30 90\n");
    let detached = bundle.create().failed();
    assert!(
        detached.contains("cannot allocate tty if runc will detach without setting console socket"),
        "{detached}"
    );
}

#[test]
fn a_cgroup_in_use_is_refused_and_left_alone() {
    let first = Bundle::shell("sleep 1000");
    first.start();
    let mut second = Bundle::shell("true");
    second.config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"].clone();
    let said = second.run().failed();
    assert!(said.contains("container's cgroup is not empty: "), "{said}");
    assert_eq!(first.status(), "running");
    assert!(!first.cgroups_left().is_empty());
}

#[test]
fn statistics_have_every_field_that_readers_of_runc_expect() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let stats: Value = serde_json::from_str(&bundle.call("events", &["--stats"]).ok()).unwrap();
    let data = &stats["data"];
    assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 0, "{stats}");
    assert!(data["memory"]["usage"]["usage"].as_u64().unwrap() > 0, "{stats}");
    assert!(!data["memory"]["raw"].as_object().unwrap().is_empty(), "{stats}");
    assert_eq!(data["pids"]["current"], 1);
    for field in ["cpu_exclusive", "mem_hardwall", "memory_migrate", "sched_relax_domain_level"] {
        assert!(data["cpuset"][field].is_i64(), "{field}: {stats}");
    }
    for field in ["blkio", "hugetlb", "intel_rdt"] {
        assert!(data[field].is_object(), "{field}: {stats}");
    }
    assert!(data["network_interfaces"].is_null() && data.get("network_interfaces").is_some());
}

#[test]
fn the_pressure_on_a_container_is_told_where_the_kernel_counts_it() {
    if std::fs::read("/sys/fs/cgroup/cpu.pressure").is_err() {
        let why = "no cgroup v2 with pressure information (it is in the virtual machine)";
        return skip("the_pressure_on_a_container_is_told_where_the_kernel_counts_it", why);
    }
    let bundle = Bundle::shell("while :; do :; done & while :; do :; done");
    bundle.start();
    // Two that want one CPU each, of which there may be enough: one is all they get.
    bundle.call("update", &["--cpu-quota", "10000", "--cpu-period", "100000"]).ok();
    let stats = eventually("pressure", SOON, || {
        let stats: Value = serde_json::from_str(&bundle.call("events", &["--stats"]).ok()).unwrap();
        let waited = stats["data"]["cpu"]["psi"]["some"]["total"].as_u64();
        if waited.is_some_and(|total| total > 0) { Ok(stats) } else { Err(stats.to_string()) }
    });
    for resource in ["cpu", "memory", "blkio"] {
        let pressure = &stats["data"][resource]["psi"];
        for line in ["some", "full"] {
            assert!(pressure[line]["total"].is_u64(), "{resource} {line}: {stats}");
            for average in ["avg10", "avg60", "avg300"] {
                assert!(pressure[line][average].is_f64(), "{resource} {line} {average}: {stats}");
            }
        }
    }
}

#[test]
fn a_memory_limit_that_is_hit_is_an_event_at_once() {
    let mut bundle = Bundle::shell("read go < /go; dd if=/dev/zero of=/dev/null bs=48M count=1; sleep 1000");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 16_777_216, "swap": 16_777_216});
    make_fifo(&bundle.rootfs().join("go"));
    bundle.start();
    let out = bundle.path().join("events");
    // An interval that does not pass within this test: only the event itself can bring the line.
    let mut command = bundle.command(&["events", "--interval", "1h", &bundle.id]);
    let mut events = command.stdout(std::fs::File::create(&out).unwrap()).spawn().unwrap();
    eventually("the watch", SOON, || {
        let fds = std::fs::read_dir(format!("/proc/{}/fd", events.id())).map_err(|e| e.to_string())?;
        let links: Vec<_> = fds.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok()).collect();
        let watches = links
            .iter()
            .any(|link| ["eventfd", "inotify"].iter().any(|kind| link.to_string_lossy().contains(kind)));
        if watches { Ok(()) } else { Err(format!("{links:?}")) }
    });
    std::fs::write(bundle.rootfs().join("go"), "\n").unwrap();
    eventually("the event", SOON, || {
        let text = std::fs::read_to_string(&out).unwrap();
        if text.contains("\"type\":\"oom\"") { Ok(()) } else { Err(text) }
    });
    bundle.call_with("kill", &[], &["KILL"]).ok();
    events.wait().unwrap();
}

fn make_fifo(path: &std::path::Path) {
    knarr_tests::bins::run(std::process::Command::new("/bin/busybox").arg("mkfifo").arg(path)).ok();
}

#[test]
fn an_update_of_one_half_keeps_the_other() {
    let mut bundle = Bundle::shell("sleep 1000");
    bundle.config["linux"]["resources"]["cpu"] = json!({"quota": 50_000, "period": 100_000});
    bundle.start();
    bundle.call("update", &["--cpu-period", "200000"]).ok();
    let read = |name: &str| {
        let own = bundle.cgroups_left().into_iter();
        own.filter_map(|path| std::fs::read_to_string(path.join(name)).ok()).next()
    };
    match read("cpu.max") {
        Some(both) => assert_eq!(both.trim(), "50000 200000"),
        None => assert_eq!(
            (read("cpu.cfs_quota_us").unwrap().trim(), read("cpu.cfs_period_us").unwrap().trim()),
            ("50000", "200000")
        ),
    }
    let file = bundle.path().join("resources.json");
    std::fs::write(
        &file,
        json!({"pids": {"limit": 9}, "memory": {"limit": 4096, "checkBeforeUpdate": true}}).to_string(),
    )
    .unwrap();
    let said = bundle.call("update", &["--resources", file.to_str().unwrap()]).failed();
    assert!(said.contains("rejecting memory limit 4096"), "{said}");
    let said = bundle.call("update", &["--l3-cache-schema", "L3:0=f"]).failed();
    assert!(said.contains("l3 cache schema is not enabled"), "{said}");
}

#[test]
fn an_exec_starts_on_the_cpus_it_asks_for() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let file = bundle.path().join("process.json");
    let mut process = json!({"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "env": ["PATH=/bin"], "cwd": "/",
        "user": {"uid": 0, "gid": 0}, "execCPUAffinity": {"initial": "0", "final": "0"}});
    std::fs::write(&file, process.to_string()).unwrap();
    let flags = ["--process", file.to_str().unwrap()];
    assert_eq!(bundle.call("exec", &flags).ok(), "Cpus_allowed_list:\t0\n");
    process["execCPUAffinity"] = json!({"initial": "x"});
    std::fs::write(&file, process.to_string()).unwrap();
    assert!(bundle.call("exec", &flags).failed().contains("process.execCPUAffinity.initial"));
}

#[test]
fn a_label_that_cannot_be_applied_is_an_error() {
    let mut bundle = Bundle::shell("true");
    bundle.config["process"]["apparmorProfile"] = json!("knarr-no-such-profile");
    let said = bundle.run().failed();
    assert!(said.contains("apparmor failed to apply profile"), "{said}");
    bundle.config["process"]["apparmorProfile"] = json!("");
    bundle.config["process"]["selinuxLabel"] = json!("system_u:system_r:container_t:s0");
    let said = bundle.run().failed();
    assert!(
        said.contains("selinux label is specified in config, but selinux is disabled or not supported"),
        "{said}"
    );
    bundle.assert_gone();
    let running = Bundle::shell("sleep 1000");
    running.start();
    let said = running.call_with("exec", &["--apparmor", "knarr-no-such-profile"], &["true"]).failed();
    assert!(said.contains("apparmor failed to apply profile"), "{said}");
}
