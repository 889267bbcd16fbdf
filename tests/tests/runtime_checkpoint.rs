//! `checkpoint` and `restore`: a container goes on from where it was.
//!
//! The program that does it, criu, needs a kernel that it knows; where it is not there or cannot work the tests say so.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use knarr_tests::bundle::Bundle;
use knarr_tests::criu::can_work;
use knarr_tests::eventually::eventually;
use knarr_tests::handover::{read_until, receive};
use knarr_tests::skip::skip;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// An emulated machine is slow.
const SOON: Duration = Duration::from_secs(60);

/// Makes a directory per count: a file that is open at the moment of a dump would have to be the same at its restore.
const COUNTER: &str = "mkdir /counts; i=0; while :; do i=$((i+1)); mkdir /counts/$i; sleep 0.1; done";

/// A container whose standard input and outputs are the null device: files of the host could not be restored.
fn quietly(bundle: &Bundle, args: &[&str]) -> i32 {
    let mut command = bundle.command(&[]);
    let log = bundle.path().join("log");
    command.arg("--log").arg(&log).args(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let code = command.status().unwrap().code().unwrap();
    if code != 0 {
        eprintln!("{args:?}: {}", std::fs::read_to_string(&log).unwrap_or_default());
        let images = images(bundle);
        for name in ["dump.log", "restore.log"] {
            let text = std::fs::read_to_string(images.join(name)).unwrap_or_default();
            // What led to the first error.
            let lines: Vec<&str> = text.lines().collect();
            let at = lines.iter().position(|line| line.contains("Error")).map_or(0, |at| at + 1);
            lines[at.saturating_sub(15)..at].iter().for_each(|line| eprintln!("{name}: {line}"));
        }
    }
    code
}

fn images(bundle: &Bundle) -> PathBuf {
    bundle.path().join("images")
}

fn start(bundle: &Bundle) {
    let directory = bundle.path().to_str().unwrap();
    assert_eq!(quietly(bundle, &["run", "--detach", "--bundle", directory, &bundle.id]), 0);
}

fn checkpoint(bundle: &Bundle, flags: &[&str]) {
    let images = images(bundle);
    let args =
        [&["checkpoint", "--image-path", images.to_str().unwrap()], flags, &[bundle.id.as_str()]].concat();
    assert_eq!(quietly(bundle, &args), 0);
}

fn restore(bundle: &Bundle, flags: &[&str]) {
    let (directory, images) = (bundle.path().to_str().unwrap(), images(bundle));
    let fixed = ["restore", "--detach", "--bundle", directory, "--image-path", images.to_str().unwrap()];
    assert_eq!(quietly(bundle, &[&fixed, flags, &[bundle.id.as_str()]].concat()), 0);
}

fn counts(bundle: &Bundle) -> Vec<u64> {
    let entries = std::fs::read_dir(bundle.rootfs().join("counts")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn count(bundle: &Bundle) -> u64 {
    eventually("a count", SOON, || counts(bundle).into_iter().max().ok_or_else(String::new))
}

fn until_beyond(bundle: &Bundle, number: u64) -> u64 {
    eventually("more", SOON, || match count(bundle) {
        now if now > number => Ok(now),
        now => Err(now.to_string()),
    })
}

#[test]
fn a_counter_goes_on_counting() {
    if !can_work("a_counter_goes_on_counting") {
        return;
    }
    let mut bundle = Bundle::shell(COUNTER);
    let source = bundle.path().join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("f"), "from the host\n").unwrap();
    bundle.config["mounts"].as_array_mut().unwrap().extend([
        json!({"destination": "/data", "type": "bind", "source": source, "options": ["rbind", "ro"]}),
        json!({"destination": "/memory", "type": "tmpfs", "source": "tmpfs"}),
    ]);
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 50});
    start(&bundle);
    until_beyond(&bundle, 3);
    bundle.call_with("exec", &[], &["sh", "-c", "echo kept > /memory/x"]).ok();
    checkpoint(&bundle, &[]);
    assert!(bundle.call("state", &[]).failed().contains("container does not exist"));
    bundle.assert_gone();
    let stopped_at = count(&bundle);
    let pid_file = bundle.path().join("pid");
    restore(&bundle, &["--pid-file", pid_file.to_str().unwrap()]);
    let state: Value = serde_json::from_str(&bundle.call("state", &[]).ok()).unwrap();
    assert_eq!(state["status"], "running");
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), state["pid"].to_string());
    let next = until_beyond(&bundle, stopped_at);
    assert!(next < stopped_at + 1000, "it began anew or ran on meanwhile: {stopped_at}, {next}");
    let out = bundle.call_with("exec", &[], &["sh", "-c", "cat /data/f /memory/x; hostname"]).ok();
    assert_eq!(out, "from the host\nkept\nlab\n");
    let limits = bundle
        .cgroups_left()
        .iter()
        .filter(|own| std::fs::read_to_string(own.join("pids.max")).is_ok_and(|limit| limit.trim() == "50"))
        .count();
    assert_eq!(limits, 1);
    bundle.call_with("kill", &[], &["KILL"]).ok();
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
}

