//! `knarr run` and its companions as people use them from docker: flags, columns, exit codes.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::eventually::eventually;
use knarr_tests::run_lab::Lab;
use std::time::Duration;

#[test]
fn what_a_container_is_given() {
    let lab = Lab::new();
    std::fs::write(lab.0.path("env"), "# comment\nFROM_FILE=a b\n\nOVER=file\n").unwrap();
    let said = lab.run(&["--rm", "--env-file", "env", "-e", "OVER=flag", "base:1", "env"]).ok();
    assert!(
        said.contains("FROM_FILE=a b\n") && said.contains("OVER=flag\n") && !said.contains("comment"),
        "{said}"
    );
    assert_eq!(
        lab.run(&["--rm", "-u", "www:audio", "base:1", "id"]).ok().trim(),
        "uid=33(www) gid=29(audio) groups=29(audio)"
    );
    assert_eq!(
        lab.run(&["--rm", "-u", "5:6", "-w", "/tmp", "base:1", "sh", "-c", "id -u; pwd"]).ok(),
        "5\n/tmp\n"
    );
    assert_eq!(lab.run(&["--rm", "--hostname", "ship", "base:1", "hostname"]).ok(), "ship\n");
    let volume = format!("{}:/v:ro", lab.0.path("base").display());
    assert_ne!(lab.run(&["--rm", "-v", &volume, "base:1", "touch", "/v/x"]).code, 0);
    assert_ne!(lab.run(&["--rm", "--read-only", "base:1", "touch", "/x"]).code, 0);
    assert_eq!(lab.run(&["--rm", "--entrypoint", "echo", "base:1", "hi"]).ok(), "hi\n");
    assert_eq!(lab.knarr(&["ps", "-aq"]), "", "--rm leaves nothing");
}

