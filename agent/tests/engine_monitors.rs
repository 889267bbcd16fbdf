//! The monitor against the real kernel and a real OCI runtime: stdio, logs, exits, exec, attach, and what must go on
//! when something hangs.
//!
//! The runtime is `knarr-runtime` from the build directory, or the program that `KNARR_TEST_RUNTIME` names.

// A test may panic, and so may what it is made of; clippy's own exception covers only the test functions.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "engine_monitors/lab.rs"]
mod lab;

use knarr_agent::engine::monitors::{AttachOutput, Monitors};
use lab::{Lab, read_all};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

#[tokio::test]
async fn a_container_runs_and_its_log_and_exit_are_kept() {
    let lab = Lab::new("basic").await;
    lab.run("c", &["sh", "-c", "echo out; echo err >&2; printf 'no newline'; exit 7"]).await;
    let exit = lab.monitors.wait(lab.sandbox, "c").await.unwrap();
    assert_eq!((exit.code, exit.oom_killed, exit.timed_out), (7, false, false));
    let expected = ["stderr F err", "stdout F out", "stdout P no newline"];
    lab.log_becomes("c", |mut log| {
        log.sort();
        log == expected
    })
    .await;
    let mode = std::fs::metadata(lab.log_path("c")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(lab.monitors.exit_of(lab.sandbox, "c").await.unwrap(), Some(exit));
    lab.monitors.forget(lab.sandbox, "c").await.unwrap();
    assert_eq!(lab.monitors.exit_of(lab.sandbox, "c").await.unwrap(), None);
    lab.end().await;
}

#[tokio::test]
async fn the_runtimes_own_error_text_is_passed_on() {
    let lab = Lab::new("error").await;
    let error = lab.create(lab.container("c", &["/no/such/program"])).await.unwrap_err().to_string();
    assert!(error.contains("/no/such/program"), "{error}");
    let mut request = lab.container("d", &["true"]);
    request.log_path = Some("/nonexistent/directory/0.log".into());
    let error = lab.create(request).await.unwrap_err().to_string();
    assert!(error.contains("open log file /nonexistent/directory/0.log"), "{error}");
    lab.end().await;
}

#[tokio::test]
async fn exec_passes_stdio_and_exit_status() {
    let lab = Lab::new("exec").await;
    lab.run("c", &["sleep", "1000"]).await;
    let session = lab.exec("c", &["sh", "-c", "cat; echo err >&2; exit 3"], false, true, None).await.unwrap();
    let mut stdin = pipe::Sender::from_owned_fd(session.stdin.unwrap()).unwrap();
    stdin.write_all(b"hello").await.unwrap();
    drop(stdin);
    assert_eq!(read_all(session.stdout).await, "hello");
    assert_eq!(read_all(session.stderr.unwrap()).await, "err\n");
    assert_eq!(session.exit.await.unwrap().unwrap().code, 3);
    for _ in 0..20 {
        let session = lab.exec("c", &["true"], false, false, None).await.unwrap();
        assert_eq!(session.exit.await.unwrap().unwrap().code, 0);
    }
    let error = lab.exec("c", &["/no/such"], false, false, None).await.unwrap_err().to_string();
    assert!(error.contains("/no/such"), "{error}");
    lab.end().await;
}

#[tokio::test]
async fn an_exec_is_killed_with_its_tree_when_its_time_is_up_or_nobody_waits() {
    let lab = Lab::new("kill").await;
    lab.run("c", &["sleep", "1000"]).await;
    let script = "(sleep 777 & sleep 778 & wait) & setsid sleep 779 & sleep 780";
    let timeout = Some(Duration::from_secs(3));
    let session = lab.exec("c", &["sh", "-c", script], false, false, timeout).await.unwrap();
    let exit = session.exit.await.unwrap().unwrap();
    assert_eq!((exit.code, exit.timed_out), (137, true));
    lab.eventually("the timed-out tree is gone", || {
        !lab.processes("c").iter().any(|p| p.contains("sleep 77"))
    })
    .await;

    let session = lab.exec("c", &["sh", "-c", "sleep 881 & sleep 882"], false, false, None).await.unwrap();
    lab.eventually("it runs", || lab.processes("c").iter().any(|p| p.contains("sleep 882"))).await;
    drop(session);
    lab.eventually("the abandoned tree is gone", || {
        !lab.processes("c").iter().any(|p| p.contains("sleep 88"))
    })
    .await;
    lab.end().await;
}

#[tokio::test]
async fn an_exec_may_have_a_terminal() {
    let lab = Lab::new("tty").await;
    lab.run("c", &["sleep", "1000"]).await;
    let session = lab.exec("c", &["sh", "-c", "read x; stty size; tty"], true, true, None).await.unwrap();
    lab.monitors.resize_exec(&session, 101, 33).unwrap();
    let master = session.stdin.unwrap();
    rustix::io::write(&master, b"go\n").unwrap();
    let said = lab::read_terminal(session.stdout).await;
    assert!(said.contains("33 101") && said.contains("/dev/pts/"), "{said:?}");
    assert_eq!(session.exit.await.unwrap().unwrap().code, 0);
    lab.end().await;
}

#[tokio::test]
async fn the_first_client_of_an_interactive_container_hears_what_was_said_before() {
    let lab = Lab::new("early").await;
    for (id, tty) in [("c", false), ("t", true)] {
        let request = lab.interactive(id, &["sh", "-c", "echo before; read x; echo got $x"], tty);
        lab.create(request).await.unwrap();
        lab.start(id);
        lab.eventually("it has spoken", || lab.log_texts(id).join("").contains("before")).await;
        let mut first = lab.monitors.attach(lab.sandbox, id).await.unwrap();
        let end = if tty { "\r\n" } else { "\n" };
        let said = first.output.recv().await;
        assert_eq!(said, Some(AttachOutput::Stdout(format!("before{end}").into_bytes())));
        let mut second = lab.monitors.attach(lab.sandbox, id).await.unwrap();
        first.stdin.send(b"it\n".to_vec()).await.unwrap();
        let mut rest = Vec::new();
        while let Some(AttachOutput::Stdout(data)) = second.output.recv().await {
            rest.extend(data);
        }
        let rest = String::from_utf8(rest).unwrap();
        assert!(rest.contains("got it") && !rest.contains("before"), "{rest:?}");
    }
    lab.end().await;
}

#[tokio::test]
async fn many_clients_attach_and_stdin_ends_once() {
    let lab = Lab::new("attach").await;
    let mut request = lab.container("c", &["sh", "-c", "cat; echo over"]);
    request.stdin = true;
    request.stdin_once = true;
    lab.create(request).await.unwrap();
    lab.start("c");
    let mut first = lab.monitors.attach(lab.sandbox, "c").await.unwrap();
    let mut second = lab.monitors.attach(lab.sandbox, "c").await.unwrap();
    first.stdin.send(b"hi\n".to_vec()).await.unwrap();
    assert_eq!(first.output.recv().await, Some(AttachOutput::Stdout(b"hi\n".to_vec())));
    assert_eq!(second.output.recv().await, Some(AttachOutput::Stdout(b"hi\n".to_vec())));
    drop(first.stdin);
    assert_eq!(second.output.recv().await, Some(AttachOutput::Stdout(b"over\n".to_vec())));
    assert_eq!(second.output.recv().await, None);
    assert_eq!(lab.monitors.wait(lab.sandbox, "c").await.unwrap().code, 0);
    lab.log_becomes("c", |log| log == ["stdout F hi", "stdout F over"]).await;
    lab.end().await;
}

#[tokio::test]
async fn a_client_that_attaches_first_gets_the_first_byte() {
    let lab = Lab::new("early").await;
    let mut early = lab.monitors.attach(lab.sandbox, "c").await.unwrap();
    let never = lab.monitors.attach(lab.sandbox, "never").await.unwrap();
    let mut request = lab.container("c", &["sh", "-c", "echo first; cat"]);
    (request.stdin, request.stdin_once) = (true, true);
    early.stdin.send(b"early input\n".to_vec()).await.unwrap();
    drop(early.stdin);
    lab.create(request).await.unwrap();
    lab.start("c");
    let mut said = Vec::new();
    while let Some(AttachOutput::Stdout(data)) = early.output.recv().await {
        said.extend(data);
    }
    assert_eq!(String::from_utf8(said).unwrap(), "first\nearly input\n");
    lab.monitors.forget(lab.sandbox, "never").await.unwrap();
    let mut output = never.output;
    assert_eq!(output.recv().await, None);
    lab.end().await;
}

#[tokio::test]
async fn much_output_arrives_byte_for_byte() {
    let lab = Lab::new("bulk").await;
    let mut request = lab.container("c", &["sh", "-c", "read x; seq 1 300000"]);
    request.stdin = true;
    lab.create(request).await.unwrap();
    lab.start("c");
    let mut session = lab.monitors.attach(lab.sandbox, "c").await.unwrap();
    session.stdin.send(b"go\n".to_vec()).await.unwrap();
    let mut attached = Vec::new();
    while let Some(AttachOutput::Stdout(data)) = session.output.recv().await {
        attached.extend(data);
    }
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(attached == expected.as_bytes());
    lab.monitors.wait(lab.sandbox, "c").await.unwrap();
    let line = |line: &String| format!("{}\n", line.strip_prefix("stdout F ").unwrap_or("cut"));
    lab.log_becomes("c", |log| log.iter().map(line).collect::<String>() == expected).await;
    lab.end().await;
}

#[tokio::test]
async fn a_log_is_reopened_after_rotation() {
    let lab = Lab::new("rotate").await;
    let mut request = lab.container("c", &["sh", "-c", "while read x; do echo $x; done"]);
    request.stdin = true;
    lab.create(request).await.unwrap();
    lab.start("c");
    let mut session = lab.monitors.attach(lab.sandbox, "c").await.unwrap();
    session.stdin.send(b"before\n".to_vec()).await.unwrap();
    session.output.recv().await.unwrap();
    let old = lab.log_path("c").with_extension("old");
    lab.eventually("the line is logged", || lab.log_texts("c").len() == 1).await;
    std::fs::rename(lab.log_path("c"), &old).unwrap();
    lab.monitors.reopen_log(lab.sandbox, "c").await.unwrap();
    session.stdin.send(b"after\n".to_vec()).await.unwrap();
    lab.eventually("the new file has the line", || lab.log_texts("c") == ["stdout F after"]).await;
    lab.end().await;
}

#[tokio::test]
async fn a_stalled_log_delays_neither_exec_nor_exit() {
    let lab = Lab::new("stall").await;
    // A FIFO that nobody drains blocks its writer exactly as a hung disk does.
    let fifo = lab.log_path("c");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _reader_that_never_reads = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    lab.run("c", &["sh", "-c", "yes & sleep 1000"]).await;
    lab.eventually("the writer is stuck", || lab.log_writer_is_stuck()).await;
    let session = lab.exec("c", &["echo", "alive"], false, false, None).await.unwrap();
    assert_eq!(read_all(session.stdout).await, "alive\n");
    lab.kill("c");
    assert_eq!(lab.monitors.wait(lab.sandbox, "c").await.unwrap().code, 137);
    lab.end().await;
}

#[tokio::test]
async fn a_client_that_never_reads_delays_nobody() {
    let lab = Lab::new("slow").await;
    let mut request = lab.container("c", &["sh", "-c", "read x; yes"]);
    request.stdin = true;
    lab.create(request).await.unwrap();
    lab.start("c");
    let slow = lab.monitors.attach(lab.sandbox, "c").await.unwrap();
    slow.stdin.send(b"go\n".to_vec()).await.unwrap();
    lab.eventually("output flows", || std::fs::metadata(lab.log_path("c")).unwrap().len() > 100_000).await;
    let session = lab.exec("c", &["echo", "alive"], false, false, None).await.unwrap();
    assert_eq!(read_all(session.stdout).await, "alive\n");
    lab.kill("c");
    assert_eq!(lab.monitors.wait(lab.sandbox, "c").await.unwrap().code, 137);
    lab.end().await;
}

#[tokio::test]
async fn the_monitor_outlives_its_launcher_and_answers_the_next() {
    let lab = Lab::new("outlive").await;
    lab.run("c", &["sh", "-c", "sleep 0.2; exit 5"]).await;
    let next = lab.another_client();
    next.ensure(lab.sandbox).await.unwrap();
    assert_eq!(next.wait(lab.sandbox, "c").await.unwrap().code, 5);
    let error = lab.monitors.wait(lab.sandbox, "unknown").await.unwrap_err().to_string();
    assert_eq!(error, "container unknown is not known to its monitor");
    lab.end().await;
}

#[tokio::test]
async fn a_killed_monitor_is_replaced_and_its_containers_go_on() {
    let lab = Lab::new("killed").await;
    let line = "trap '' TERM; echo before; while [ ! -e /go ]; do sleep 0.05; done; echo after; sleep 1000";
    lab.run("c", &["sh", "-c", line]).await;
    lab.eventually("the first line is logged", || lab.log_texts("c") == ["stdout F before"]).await;
    lab.kill_monitor().await;
    // Written while there is no monitor: it waits in the pipe.
    lab.touch("c", "go");
    lab.monitors.ensure(lab.sandbox).await.unwrap();
    lab.eventually("output goes on", || lab.log_texts("c") == ["stdout F before", "stdout F after"]).await;
    let session = lab.exec("c", &["echo", "alive"], false, false, None).await.unwrap();
    assert_eq!(read_all(session.stdout).await, "alive\n");
    lab.kill("c");
    let exit = lab.monitors.wait(lab.sandbox, "c").await.unwrap();
    assert_eq!(exit.code, 137, "the end is seen, the status of somebody else's child is not");
    lab.end().await;
    assert!(!lab.directory().exists(), "the monitor's directory is removed");
}

#[tokio::test]
async fn what_ended_without_a_monitor_has_an_exit_all_the_same() {
    let lab = Lab::new("unseen").await;
    lab.run("c", &["sleep", "1000"]).await;
    lab.kill_monitor().await;
    lab.kill("c");
    lab.monitors.ensure(lab.sandbox).await.unwrap();
    assert_eq!(lab.monitors.wait(lab.sandbox, "c").await.unwrap().code, 137);
    lab.end().await;
}

#[tokio::test]
async fn oom_kills_are_told_apart() {
    let lab = Lab::new("oom").await;
    lab.create(lab.container_with_memory(
        "c",
        &["sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M"],
        15 << 20,
    ))
    .await
    .unwrap();
    lab.start("c");
    let exit = lab.monitors.wait(lab.sandbox, "c").await.unwrap();
    assert_eq!((exit.code, exit.oom_killed), (137, true));
    lab.end().await;
}

#[tokio::test]
async fn a_living_container_keeps_its_monitor() {
    let lab = Lab::new("living").await;
    lab.run("c", &["sleep", "1000"]).await;
    let error = format!("{:#}", lab.monitors.remove(lab.sandbox).await.unwrap_err());
    assert!(error.ends_with("container c is still running"), "{error}");
    lab.end().await;
    assert!(!lab.directory().exists(), "the monitor's directory is removed");
    lab.monitors.remove(lab.sandbox).await.unwrap();
}

#[tokio::test]
async fn the_monitor_is_small() {
    let lab = Lab::new("small").await;
    lab.run("c", &["sh", "-c", "echo started; sleep 1000"]).await;
    lab.eventually("it has logged", || lab.log_texts("c").len() == 1).await;
    let private = lab.private_kib();
    // Debug builds are larger; the figure that counts is the release build's, printed here and held by the bench.
    println!("private KiB of the monitor and its log writer: {private:?}");
    assert!(private.iter().sum::<u64>() < 400, "{private:?}");
    lab.end().await;
}

#[tokio::test]
async fn the_init_of_a_shared_pid_namespace_reaps_and_ends_on_sigterm() {
    let mut init = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(lab::built("knarr-monitor"))
        .arg("init")
        .spawn()
        .unwrap();
    let lab = Lab::new("init").await;
    let children = format!("/proc/{0}/task/{0}/children", init.id());
    let child = || std::fs::read_to_string(&children).unwrap_or_default().trim().to_owned();
    let name = || std::fs::read_to_string(format!("/proc/{}/comm", child())).unwrap_or_default();
    lab.eventually("it runs", || name().trim() == "knarr-monitor").await;
    // An orphan of the namespace: its parent ends at once.
    let orphan = std::process::Command::new("nsenter")
        .args(["--target", &child(), "--pid", "sh", "-c", "sleep 0.05 &"])
        .status();
    assert!(orphan.unwrap().success());
    let pid = child();
    let reaped =
        || std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap().trim().is_empty();
    lab.eventually("the orphan is reaped", reaped).await;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child().parse().unwrap()), nix::sys::signal::SIGTERM)
        .unwrap();
    assert!(init.wait().unwrap().success());
    lab.end().await;
}
