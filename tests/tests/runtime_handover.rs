//! Descriptors that the runtime hands to others over unix sockets: the terminal, the pidfd, the notify descriptor of a
//! seccomp filter. The receivers here are real ones.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used, clippy::panic)]

use knarr_tests::bundle::Bundle;
use knarr_tests::eventually::eventually;
use knarr_tests::handover::{read_until, receive};
use knarr_tests::skip::skip;
use serde_json::{Value, json};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn the_console_socket_gets_the_terminal_of_the_program_and_of_an_exec() {
    let mut bundle = Bundle::shell("tty; stty size; read word; echo got $word; sleep 1000");
    bundle.config["process"]["terminal"] = json!(true);
    bundle.config["process"]["consoleSize"] = json!({"height": 33, "width": 77});
    let socket = bundle.path().join("console");
    let listener = UnixListener::bind(&socket).unwrap();
    let (socket, path) = (socket.to_str().unwrap().to_string(), bundle.path().to_str().unwrap().to_string());
    bundle.call("create", &["--bundle", &path, "--console-socket", &socket]).ok();
    let (terminal, name) = receive(&listener);
    assert_eq!(String::from_utf8_lossy(&name).trim_end_matches('\0'), "/dev/ptmx");
    let mut terminal = std::fs::File::from(terminal);
    bundle.call("start", &[]).ok();
    let said = read_until(&mut terminal, "33 77");
    assert!(said.starts_with("/dev/pts/0") || said.starts_with("/dev/console"), "{said}");
    terminal.write_all(b"word\n").unwrap();
    read_until(&mut terminal, "got word");

    let exec = ["--tty", "--detach", "--console-socket", &socket];
    bundle.call_with("exec", &exec, &["sh", "-c", "tty; sleep 1000"]).ok();
    let mut terminal = std::fs::File::from(receive(&listener).0);
    read_until(&mut terminal, "/dev/pts/1");
}

#[test]
fn a_console_socket_is_for_a_terminal_and_a_detached_terminal_needs_one() {
    let mut bundle = Bundle::shell("true");
    let socket = bundle.path().join("console");
    let _listener = UnixListener::bind(&socket).unwrap();
    let path = bundle.path().to_str().unwrap().to_string();
    let said = bundle.call("create", &["--bundle", &path, "--console-socket", socket.to_str().unwrap()]);
    assert!(said.failed().contains("cannot use console socket if runc will not detach or allocate tty"));
    bundle.config["process"]["terminal"] = json!(true);
    let said = bundle.call("create", &["--bundle", &path]).failed();
    assert!(
        said.contains("cannot allocate tty if runc will detach without setting console socket"),
        "{said}"
    );
    let said = bundle.call("create", &["--bundle", &path, "--console-socket", "/nowhere/socket"]).failed();
    assert!(said.contains("/nowhere/socket"), "{said}");
    bundle.assert_gone();
}

/// The process a pidfd refers to.
fn pid_of(pidfd: &OwnedFd) -> i64 {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pid:")).unwrap_or_else(|| panic!("{text}"));
    line.trim().parse().unwrap()
}

#[test]
fn the_pidfd_socket_gets_the_process_itself() {
    let bundle = Bundle::shell("sleep 1000");
    let socket = bundle.path().join("pidfd");
    let listener = UnixListener::bind(&socket).unwrap();
    let (socket, path) = (socket.to_str().unwrap().to_string(), bundle.path().to_str().unwrap().to_string());
    bundle.call("create", &["--bundle", &path, "--pidfd-socket", &socket]).ok();
    let (init, _) = receive(&listener);
    let state: Value = serde_json::from_str(&bundle.call("state", &[]).ok()).unwrap();
    assert_eq!(json!(pid_of(&init)), state["pid"]);
    bundle.call("start", &[]).ok();

    let pid_file = bundle.path().join("pid");
    let exec = ["--detach", "--pidfd-socket", &socket, "--pid-file", pid_file.to_str().unwrap()];
    bundle.call_with("exec", &exec, &["sleep", "1000"]).ok();
    let (second, _) = receive(&listener);
    assert_eq!(pid_of(&second).to_string(), std::fs::read_to_string(&pid_file).unwrap());

    rustix::process::pidfd_send_signal(&init, rustix::process::Signal::KILL).unwrap();
    eventually("the container ends", DEADLINE, || match bundle.status().as_str() {
        "stopped" => Ok(()),
        other => Err(other.into()),
    });
    let path = bundle.path().join("gone");
    let other = Bundle::shell("true");
    let bundle_path = other.path().to_str().unwrap().to_string();
    let said = other.call("create", &["--bundle", &bundle_path, "--pidfd-socket", path.to_str().unwrap()]);
    assert!(said.failed().contains("gone"), "the error names the socket");
    other.assert_gone();
}