#[test]
fn limits_and_places_in_memory() {
    let lab = Lab::new();
    let said = lab
        .run(&[
            "--rm",
            "--ulimit",
            "nofile=64:128",
            "--shm-size",
            "1m",
            "--pids-limit",
            "17",
            "--tmpfs",
            "/mem:size=64k",
            "--mount",
            "type=tmpfs,dst=/other",
            "--group-add",
            "audio",
            "--add-host",
            "friend:10.1.2.3",
            "--dns",
            "10.9.9.9",
            "--stop-signal",
            "SIGINT",
            "base:1",
            "sh",
            "-c",
            "ulimit -n; ulimit -H -n; cat /proc/mounts /etc/hosts /etc/resolv.conf; id; \
             cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max 2>/dev/null; true",
        ])
        .ok();
    assert!(said.starts_with("64\n128\n"), "{said}");
    for words in [
        "/dev/shm tmpfs",
        "size=1024k",
        "tmpfs /mem tmpfs rw,nosuid,nodev,noexec",
        "tmpfs /other tmpfs",
        "10.1.2.3\tfriend",
        "nameserver 10.9.9.9",
        "29(audio)",
        "\n17\n",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    for (wrong, words) in [
        (&["--ulimit", "files=1"][..], "invalid ulimit type: files"),
        (&["--restart", "sometimes"], "unknown policy 'sometimes'"),
        (&["--mount", "type=bind,src=/no/such/place,dst=/x"], "bind source path does not exist"),
        (&["--network", "mine"], "network mine not found"),
        (&["--pull", "never", "--rm", "nosuch:1"], "No such image: nosuch:1"),
        (&["--stop-signal", "SIGNONE"], "invalid signal: SIGNONE"),
        (&["--name", "/a b"], "Invalid container name"),
    ] {
        let said = lab.0.knarr(&[&["run", "--network", "none"], wrong, &["base:1", "true"]].concat());
        assert_eq!(said.code, 125, "{wrong:?}: {said:?}");
        assert!(said.err.contains(words), "{wrong:?}: {said:?}");
    }
    assert_eq!(lab.knarr(&["ps", "-aq"]), "", "what could not be made is not there");
}

#[test]
fn exit_codes_are_dockers() {
    let lab = Lab::new();
    for (arguments, code) in [
        (&["--rm", "base:1", "sh", "-c", "exit 42"][..], 42),
        (&["--rm", "base:1", "nosuch"], 127),
        (&["--rm", "base:1", "/etc"], 126),
        (&["--rm", "--memory", "x", "base:1", "true"], 125),
        (&["--rm", "base:1", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"], 137),
        (&["--rm", "--no-such-flag", "base:1", "true"], 125),
    ] {
        let said = lab.run(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {said:?}");
    }
}

/// Waits for what a container says.
fn logged(lab: &Lab, name: &str, expected: &str) {
    eventually(expected, Duration::from_secs(60), || {
        let said = lab.0.knarr(&["logs", name]);
        if said.out == expected { Ok(()) } else { Err(format!("{said:?}")) }
    });
}

#[test]
fn the_life_of_a_container_in_the_background() {
    let lab = Lab::new();
    // Names are names of cgroups too, which all runs of this machine share.
    let c = &*format!("lab-{}", std::process::id());
    let script = "echo one; echo two >&2; sleep 1000";
    let id = lab.run(&["-d", "--name", c, "-l", "a=b", "base:1", "sh", "-c", script]).ok();
    let id = id.trim();
    assert_eq!(id.len(), 64);
    eventually("both lines are logged", Duration::from_secs(60), || {
        let said = lab.0.knarr(&["logs", "--tail", "all", c]);
        if said.out == "one\n" && said.err == "two\n" { Ok(()) } else { Err(format!("{said:?}")) }
    });
    let listed = lab.knarr(&["ps"]);
    let header: Vec<&str> =
        listed.lines().next().unwrap().split("   ").map(str::trim).filter(|s| !s.is_empty()).collect();
    assert_eq!(header, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert!(
        listed.contains("base:1") && listed.contains("\"sh -c 'echo one; ec…\"") && listed.contains("Up "),
        "{listed}"
    );
    assert_eq!(lab.knarr(&["ps", "-q"]).trim(), &id[..12]);
    assert_eq!(lab.knarr(&["ps", "--no-trunc", "-q"]).trim(), id);
    assert_eq!(
        lab.knarr(&["inspect", "-f", "{{.State.Running}} {{.Name}} {{index .Config.Labels \"a\"}}", c]),
        format!("true /{c} b\n")
    );
    for (filter, found) in
        [("label=a", true), ("label=a=c", false), ("name=lab", true), ("status=exited", false)]
    {
        let listed = lab.knarr(&["ps", "--filter", filter, "--format", "{{.Names}}"]);
        assert_eq!(listed.trim() == c, found, "{filter}: {listed}");
    }
    assert_eq!(lab.knarr(&["exec", &id[..12], "echo", "in"]), "in\n", "an id will do for a name");
    let exec = ["exec", "-e", "X=1", "-w", "/tmp", "-u", "www", c, "sh", "-c", "echo $X; pwd; id -u"];
    assert_eq!(lab.knarr(&exec), "1\n/tmp\n33\n");
    assert_eq!(lab.0.knarr(&["exec", c, "nosuch"]).code, 127);
    assert_eq!(lab.knarr(&["logs", "--since", "1970-01-01T00:00:00Z", "-n", "0", c]), "");
    assert_eq!(lab.knarr(&["logs", "--until", "1h", c]), "");
    assert!(lab.0.knarr(&["rm", c]).failed().contains("container is running"));
    assert_eq!(lab.knarr(&["kill", c]), format!("{c}\n"));
    assert_eq!(lab.knarr(&["wait", c]), "137\n");
    assert!(lab.knarr(&["ps", "-a"]).contains("Exited (137)"), "wait and ps agree");
    assert!(lab.0.knarr(&["kill", c]).failed().contains("is not running"));
    assert!(lab.0.knarr(&["exec", c, "true"]).failed().contains("is not running"));
    assert_eq!(lab.knarr(&["rm", c]), format!("{c}\n"));
    assert!(lab.0.knarr(&["inspect", c]).failed().contains(&format!("No such object: {c}")));
    let missing = lab.0.knarr(&["container", "inspect", c]).failed();
    assert!(missing.contains(&format!("No such container: {c}")), "{missing}");
    let gone = lab.0.knarr(&["rm", "-f", c]);
    assert_eq!((gone.code, gone.out.as_str()), (0, ""), "gone is what was wanted");
    assert_eq!(gone.err, format!("knarr: No such container: {c}\n"));
}

#[test]
fn stopped_containers_start_again_with_what_they_wrote() {
    let lab = Lab::new();
    let c = &*format!("again-{}", std::process::id());
    let script = "trap 'exit 5' TERM; echo run >> /count; cat /count; while :; do sleep 0.05; done";
    let create = ["create", "--network", "none", "--name", c, "base:1", "sh", "-c", script];
    let id = lab.knarr(&create);
    assert_eq!(lab.knarr(&["inspect", "-f", "{{.State.Status}}", c]), "created\n");
    assert_eq!(lab.knarr(&["start", c]), format!("{c}\n"));
    logged(&lab, c, "run\n");
    assert_eq!(lab.knarr(&["stop", c]), format!("{c}\n"));
    assert_eq!(lab.knarr(&["inspect", "-f", "{{.State.ExitCode}} {{.Id}}", c]), format!("5 {id}"));
    lab.knarr(&["start", c]);
    logged(&lab, c, "run\nrun\nrun\n");
    lab.knarr(&["restart", c]);
    logged(&lab, c, "run\nrun\nrun\nrun\nrun\nrun\n");
    assert_eq!(lab.knarr(&["start", c]), format!("{c}\n"), "one that runs is fine");
    lab.knarr(&["pause", c]);
    assert!(lab.knarr(&["ps"]).contains("(Paused)"));
    assert!(lab.0.knarr(&["exec", c, "true"]).failed().contains("is paused"));
    assert!(lab.0.knarr(&["pause", c]).failed().contains("already paused"));
    lab.knarr(&["unpause", c]);
    assert_eq!(lab.knarr(&["exec", c, "echo", "on"]), "on\n");
    let new = &*format!("renamed-{}", std::process::id());
    lab.knarr(&["rename", c, new]);
    assert_eq!(lab.knarr(&["ps", "--format", "{{.Names}}"]), format!("{new}\n"));
    assert!(lab.0.knarr(&["start", c]).failed().contains(&format!("No such container: {c}")));
    lab.run(&["-d", "--name", c, "base:1", "sleep", "1000"]).ok();
    assert!(lab.0.knarr(&["rename", new, c]).failed().contains("already in use"));
    assert!(lab.knarr(&["top", new, "-o", "pid,args"]).contains("sh -c"));
    let stats = lab.knarr(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", c]);
    assert_eq!(stats, format!("{c} 1\n"));
    let both = lab.0.knarr(&["stop", "-t", "0", c, new, "nosuch"]);
    assert!(
        both.err.contains("No such container: nosuch") && both.out == format!("{c}\n{new}\n"),
        "{both:?}"
    );
    let again = ["start", "-a", c];
    lab.knarr(&["rm", c]);
    lab.run(&["--name", c, "base:1", "sh", "-c", "echo out; exit 4"]);
    let said = lab.0.knarr(&again);
    assert_eq!((said.code, said.out.as_str()), (4, "out\n"), "{said:?}");
}

#[test]
fn what_is_to_go_with_its_end_goes() {
    let lab = Lab::new();
    let c = &*format!("brief-{}", std::process::id());
    lab.run(&["-d", "--rm", "--name", c, "-v", "/data", "base:1", "sleep", "1000"]).ok();
    assert_eq!(lab.knarr(&["volume", "ls", "-q"]).lines().count(), 1);
    lab.knarr(&["stop", "-t", "0", c]);
    assert_eq!(
        (lab.knarr(&["ps", "-aq"]), lab.knarr(&["volume", "ls", "-q"])),
        (String::new(), String::new())
    );
    lab.run(&["-d", "--rm", "--name", c, "base:1", "sh", "-c", "exit 3"]).ok();
    let waited = lab.0.knarr(&["wait", c]);
    assert!(waited.out == "3\n" || waited.err.contains("No such container"), "{waited:?}");
    assert_eq!(lab.knarr(&["ps", "-aq"]), "");
    let cid = lab.0.path("cid");
    let cid = cid.to_str().unwrap();
    let id = lab.run(&["-d", "--cidfile", cid, "base:1", "true"]).ok();
    assert_eq!(std::fs::read_to_string(cid).unwrap(), id.trim());
    assert!(lab.run(&["--cidfile", cid, "base:1", "true"]).failed().contains("container ID file found"));
}
