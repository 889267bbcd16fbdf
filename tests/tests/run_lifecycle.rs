//! What happens to a single container when nobody looks: its ports, its address and its restarts follow its ends.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::eventually::eventually;
use knarr_tests::free_port::free_port;
use knarr_tests::run_lab::{Lab, named};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A server at the container's port 80 that says what is in its /etc/hostname, until there is a file `/stop`.
const SERVER: &str = "/bin/busybox httpd -p 80 -h /etc; while ! test -e /stop; do sleep 0.05; done";

fn serve(lab: &Lab, name: &str, port: u16) -> Said {
    let publish = format!("127.0.0.1:{port}:80");
    lab.0.knarr(&["run", "-d", "--name", name, "-h", name, "-p", &publish, "base:1", "sh", "-c", SERVER])
}

/// What the server behind a port answers.
fn answer(port: u16) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(said)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n").map_err(said)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(said)?;
    text.rsplit("\r\n\r\n").next().map(|body| body.trim().to_owned()).ok_or(text)
}

fn answers(port: u16, name: &str) {
    eventually("the server answers", PATIENCE, || match answer(port) {
        Ok(text) if text == name => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn address(lab: &Lab, name: &str) -> String {
    lab.knarr(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", name]).trim().to_owned()
}

#[test]
fn of_containers_started_in_one_instant_one_has_the_port() {
    let lab = Lab::new();
    let port = free_port();
    let names: Vec<String> = (0..4).map(|number| named(&format!("race{number}"))).collect();
    let said: Vec<Said> = std::thread::scope(|scope| {
        let runs: Vec<_> = names.iter().map(|name| scope.spawn(|| serve(&lab, name, port))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let won: Vec<&String> =
        names.iter().zip(&said).filter(|(_, said)| said.code == 0).map(|(name, _)| name).collect();
    assert_eq!(won.len(), 1, "{said:?}");
    answers(port, won[0]);
    for lost in said.iter().filter(|said| said.code != 0) {
        assert_eq!(lost.code, 125, "{lost:?}");
        let words = format!("Bind for 127.0.0.1:{port} failed: port is already allocated");
        assert!(lost.err.contains(&words), "{lost:?}");
    }
}

#[test]
fn an_ended_container_has_neither_port_nor_address() {
    let lab = Lab::new();
    let port = free_port();
    let (one, two) = (named("first"), named("second"));
    serve(&lab, &one, port).ok();
    answers(port, &one);
    let hosts = |name: &str| lab.knarr(&["exec", name, "cat", "/etc/hosts"]);
    assert!(hosts(&one).ends_with(&format!("{}\t{one}\n", address(&lab, &one))));
    lab.knarr(&["stop", "-t", "0", &one]);
    assert_eq!(address(&lab, &one), "");
    assert!(answer(port).is_err(), "nobody answers for a stopped container");
    serve(&lab, &two, port).ok();
    answers(port, &two);
    let refused = lab.0.knarr(&["start", &one]).failed();
    assert!(refused.contains("port is already allocated"), "{refused}");
    // One that ends by itself, too: nobody runs a command on it.
    lab.knarr(&["exec", "-d", &two, "touch", "/stop"]);
    eventually("the port is free", PATIENCE, || {
        let said = lab.0.knarr(&["start", &one]);
        if said.code == 0 { Ok(()) } else { Err(format!("{said:?}")) }
    });
    answers(port, &one);
    eventually("its helper has seen to it", PATIENCE, || {
        let address = address(&lab, &two);
        if address.is_empty() { Ok(()) } else { Err(address) }
    });
    assert!(hosts(&one).ends_with(&format!("{}\t{one}\n", address(&lab, &one))));
}

#[test]
fn a_port_that_a_program_listens_at_is_refused() {
    let lab = Lab::new();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let said = serve(&lab, &named("late"), port);
    assert_eq!(said.code, 125, "{said:?}");
    assert!(said.err.contains("address already in use"), "{said:?}");
    assert_eq!(lab.knarr(&["ps", "-aq"]), "");
}

#[test]
fn without_a_network_there_is_a_loopback_alone() {
    let lab = Lab::new();
    let links = lab.run(&["--rm", "base:1", "ls", "/sys/class/net"]).ok();
    assert_eq!(links, "lo\n");
    let up = lab.run(&["--rm", "base:1", "/bin/busybox", "ping", "-c", "1", "127.0.0.1"]);
    assert_eq!(up.code, 0, "{up:?}");
}

/// `runs` lines are in the container's log in the end, and it stays ended.
fn ran(lab: &Lab, name: &str, runs: usize) {
    let state = ["inspect", "-f", "{{.State.Status}} {{.RestartCount}}", name];
    eventually("it has ended for good", PATIENCE, || {
        let said = lab.knarr(&state);
        if said == format!("exited {}\n", runs - 1) { Ok(()) } else { Err(said) }
    });
    assert_eq!(lab.knarr(&["logs", name]), "run\n".repeat(runs));
}

#[test]
fn restart_policies_are_kept_without_a_daemon() {
    let lab = Lab::new();
    let (fails, succeeds, always) = (named("fails"), named("succeeds"), named("always"));
    let start = |name: &str, policy: &str, script: &str| {
        lab.run(&["-d", "--name", name, "--restart", policy, "base:1", "sh", "-c", script]).ok();
    };
    start(&fails, "on-failure:2", "echo run; exit 3");
    start(&succeeds, "on-failure", "echo run");
    start(&always, "always", "echo run; sleep 0.2");
    ran(&lab, &fails, 3);
    ran(&lab, &succeeds, 1);
    assert_eq!(lab.knarr(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &always]), "always\n");
    eventually("it has been started again twice", PATIENCE, || {
        let count = lab.knarr(&["inspect", "-f", "{{.RestartCount}}", &always]);
        if count.trim().parse::<u32>().unwrap() >= 2 { Ok(()) } else { Err(count) }
    });
    lab.knarr(&["stop", "-t", "0", &always]);
    let runs = lab.knarr(&["logs", &always]).lines().count();
    // Whoever would start it again has been told before it ended.
    assert_eq!(lab.knarr(&["inspect", "-f", "{{.State.Status}}", &always]), "exited\n");
    lab.knarr(&["start", &always]);
    eventually("a start begins to count anew", PATIENCE, || {
        let now = lab.knarr(&["logs", &always]).lines().count();
        if now > runs { Ok(()) } else { Err(format!("{now} lines")) }
    });
    lab.knarr(&["rm", "-f", &always]);
    for (wrong, words) in [
        (&["--restart", "sometimes"][..], "unknown policy 'sometimes'"),
        (&["--restart", "always:2"], "can only be used with 'on-failure'"),
        (&["--restart", "always", "--rm"], "cannot specify both --restart and --rm"),
    ] {
        let said = lab.run(&[wrong, &["base:1", "true"]].concat());
        assert!(said.code == 125 && said.err.contains(words), "{said:?}");
    }
}

/// What a power cut takes: processes, mounts, cgroups, links and rules, the state directory. The records are made to be of
/// another boot, for this machine's goes on.
fn reboot(lab: &Lab, names: &[&str]) {
    let pid =
        |name: &&str| lab.knarr(&["inspect", "-f", "{{.State.Pid}}", name]).trim().parse::<u32>().unwrap();
    let pids: Vec<u32> = names.iter().map(pid).filter(|pid| *pid > 0).collect();
    let config = std::fs::read_to_string(lab.0.path("config.toml")).unwrap();
    let bridge = config.split('"').find(|word| word.starts_with("kni")).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    // First the monitors, which would follow the ends of their containers.
    let script = r#"
        for process in /proc/[0-9]*; do
            grep -qsa knarr-monitor $process/cmdline && grep -qsa "$LAB/state" $process/cmdline && kill -KILL ${process#/proc/}
        done
        kill -KILL $PIDS
        for pid in $PIDS; do while [ -e /proc/$pid/root ] && readlink /proc/$pid/root; do sleep 0.05; done; done
        awk -v lab="$LAB/" 'index($5, lab) == 1 {print $5}' /proc/self/mountinfo | tac | while read -r place; do umount -l "$place"; done
        rm -r state; grep -rl $BOOT data/containers | xargs sed -i s/$BOOT/of-another-boot/
        ip link del $BRIDGE; nft delete table inet $BRIDGE
        for name; do find /sys/fs/cgroup -depth -path "*/knarr-run/$name*" -type d -exec rmdir {} +; done"#;
    let directory = lab.0.path("");
    let mut shell = Command::new("bash");
    shell.args(["-c", script, "bash"]).args(names).current_dir(&directory);
    shell.env("LAB", directory.to_str().unwrap().trim_end_matches('/')).env("BOOT", boot.trim());
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let said = bins::run(shell.env("BRIDGE", bridge).env("PIDS", pids.join(" ")));
    assert!(!lab.0.path("state").exists(), "{said:?}");
}

#[test]
fn containers_outlive_a_reboot() {
    let lab = Lab::new();
    let port = free_port();
    let (server, stopped, plain) = (named("server"), named("stopped"), named("plain"));
    let publish = format!("127.0.0.1:{port}:80");
    lab.knarr(&[
        "run",
        "-d",
        "--restart",
        "always",
        "--name",
        &server,
        "-h",
        &server,
        "-p",
        &publish,
        "base:1",
        "sh",
        "-c",
        SERVER,
    ]);
    answers(port, &server);
    lab.run(&["-d", "--restart", "unless-stopped", "--name", &stopped, "base:1", "sleep", "1000"]).ok();
    lab.knarr(&["stop", "-t", "0", &stopped]);
    let script = "test -e /kept || echo first > /kept; sleep 1000";
    let options = ["-d", "--tmpfs", "/mem:size=64k", "--group-add", "audio", "--name", &plain];
    let id = lab.run(&[&options, &["base:1", "sh", "-c", script][..]].concat()).ok();
    let kept = || lab.0.knarr(&["exec", &plain, "cat", "/kept"]);
    eventually("it has written", PATIENCE, || {
        let said = kept();
        if said.out == "first\n" { Ok(()) } else { Err(format!("{said:?}")) }
    });
    reboot(&lab, &[&server, &stopped, &plain]);
    assert_eq!(lab.knarr(&["ps", "-q"]), "");
    assert_eq!(
        lab.knarr(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", &server]),
        "exited 255\n"
    );
    assert!(answer(port).is_err());
    assert_eq!(lab.knarr(&["start", "--boot"]), format!("{server}\n"));
    answers(port, &server);
    assert_eq!(lab.knarr(&["ps", "--format", "{{.Names}}"]), format!("{server}\n"));
    lab.knarr(&["start", &plain]);
    assert_eq!(kept().ok(), "first\n");
    let seen = lab.knarr(&["exec", &plain, "sh", "-c", "id; cat /proc/mounts"]);
    assert!(
        seen.contains("29(audio)") && seen.contains(" /mem tmpfs") && seen.contains("size=64k"),
        "{seen}"
    );
    assert_eq!(lab.knarr(&["inspect", "-f", "{{.Id}}", &plain]), id);
    lab.knarr(&["start", &stopped]);
    lab.knarr(&["rm", "-f", &server, &stopped, &plain]);
    assert_eq!(lab.knarr(&["ps", "-aq"]), "");
}

#[test]
fn whoever_waited_sees_the_end() {
    let lab = Lab::new();
    let name = named("seen");
    lab.run(&["-d", "--name", &name, "base:1", "sh", "-c", "exit 3"]).ok();
    for _ in 0..5 {
        assert_eq!(lab.knarr(&["wait", &name]), "3\n");
        assert!(lab.knarr(&["ps", "-a"]).contains("Exited (3)"));
        assert_eq!(lab.knarr(&["ps", "-q"]), "");
        lab.knarr(&["start", &name]);
    }
}

#[test]
fn what_nobody_waits_for_goes_by_itself() {
    let lab = Lab::new();
    let name = named("gone");
    lab.run(&["-d", "--rm", "--name", &name, "base:1", "true"]).ok();
    let directory = lab.0.path("data/containers").join(&name);
    eventually("its directory is gone", PATIENCE, || match directory.exists() {
        true => Err(format!("{directory:?}")),
        false => Ok(()),
    });
}

#[test]
fn a_reaper_passes_signals_on_and_reaps() {
    let lab = Lab::new();
    let name = named("init");
    let script = "trap 'exit 7' TERM; (sleep 0.1 & ); echo ready; while :; do sleep 0.05; done";
    lab.run(&["-d", "--init", "--name", &name, "base:1", "sh", "-c", script]).ok();
    eventually("it is ready", PATIENCE, || {
        let said = lab.0.knarr(&["logs", &name]);
        if said.out == "ready\n" { Ok(()) } else { Err(format!("{said:?}")) }
    });
    assert_eq!(lab.knarr(&["exec", &name, "cat", "/proc/1/comm"]), "docker-init\n");
    eventually("the orphan is reaped", PATIENCE, || {
        let all = lab.knarr(&["exec", &name, "/bin/busybox", "ps", "-o", "stat,args"]);
        if all.contains('Z') { Err(all) } else { Ok(()) }
    });
    assert_eq!(lab.knarr(&["inspect", "-f", "{{.Path}} {{.HostConfig.Init}}", &name]), "sh true\n");
    lab.knarr(&["stop", &name]);
    assert_eq!(lab.knarr(&["inspect", "-f", "{{.State.ExitCode}}", &name]), "7\n");
    let said = lab.run(&["--rm", "--init", "base:1", "nosuch"]);
    assert_eq!(said.code, 127, "{said:?}");
    assert_eq!(lab.run(&["--rm", "--init", "base:1", "sh", "-c", "kill -9 $$"]).code, 137);
}

#[test]
fn a_detached_command_goes_on_by_itself() {
    let lab = Lab::new();
    let name = named("busy");
    lab.run(&["-d", "--name", &name, "base:1", "sleep", "1000"]).ok();
    let script = "echo $$ > /started; sleep 0.3; echo done > /ended";
    assert_eq!(lab.knarr(&["exec", "-d", &name, "sh", "-c", script]), "");
    eventually("it went on after us", PATIENCE, || {
        let said = lab.0.knarr(&["exec", &name, "cat", "/ended"]);
        if said.out == "done\n" { Ok(()) } else { Err(format!("{said:?}")) }
    });
    let said = lab.0.knarr(&["exec", "-d", &name, "nosuch"]);
    assert_ne!(said.code, 0, "{said:?}");
    // One with a terminal says more than a terminal holds, to nobody.
    let script =
        "test -t 0 && test -t 1 && /bin/busybox head -c 300000 /dev/zero && /bin/busybox tty > /over";
    assert_eq!(lab.knarr(&["exec", "-d", "-t", &name, "sh", "-c", script]), "");
    eventually("it said everything", PATIENCE, || {
        let said = lab.0.knarr(&["exec", &name, "cat", "/over"]);
        if said.out.starts_with("/dev/pts/") { Ok(()) } else { Err(format!("{said:?}")) }
    });
}
