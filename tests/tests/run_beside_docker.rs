//! What a real Docker answered to the same commands, where ours once differed.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::run_lab::{Lab, named};
use std::process::Command;

/// Runs a script in which `K` is knarr on the lab's store; `$KNARR` is the same as a process of its own in the background.
fn script(lab: &Lab, script: &str) -> Said {
    let knarr = lab.0.command(&[]);
    let words = [knarr.get_program()].into_iter().chain(knarr.get_args());
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    let text = format!("KNARR='{}'\nK() {{ $KNARR \"$@\"; }}\n{script}", words.join(" "));
    bins::run(Command::new("sh").arg("-c").arg(text).current_dir(lab.0.path("")))
}

#[test]
fn what_is_piped_in_comes_out() {
    let lab = Lab::new();
    let said = script(
        &lab,
        "for i in 1 2 3 4 5; do echo $i | K run -i --rm --network none base:1 cat; done
         printf x | K run -i --rm --network none base:1 sh -c 'echo begin; cat; echo; echo end'
         head -c 1000000 /dev/zero | K run -i --rm --network none base:1 cat | wc -c
         K run -i --rm --network none base:1 sh -c 'cat; echo end' </dev/null",
    );
    assert_eq!(said.ok(), "1\n2\n3\n4\n5\nbegin\nx\nend\n1000000\nend\n");
}

#[test]
fn what_follows_the_image_is_no_option() {
    let lab = Lab::new();
    let run = |more: &[&str]| lab.run(&[&["--rm", "--network", "none"], more].concat()).ok();
    assert_eq!(run(&["--entrypoint", "sh", "base:1", "-c", "echo $0 $1", "a", "b"]), "a b\n");
    let words = ["--entrypoint", "echo", "base:1", "-l", "--help", "--rm", "--", "-v", "x"];
    assert_eq!(run(&words), "-l --help --rm -- -v x\n");
    assert_eq!(lab.run(&["--rm", "--no-such", "base:1"]).code, 125);
}

#[test]
fn refusals_are_dockers() {
    let lab = Lab::new();
    for (options, words) in [
        (&["--cpus", "100000"][..], "range of CPUs is from 0.01 to "),
        (&["--cpuset-cpus", "5000"], "Requested CPUs are not available - requested 5000, available: "),
        (&["--cpuset-cpus", "x"], "Invalid value x for cpuset cpus"),
        (
            &["-m", "10m", "--memory-swap", "7m"],
            "Minimum memoryswap limit should be larger than memory limit, see usage",
        ),
        (&["--oom-score-adj", "5000"], "Invalid value 5000, range for oom score adj is [-1000, 1000]"),
        (
            &["--dns", "x"],
            "invalid argument \"x\" for \"--dns\" flag: IP address is not correctly formatted: x",
        ),
        (&["-l", "=x"], "invalid argument \"=x\" for \"-l, --label\" flag: invalid label '=x': empty name"),
        (&["--expose", "x"], "invalid range format for --expose: x"),
        (&["-p", "x"], "invalid containerPort: x"),
        (&["-p", "99999:1"], "invalid hostPort: 99999"),
        (&["-p", "10-12:1-2"], "invalid ranges specified for container and host Ports: 1-2 and 10-12"),
        (
            &["--restart", "on-failure:x"],
            "invalid restart policy format: maximum retry count must be an integer",
        ),
    ] {
        let said = lab.run(&[options, &["base:1", "true"]].concat());
        assert!(said.err.starts_with(&format!("knarr: {words}")), "{options:?}: {said:?}");
        assert_eq!(said.code, 125, "{options:?}");
    }
    for (words, expected) in [
        (&["ps", "--filter", "status=nope"][..], "invalid filter 'status=nope'"),
        (&["ps", "--filter", "health=nope"], "invalid filter 'health=nope'"),
        (&["push", "nosuch:1"], "An image does not exist locally with the tag: nosuch"),
    ] {
        assert_eq!(lab.0.knarr(words).failed(), format!("knarr: {expected}\n"));
    }
    let said = lab.run(&["--rm", "--network", "host", "-p", "80:80", "base:1", "echo", "ran"]);
    assert_eq!(said.err, "WARNING: Published ports are discarded when using host network mode\n");
    assert_eq!(said.ok(), "ran\n");
    assert_eq!(lab.0.knarr(&["network", "rm", "-f", "nosuch"]).ok(), "");
}