#[test]
fn one_that_is_left_running_runs_and_can_be_restored_later() {
    const NAME: &str = "one_that_is_left_running_runs_and_can_be_restored_later";
    if !can_work(NAME) {
        return;
    }
    let bundle = Bundle::shell(COUNTER);
    start(&bundle);
    until_beyond(&bundle, 2);
    // What does not change any more can be dumped ahead.
    let ahead = images(&bundle).join("ahead");
    let args = ["checkpoint", "--pre-dump", "--image-path", ahead.to_str().unwrap(), &bundle.id];
    if quietly(&bundle, &args) == 0 {
        assert_eq!(bundle.status(), "running");
        checkpoint(&bundle, &["--leave-running", "--parent-path", "ahead"]);
    } else {
        let log = std::fs::read_to_string(bundle.path().join("log")).unwrap();
        assert!(log.contains("criu is missing features: [MemTrack]"), "{log}");
        skip(&format!("{NAME} (pre-dump)"), "this kernel does not track memory");
        checkpoint(&bundle, &["--leave-running"]);
    }
    let dumped_at = count(&bundle);
    assert_eq!(bundle.status(), "running");
    let later = until_beyond(&bundle, dumped_at + 20);
    bundle.call("delete", &["--force"]).ok();
    for number in counts(&bundle) {
        std::fs::remove_dir(bundle.rootfs().join("counts").join(number.to_string())).unwrap();
    }
    restore(&bundle, &[]);
    until_beyond(&bundle, later);
    let first = counts(&bundle).into_iter().min().unwrap();
    assert!(first < later, "from where the dump was, not from where it was killed: {first}, {later}");
}

/// A restore that stays, with a pipe as the program's standard output.
fn restore_here(bundle: &Bundle) -> Child {
    let (directory, images) = (bundle.path().to_str().unwrap(), images(bundle));
    let args = ["restore", "--bundle", directory, "--image-path", images.to_str().unwrap(), &bundle.id];
    bundle.command(&args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_restore_in_the_foreground_tells_output_and_status() {
    if !can_work("a_restore_in_the_foreground_tells_output_and_status") {
        return;
    }
    let script = "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.1; done; exit 7";
    let bundle = Bundle::shell(script);
    let directory = bundle.path().to_str().unwrap();
    let args = ["run", "--bundle", directory, &bundle.id];
    let mut run = bundle
        .command(&args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "1");
    assert_eq!(lines.next().unwrap().unwrap(), "2");
    checkpoint(&bundle, &[]);
    let last: u64 = lines.map(|line| line.unwrap()).last().map_or(2, |line| line.parse().unwrap());
    assert_eq!(run.wait().unwrap().code(), Some(137));
    let mut restored = restore_here(&bundle);
    let mut lines = BufReader::new(restored.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), (last + 1).to_string());
    std::fs::write(bundle.rootfs().join("stop"), "").unwrap();
    // Until it ends.
    lines.for_each(|line| drop(line.unwrap()));
    assert_eq!(restored.wait().unwrap().code(), Some(7));
    bundle.assert_gone();
    assert!(bundle.rootfs().join("bin/busybox").exists(), "removing the record removed the root");
}

#[test]
fn binds_behind_links_and_on_each_other_are_bound_again() {
    if !can_work("binds_behind_links_and_on_each_other_are_bound_again") {
        return;
    }
    let mut bundle = Bundle::shell(COUNTER);
    let conf = bundle.rootfs().join("real/conf");
    std::fs::create_dir_all(&conf).unwrap();
    std::os::unix::fs::symlink("/real/conf", bundle.rootfs().join("conf")).unwrap();
    let mut bind = |name: &str, destination: &str| {
        let source = bundle.path().join(name);
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("name"), name).unwrap();
        let mount =
            json!({"destination": destination, "type": "bind", "source": source, "options": ["bind"]});
        bundle.config["mounts"].as_array_mut().unwrap().push(mount);
        source
    };
    bind("linked", "/conf");
    let outer = bind("outer", "/outer");
    bind("inner", "/outer/for/inner");
    start(&bundle);
    let seen = until_beyond(&bundle, 2);
    checkpoint(&bundle, &[]);
    // The place of the inner one went meanwhile.
    std::fs::remove_dir_all(outer.join("for")).unwrap();
    restore(&bundle, &[]);
    until_beyond(&bundle, seen);
    let script = "cat /conf/name /outer/name /outer/for/inner/name";
    assert_eq!(bundle.call_with("exec", &[], &["sh", "-c", script]).ok(), "linkedouterinner");
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
    assert!(!conf.join("name").exists() && outer.join("for/inner").is_dir());
}

