//! What systemd hands to a service and hears from it, through the runtime: activated sockets, and the word "ready".

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::bundle::Bundle;
use knarr_tests::eventually::eventually;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

/// The runtime's command line, run by a shell that first opens descriptors and sets variables.
fn through_shell(bundle: &Bundle, prepare: &str, flags: &[&str]) -> bins::Said {
    let directory = bundle.path().to_str().unwrap();
    let args = [&["run", "--bundle", directory], flags, &[bundle.id.as_str()]].concat();
    let command = bundle.command(&args);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    bins::run(Command::new("/bin/sh").args(["-c", &format!("{prepare} exec \"$@\""), "sh"]).args(words))
}

#[test]
fn activated_sockets_come_first_and_are_announced_to_process_one() {
    let script = "echo $LISTEN_FDS $LISTEN_PID $LISTEN_FDNAMES; cat <&3; cat <&4; ls /proc/self/fd | wc -l";
    let bundle = Bundle::shell(script);
    for (name, text) in [("a", "activated\n"), ("b", "preserved\n")] {
        std::fs::write(bundle.path().join(name), text).unwrap();
    }
    let directory = bundle.path().display();
    let prepare = format!(
        "exec 3<{directory}/a 4<{directory}/b 5</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web;"
    );
    let out = through_shell(&bundle, &prepare, &["--preserve-fds", "1"]).ok();
    // Standard ones, both of ours, and the directory that `ls` itself reads.
    assert_eq!(out, "1 1 web\nactivated\npreserved\n6\n");
    bundle.assert_gone();
}

#[test]
fn variables_that_are_meant_for_somebody_else_give_nothing() {
    let bundle = Bundle::shell("echo \"[$LISTEN_FDS]\"; cat <&3");
    let prepare = "exec 3</etc/passwd; export LISTEN_PID=1 LISTEN_FDS=1;";
    let said = through_shell(&bundle, prepare, &[]);
    assert!(said.out.starts_with("[]\n") && said.code != 0, "{said:?}");
}

/// systemd in the shape that a container sees of it: a datagram socket.
struct Host {
    _directory: tempfile::TempDir,
    path: PathBuf,
    socket: UnixDatagram,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Host { _directory: directory, path, socket }
    }

    fn heard(&self) -> String {
        let mut bytes = [0_u8; 4096];
        // A descriptor that comes with it is dropped: that is the answer to a barrier.
        let length = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    fn spawn(&self, bundle: &Bundle, args: &[&str]) -> Child {
        bundle.command(args).env("NOTIFY_SOCKET", &self.path).spawn().unwrap()
    }
}

/// What a program inside would say: its socket is this one.
fn say(socket: &Path, words: &str) {
    let sender = UnixDatagram::unbound().unwrap();
    eventually("the socket of the container", SOON, || {
        sender.send_to(words.as_bytes(), socket).map_err(|error| error.to_string())
    });
}

const SCRIPT: &str = "[ -S $NOTIFY_SOCKET ] && echo $NOTIFY_SOCKET > /said; sleep 1000";

fn until_it_runs(bundle: &Bundle) {
    eventually("the program", SOON, || {
        let said =
            std::fs::read_to_string(bundle.rootfs().join("said")).map_err(|error| error.to_string())?;
        if said == "/run/notify/notify.sock\n" { Ok(()) } else { Err(said) }
    });
}

#[test]
fn start_returns_when_the_program_says_that_it_is_ready() {
    let host = Host::new();
    let bundle = Bundle::shell(SCRIPT);
    let directory = bundle.path().to_str().unwrap();
    let mut create = bundle.command(&["create", "--bundle", directory, &bundle.id]);
    bins::run(create.env("NOTIFY_SOCKET", &host.path)).ok();
    let mut start = host.spawn(&bundle, &["start", &bundle.id]);
    until_it_runs(&bundle);
    let socket = bundle.state_root().join(&bundle.id).join("notify/notify.sock");
    // Neither other words nor a claim to be another process reach the host.
    say(&socket, "STATUS=soon\nMAINPID=1");
    assert_eq!(bundle.status(), "running");
    assert!(start.try_wait().unwrap().is_none(), "it is not ready yet");
    say(&socket, "STATUS=now\nREADY=1");
    let state: serde_json::Value = serde_json::from_str(&bundle.call("state", &[]).ok()).unwrap();
    assert_eq!(host.heard(), "READY=1\n");
    assert_eq!(host.heard(), format!("MAINPID={}\n", state["pid"]));
    assert_eq!(host.heard(), "BARRIER=1");
    assert!(start.wait().unwrap().success());
}

#[test]
fn start_returns_when_the_program_ends_without_a_word() {
    let host = Host::new();
    let bundle = Bundle::shell("true");
    let directory = bundle.path().to_str().unwrap();
    let mut run = bundle.command(&["run", "--detach", "--bundle", directory, &bundle.id]);
    bins::run(run.env("NOTIFY_SOCKET", &host.path)).ok();
}

#[test]
fn a_run_in_the_foreground_stays_the_process_that_systemd_watches() {
    let host = Host::new();
    let bundle = Bundle::shell(SCRIPT);
    let directory = bundle.path().to_str().unwrap();
    let mut run = host.spawn(&bundle, &["run", "--bundle", directory, &bundle.id]);
    until_it_runs(&bundle);
    say(&bundle.state_root().join(&bundle.id).join("notify/notify.sock"), "READY=1");
    assert_eq!((host.heard(), host.heard()), ("READY=1\n".into(), "BARRIER=1".into()));
    bundle.call_with("kill", &[], &["KILL"]).ok();
    assert_eq!(run.wait().unwrap().code(), Some(137));
    bundle.assert_gone();
}