#[test]
fn inspect_has_the_members_that_templates_name() {
    let lab = Lab::new();
    let (c, volume) = (&*named("members"), &*named("members-volume"));
    let data = format!("{volume}:/data");
    let words = [
        &["create", "--name", c, "--network", "none", "-v", &data][..],
        &["-v", "/usr/share:/usr/share:ro", "--tmpfs", "/t:size=1m", "--shm-size", "0", "-i"],
        &["--stop-signal", "USR1", "--ulimit", "nofile=1:2", "base:1", "sh", "-c", "echo a; sleep 1000"],
    ];
    lab.0.knarr(&words.concat()).ok();
    let told = |template: &str| lab.0.knarr(&["inspect", "-f", template, c]).ok();
    for (template, expected) in [
        ("{{.Config.OpenStdin}} {{.Config.StdinOnce}} {{.Config.AttachStdout}}", "true false false"),
        ("{{.Config.StopSignal}} {{.Config.Domainname}}", "USR1 "),
        (
            "{{.HostConfig.ShmSize}} {{json .HostConfig.CapAdd}} {{json .HostConfig.Tmpfs}}",
            "67108864 null {\"/t\":\"size=1m\"}",
        ),
        ("{{json .HostConfig.Ulimits}}", "[{\"Hard\":2,\"Name\":\"nofile\",\"Soft\":1}]"),
        (
            "{{.HostConfig.PublishAllPorts}} {{.HostConfig.OomKillDisable}} {{.HostConfig.Devices}}",
            "false false []",
        ),
    ] {
        assert_eq!(told(template), format!("{expected}\n"), "{template}");
    }
    let listed = |more: &[&str]| lab.knarr(&[&["ps", "-a", "--filter", &format!("name={c}")], more].concat());
    let (short, whole) =
        (listed(&["--format", "{{.Command}}"]), listed(&["--no-trunc", "--format", "{{.Command}}"]));
    assert_eq!(
        (short.as_str(), whole.as_str()),
        ("\"sh -c 'echo a; slee…\"\n", "\"sh -c 'echo a; sleep 1000'\"\n")
    );
    let mounts = listed(&["--no-trunc", "--format", "{{.Mounts}} {{.LocalVolumes}}"]);
    assert_eq!(mounts, format!("{volume},/usr/share 1\n"));
    lab.knarr(&["update", "--cpus", "0.5", c]);
    assert_eq!(told("{{.HostConfig.NanoCpus}} {{.HostConfig.CpuQuota}}"), "500000000 0\n");
    lab.knarr(&["rm", "-f", c]);
    lab.knarr(&["volume", "rm", volume]);
}

/// A signal that asks for an end reaches the container whose output is shown, and its exit status is the answer.
#[test]
fn signals_are_passed_on_to_a_container_without_input() {
    let lab = Lab::new();
    let c = named("passed");
    let said = script(
        &lab,
        &format!(
            "W='trap \"echo got; exit 7\" TERM; while :; do echo tick; sleep 0.1; done'
             $KNARR run --rm --name {c} --network none base:1 sh -c \"$W\" >out 2>err &
             until grep -q tick out; do :; done
             kill -TERM $!; wait $!; echo $?; tail -n 1 out; cat err
             K run --rm -d --name {c} --network none base:1 sh -c \"$W\" >/dev/null
             $KNARR attach --no-stdin {c} >out2 2>err2 &
             until grep -q tick out2; do :; done
             kill -TERM $!; wait $!; echo $?; tail -n 1 out2; cat err2"
        ),
    );
    assert_eq!(said.ok(), "7\ngot\n7\ngot\n");
}

#[test]
fn switches_take_values() {
    let lab = Lab::new();
    let run = |more: &[&str]| lab.run(&[&["--rm=true", "--privileged=false", "-it=false"], more].concat());
    assert_eq!(run(&["base:1", "echo", "--rm=false"]).ok(), "--rm=false\n");
    assert!(run(&["--read-only=true", "base:1", "touch", "/x"]).failed().contains("Read-only file system"));
    assert_eq!(lab.run(&["--rm=perhaps", "base:1", "true"]).code, 125);
}