#[test]
fn a_terminal_goes_on_at_another_socket() {
    if !can_work("a_terminal_goes_on_at_another_socket") {
        return;
    }
    let mut bundle = Bundle::shell("i=0; while read word; do i=$((i+1)); echo $i:$word; done");
    bundle.config["process"]["terminal"] = json!(true);
    let directory = bundle.path().to_str().unwrap();
    let socket = bundle.path().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let socket = ["--console-socket", socket.to_str().unwrap()];
    let run = ["run", "--detach", "--bundle", directory];
    assert_eq!(quietly(&bundle, &[&run, &socket[..], &[bundle.id.as_str()]].concat()), 0);
    let mut terminal = std::fs::File::from(receive(&listener).0);
    terminal.write_all(b"before\n").unwrap();
    read_until(&mut terminal, "1:before");
    checkpoint(&bundle, &[]);
    drop(terminal);
    restore(&bundle, &socket);
    let mut terminal = std::fs::File::from(receive(&listener).0);
    terminal.write_all(b"after\n").unwrap();
    read_until(&mut terminal, "2:after");
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
}

#[test]
fn memory_goes_through_a_page_server() {
    if !can_work("memory_goes_through_a_page_server") {
        return;
    }
    let bundle = Bundle::shell(COUNTER);
    start(&bundle);
    let seen = until_beyond(&bundle, 3);
    // None that the kernel gives to anybody by itself.
    let port = 27_000 + std::process::id() % 1_000;
    let (images, address, number) = (images(&bundle), format!("127.0.0.1:{port}"), port.to_string());
    std::fs::create_dir(&images).unwrap();
    let mut server = Command::new("criu");
    server.args(["page-server", "--port", &number, "--address", "127.0.0.1", "-D", images.to_str().unwrap()]);
    let mut server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the page server", SOON, || {
        let ports = std::fs::read_to_string("/proc/net/tcp").map_err(|error| error.to_string())?;
        // The port in hexadecimal, in the state LISTEN.
        let listens =
            ports.lines().any(|line| line.contains(&format!(":{port:04X} ")) && line.contains(" 0A "));
        if listens { Ok(()) } else { Err(ports) }
    });
    checkpoint(&bundle, &["--page-server", &address]);
    assert!(server.wait().unwrap().success());
    bundle.assert_gone();
    restore(&bundle, &[]);
    until_beyond(&bundle, seen);
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
}

#[test]
fn hooks_run_around_a_restore_as_around_a_create() {
    if !can_work("hooks_run_around_a_restore_as_around_a_create") {
        return;
    }
    let mut bundle = Bundle::shell(COUNTER);
    let told = bundle.path().join("told");
    let hook = |kind: &str| {
        let script = format!("echo {kind} $(grep -o '\"status\":\"[a-z]*\"' ) >> {}", told.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}])
    };
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    // Those of the container run in it, where nothing of the host can be written.
    let mut hooks: serde_json::Map<String, Value> =
        kinds.iter().map(|kind| ((*kind).to_string(), hook(kind))).collect();
    hooks.remove("createContainer");
    hooks.remove("startContainer");
    bundle.config["hooks"] = Value::Object(hooks);
    start(&bundle);
    until_beyond(&bundle, 2);
    checkpoint(&bundle, &[]);
    let take = || {
        let text = std::fs::read_to_string(&told).unwrap();
        std::fs::remove_file(&told).unwrap();
        text
    };
    let outside = "prestart \"status\":\"creating\"\ncreateRuntime \"status\":\"creating\"\npoststart \"status\":\"running\"\n";
    let gone = "poststop \"status\":\"stopped\"\n";
    assert_eq!(take(), format!("{outside}{gone}"));
    restore(&bundle, &[]);
    assert_eq!(take(), outside);
    bundle.call("delete", &["--force"]).ok();
    assert_eq!(take(), gone);
}