/// The supervisor, compiled here; nothing where there is no compiler.
fn agent(bundle: &Bundle) -> Option<std::path::PathBuf> {
    let (source, program) = (bundle.path().join("agent.c"), bundle.path().join("agent"));
    std::fs::write(&source, include_str!("programs/seccomp_agent.c")).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-o"]).arg(&program).arg(&source);
    let status = compiler.status().ok()?;
    assert!(status.success(), "the supervisor does not compile");
    Some(program)
}

#[test]
fn a_supervisor_decides_about_calls_of_the_program_and_of_an_exec() {
    let script = "mkdir /first; mkdir /second && echo made";
    let mut bundle = Bundle::shell(&format!("{script}; sleep 1000"));
    let Some(agent) = agent(&bundle) else {
        return skip("a_supervisor_decides_about_calls_of_the_program_and_of_an_exec", "no C compiler");
    };
    let socket = bundle.path().join("agent.sock");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket, "listenerMetadata": "for the supervisor",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]});
    let said = bundle.run().failed();
    assert!(said.contains("agent.sock"), "nobody listens yet, and the error says where: {said}");
    bundle.assert_gone();

    let log = bundle.path().join("agent.log");
    let mut child = Command::new(agent)
        .arg(&socket)
        .arg("2")
        .stdout(Stdio::from(std::fs::File::create(&log).unwrap()))
        .spawn()
        .unwrap();
    eventually("the supervisor listens", DEADLINE, || socket.exists().then_some(()).ok_or(String::new()));
    // The first filter lives as long as the program: it must end before the supervisor turns to the second.
    bundle.config["process"]["args"] = json!(["sh", "-c", script]);
    let said = bundle.run();
    assert!(said.err.contains("No medium found"), "{said:?}");
    assert_eq!(said.out, "made\n");
    assert!(bundle.rootfs().join("second").exists() && !bundle.rootfs().join("first").exists());

    std::fs::remove_dir(bundle.rootfs().join("second")).unwrap();
    bundle.config["process"]["args"] = json!(["sh", "-c", script]);
    let said = bundle.run();
    assert_eq!(said.out, "made\n");
    assert!(child.wait().unwrap().success());
    let log = std::fs::read_to_string(&log).unwrap();
    let states: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(states.len(), 2, "{log}");
    for state in states {
        assert_eq!(state["fds"], json!(["seccompFd"]));
        assert_eq!(state["metadata"], "for the supervisor");
        assert_eq!(state["state"]["id"], json!(bundle.id));
        assert_eq!(state["state"]["status"], "creating");
        assert!(state["pid"].as_i64().unwrap() > 1, "{state}");
    }
}

#[test]
fn an_exec_has_a_filter_of_its_own_with_the_supervisor() {
    let mut bundle = Bundle::shell("exec sleep 1000");
    let Some(agent) = agent(&bundle) else {
        return skip("an_exec_has_a_filter_of_its_own_with_the_supervisor", "no C compiler");
    };
    let socket = bundle.path().join("agent.sock");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": socket,
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]});
    // One supervisor per filter: the first stays with the program for its whole life.
    let start = |log: &str| {
        drop(std::fs::remove_file(&socket));
        let log = Stdio::from(std::fs::File::create(bundle.path().join(log)).unwrap());
        let child = Command::new(&agent).arg(&socket).arg("1").stdout(log).spawn().unwrap();
        eventually("the supervisor listens", DEADLINE, || socket.exists().then_some(()).ok_or(String::new()));
        child
    };
    let mut first = start("first.log");
    bundle.start();
    let mut second = start("second.log");
    let said = bundle.call_with("exec", &[], &["sh", "-c", "mkdir /first; mkdir /second && echo made"]);
    assert_eq!(said.out, "made\n", "{said:?}");
    assert!(said.err.contains("No medium found"), "{said:?}");
    assert!(second.wait().unwrap().success());
    let state: Value =
        serde_json::from_slice(&std::fs::read(bundle.path().join("second.log")).unwrap()).unwrap();
    assert_eq!(state["state"]["id"], json!(bundle.id));
    bundle.call("delete", &["--force"]).ok();
    assert!(first.wait().unwrap().success());
}

#[test]
fn what_a_supervisor_needs_is_asked_for_by_name() {
    let mut bundle = Bundle::shell("true");
    bundle.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
    assert!(bundle.run().failed().contains("linux.seccomp.listenerPath"));
    bundle.config["linux"]["seccomp"] =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x", "syscalls": []});
    assert!(bundle.run().failed().contains("linux.seccomp.listenerMetadata"));
}