#[test]
fn mistakes_are_told_before_anything_is_frozen() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.create().ok();
    let said = bundle.call("checkpoint", &[]).failed();
    assert!(said.contains("Container cannot be checkpointed in created state"), "{said}");
    bundle.call("start", &[]).ok();
    let images = images(&bundle);
    let images = images.to_str().unwrap();
    for (flags, why) in [
        (["--manage-cgroups-mode", "x"], "Invalid manage-cgroups-mode value"),
        (["--page-server", "x"], "Use --page-server ADDRESS:PORT to specify page server"),
        (["--empty-ns", "uts"], "namespace \\\"uts\\\" is not supported"),
        (["--parent-path", "/x"], "--parent-path must be relative"),
        (["--parent-path", "nope"], "invalid --parent-path"),
    ] {
        let said = bundle.call("checkpoint", &[&["--image-path", images], &flags[..]].concat()).failed();
        assert!(said.contains(why), "{why}: {said}");
    }
    assert_eq!(bundle.status(), "running");
    let directory = bundle.path().to_str().unwrap();
    let said =
        bundle.call("restore", &["--detach", "--bundle", directory, "--image-path", "/nonexistent"]).failed();
    assert!(said.contains("/nonexistent: no such file or directory"), "{said}");
    let said = bundle.call("restore", &["--detach", "--bundle", directory, "--image-path", images]).failed();
    assert!(said.contains("container's cgroup is not empty") || said.contains("already exists"), "{said}");
    assert_eq!(bundle.status(), "running");
}

/// Where they begin outside, if inside they begin at 0.
fn with_users(script: &str, first: u32) -> Bundle {
    let mut bundle = Bundle::shell(script);
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.path(), open).unwrap();
    std::fs::create_dir_all(bundle.rootfs().join("dev/pts")).unwrap();
    std::os::unix::fs::chown(bundle.rootfs(), Some(first), Some(first)).unwrap();
    let map = json!([{"containerID": 0, "hostID": first, "size": 65536}]);
    bundle.config["linux"]["uidMappings"] = map.clone();
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    bundle
}

#[test]
fn a_container_with_users_of_its_own_goes_on() {
    if !can_work("a_container_with_users_of_its_own_goes_on") {
        return;
    }
    let bundle = with_users(COUNTER, 100_000);
    start(&bundle);
    until_beyond(&bundle, 3);
    checkpoint(&bundle, &[]);
    bundle.assert_gone();
    let stopped_at = count(&bundle);
    restore(&bundle, &[]);
    until_beyond(&bundle, stopped_at);
    let said =
        bundle.call_with("exec", &[], &["sh", "-c", "id -u; cat /proc/1/uid_map /proc/self/uid_map"]).ok();
    assert_eq!(said.split_whitespace().collect::<Vec<_>>().join(" "), "0 0 100000 65536 0 100000 65536");
    bundle.call("delete", &["--force"]).ok();
    bundle.assert_gone();
}

#[test]
fn what_cannot_be_restored_is_not_taken_down() {
    let owner = with_users("sleep 1000", 0);
    owner.start();
    let state: Value = serde_json::from_str(&owner.call("state", &[]).ok()).unwrap();
    let mut bundle = with_users("sleep 1000", 0);
    let linux = bundle.config["linux"].as_object_mut().unwrap();
    linux.retain(|key, _| !key.ends_with("idMappings"));
    for namespace in linux["namespaces"].as_array_mut().unwrap() {
        if namespace["type"] == "user" {
            namespace["path"] = format!("/proc/{}/ns/user", state["pid"]).into();
        }
    }
    bundle.start();
    let images = images(&bundle);
    let error = bundle.call("checkpoint", &["--image-path", images.to_str().unwrap()]).failed();
    assert!(error.contains("checkpoint of a container in a user namespace that it has joined"), "{error}");
    assert_eq!(bundle.status(), "running");
}
