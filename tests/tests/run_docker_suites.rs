//! What foreign suites ask of a `docker`, where ours once answered otherwise.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::run;
use knarr_tests::run_lab::{Lab, named};
use std::process::Command;

#[test]
fn what_is_not_understood_is_told_as_docker_tells_it() {
    let lab = Lab::new();
    for (words, code, text) in [
        (&["run", "--bogus", "x"][..], 125, "unknown flag: --bogus"),
        (&["ps", "-Z"], 125, "unknown shorthand flag: 'Z' in -Z"),
        (&["run", "--memory"], 125, "flag needs an argument: --memory"),
        (
            &["volume", "create", "--label="],
            125,
            "invalid argument \"\" for \"--label\" flag: invalid label ''",
        ),
        (&["run"], 1, "'knarr run' requires at least 1 argument"),
        (&["volume", "rm"], 1, "'knarr volume rm' requires at least 1 argument"),
        (&["volume", "create", "a1", "b1"], 1, "'knarr volume create' requires at most 1 argument"),
        (&["tag", "a"], 1, "'knarr tag' requires 2 arguments"),
        (&["bogus"], 1, "unknown command: knarr bogus"),
        (&["volume", "bogus"], 1, "unknown command: knarr volume bogus"),
        (&["create", "--pull", "never", "nosuch"], 1, "No such image: nosuch"),
    ] {
        let said = lab.0.knarr(words);
        assert_eq!(said.code, code, "{words:?}: {said:?}");
        assert!(said.err.starts_with(&format!("knarr: {text}")), "{words:?}: {said:?}");
    }
    assert!(lab.knarr(&["volume"]).contains("Remove volumes"), "a group shows its commands");
}

#[test]
fn volumes_without_a_name_are_anonymous() {
    let lab = Lab::new();
    let name = lab.knarr(&["volume", "create"]).trim().to_owned();
    assert!(name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    let label = lab.knarr(&["volume", "inspect", "-f", "{{json .Labels}}", &name]);
    assert_eq!(label, "{\"com.docker.volume.anonymous\":\"\"}\n");
    lab.knarr(&["volume", "create", "kept-one"]);
    lab.knarr(&["volume", "create", "kept-two"]);
    let listed = |filters: &[&str]| lab.knarr(&[&["volume", "ls", "-q"], filters].concat());
    assert_eq!(listed(&["-f", "name=^kept.*o$"]), "kept-two\n");
    assert_eq!(listed(&["-f", "name=one", "-f", "name=two"]), "kept-one\nkept-two\n");
    assert!(lab.knarr(&["volume", "prune", "-f"]).contains(&name));
    assert_eq!(listed(&[]), "kept-one\nkept-two\n");
}

/// Makes a network of sixteen addresses that no other test has.
fn network(lab: &Lab, number: u32, name: &str) {
    let place = (std::process::id() % 4096 * 4 + number) * 16;
    let subnet = format!("10.{}.{}.{}/28", 162 + place / 65536, place / 256 % 256, place % 256);
    lab.knarr(&["network", "create", "--subnet", &subnet, name]);
}

#[test]
fn a_person_is_asked_before_everything_unused_goes() {
    let lab = Lab::new();
    lab.knarr(&["volume", "create", "kept"]);
    let knarr = lab.0.command(&["volume", "prune", "-a"]);
    let line: Vec<_> = std::iter::once(knarr.get_program())
        .chain(knarr.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    let answer = |answer: &str| {
        let script = format!("printf '{answer}\\n' | script -qec '{}' /dev/null", line.join(" "));
        run(Command::new("sh").args(["-c", &script])).ok()
    };
    let question = "WARNING! This will remove all local volumes not used by at least one container.\r\n\
                    Are you sure you want to continue? [y/N] ";
    assert!(answer("n").ends_with(question));
    assert_eq!(lab.knarr(&["volume", "ls", "-q"]), "kept\n");
    let said = answer("y");
    assert!(said.contains(question) && said.contains("Deleted Volumes:\r\nkept\r\n"), "{said}");
    assert_eq!(lab.knarr(&["volume", "ls", "-q"]), "");
}

#[test]
fn networks_that_nothing_runs_on_are_pruned() {
    let lab = Lab::new();
    let (one, two, c) = (&*named("one"), &*named("two"), &*named("on-one"));
    network(&lab, 0, one);
    network(&lab, 1, two);
    let listed = |filters: &[&str]| {
        let all = lab.knarr(&[&["network", "ls", "--format", "{{.Name}}"], filters].concat());
        all.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listed(&["-f", "name=^one-", "-f", "name=^two-"]), [one, two]);
    lab.knarr(&["run", "-d", "--name", c, "--network", one, "base:1", "sleep", "1000"]);
    lab.knarr(&["network", "prune", "-f"]);
    assert_eq!(listed(&["-f", "type=custom"]), [one]);
    lab.knarr(&["stop", "-t", "0", c]);
    assert!(lab.knarr(&["network", "prune", "-f"]).contains(one));
    assert!(lab.0.knarr(&["start", c]).failed().contains("not found"));
}

#[test]
fn a_container_is_found_by_each_of_its_names() {
    let lab = Lab::new();
    let (net, c) = (&*named("names"), &*named("named"));
    network(&lab, 2, net);
    let words = ["run", "-d", "--name", c, "--network", net, "-h", "front", "--domainname", "example.org"];
    lab.knarr(&[&words[..], &["--network-alias", "web", "base:1", "sleep", "1000"]].concat());
    let pings = format!(
        "for n in {c} front web {c}.{net} web.{net} front.{net}; do ping -c 1 -W 30 $n >/dev/null && echo $n; done"
    );
    let said = lab.knarr(&["run", "--rm", "--network", net, "base:1", "sh", "-c", &pings]);
    assert_eq!(said.lines().count(), 6, "{said}");
    assert!(lab.knarr(&["exec", c, "cat", "/etc/hosts"]).ends_with("\tfront.example.org front\n"));
    lab.knarr(&["rm", "-f", c]);
    lab.knarr(&["network", "rm", net]);
}

#[test]
fn a_host_is_called_by_the_short_id_of_its_container() {
    let lab = Lab::new();
    let c = &*named("short");
    let id = lab.run(&["-d", "--name", c, "base:1", "sleep", "1000"]).ok();
    assert_eq!(lab.knarr(&["exec", c, "hostname"]).trim(), &id[..12]);
    assert_eq!(
        lab.knarr(&["inspect", "-f", "{{.ID}} {{.Config.Hostname}}", c]),
        format!("{} {}\n", id.trim(), &id[..12])
    );
    lab.knarr(&["restart", "-t", "0", c]);
    assert_eq!(lab.knarr(&["exec", c, "cat", "/etc/hostname"]).trim(), &id[..12]);
    assert_eq!(lab.knarr(&["ps", "-q", "--filter", "id="]), "");
    let said = lab.knarr(&[
        "run",
        "--rm",
        "--network",
        "host",
        "-h",
        "other",
        "base:1",
        "sh",
        "-c",
        "echo $HOSTNAME",
    ]);
    assert_eq!(said, "other\n");
}

#[test]
fn memory_of_any_size_is_shared() {
    let lab = Lab::new();
    let c = &*named("sharer");
    lab.run(&["-d", "--name", c, "--ipc", "shareable", "--shm-size", "32m", "base:1", "sleep", "1000"]).ok();
    let other = format!("container:{c}");
    let said = lab.run(&["--rm", "--ipc", &other, "base:1", "cat", "/proc/mounts"]).ok();
    let shm = said.lines().find(|line| line.contains(" /dev/shm ")).unwrap();
    assert!(shm.starts_with("shm /dev/shm tmpfs rw,nosuid,nodev,noexec,"), "{shm}");
    assert!(shm.contains("size=32768k"), "{shm}");
    lab.knarr(&["restart", "-t", "0", c]);
    assert!(lab.knarr(&["exec", c, "cat", "/proc/mounts"]).contains("size=32768k"));
}

#[test]
fn everybody_may_listen_in_a_network_of_its_own() {
    let lab = Lab::new();
    let file = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(lab.run(&["--rm", "base:1", "cat", file]).ok(), "0\n");
    let own = ["--rm", "--sysctl", "net.ipv4.ip_unprivileged_port_start=80", "base:1", "cat", file];
    assert_eq!(lab.run(&own).ok(), "80\n");
}

#[test]
fn users_with_a_group_are_in_no_others() {
    let lab = Lab::new();
    let groups = |more: &[&str]| {
        let script = "sed -n 's/^Groups:\\t//p' /proc/self/status";
        lab.run(&[&["--rm"], more, &["base:1", "sh", "-c", script]].concat()).ok().trim().to_owned()
    };
    assert_eq!(groups(&["--user", "0:7", "--group-add", "9"]), "7 9");
    assert_eq!(groups(&["--user", "5:7"]), "7");
}

#[test]
fn what_cannot_run_was_never_started() {
    let lab = Lab::new();
    let c = &*named("failing");
    assert_eq!(lab.run(&["--name", c, "base:1", "/nosuch"]).code, 127);
    let told = lab.knarr(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", c]);
    assert_eq!(told, "created 127\n");
    lab.knarr(&["rm", c]);
    let said = lab.run(&["--rm", "--entrypoint", "", "base:1"]);
    assert!(said.code == 125 && said.err.contains("no command specified"), "{said:?}");
}

#[test]
fn a_range_of_ports_for_one_port_is_a_choice() {
    let lab = Lab::new();
    // The first of them is somebody's.
    let held = std::iter::repeat_with(|| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let first = |held: &std::net::TcpListener| held.local_addr().unwrap().port();
    let held = held.take(100).find(|held| first(held) < 65000).unwrap();
    let first = first(&held);
    let c = &*named("chosen");
    let range = format!("127.0.0.1:{first}-{}:80", first + 50);
    lab.knarr(&["run", "-d", "--name", c, "-p", &range, "base:1", "sleep", "1000"]);
    let told = lab.knarr(&["port", c]);
    let port: u16 = told.trim().strip_prefix("80/tcp -> 127.0.0.1:").unwrap().parse().unwrap();
    assert!(port > first && port <= first + 50, "{told}");
}

#[test]
fn details_of_logs_are_those_that_the_driver_was_told() {
    let lab = Lab::new();
    let c = &*named("details");
    let told = ["--log-opt", "labels=b,a", "--log-opt", "env-regex=^X"];
    let given = ["-l", "a=one", "-l", "b=two words", "-l", "c=3", "-e", "XY=1=2", "-e", "Y=2"];
    let words = [&["--name", c] as &[&str], &told, &given, &["base:1", "echo", "said"]].concat();
    assert_eq!(lab.run(&words).ok(), "said\n");
    assert_eq!(lab.knarr(&["logs", "--details", c]), "XY=1%3D2,a=one,b=two+words said\n");
    assert_eq!(lab.knarr(&["logs", c]), "said\n");
    let config = lab.knarr(&["inspect", "-f", "{{json .HostConfig.LogConfig.Config}}", c]);
    assert_eq!(config, "{\"env-regex\":\"^X\",\"labels\":\"b,a\"}\n");
}

#[test]
fn tables_have_the_titles_and_fields_of_docker() {
    let lab = Lab::new();
    let none = lab.knarr(&["ps", "--format", "table {{.ID}}\\t{{.Mounts}}\\t{{.LocalVolumes}}"]);
    assert_eq!(none, "CONTAINER ID   MOUNTS    LOCAL VOLUMES\n");
    let networks = lab.knarr(&["network", "ls", "--format", "table{{.Driver}}\\t{{.IPv6}}\\t{{.CreatedAt}}"]);
    assert!(networks.starts_with("DRIVER    IPV6      CREATED AT\n"), "{networks}");
    let c = &*named("shown");
    let script = "echo \"a\nb\"; sleep 1000";
    let ports = ["-p", "127.0.0.1::80", "--expose", "70-71", "--expose", "73/udp"];
    lab.knarr(&[&["run", "-d", "--name", c], &ports[..], &["base:1", "sh", "-c", script]].concat());
    let port = lab.knarr(&["port", c, "80"]);
    let shown = lab.knarr(&["ps", "--format", "{{.Ports}}|{{.HealthStatus}}|{{.Platform}}|{{.Size}}"]);
    let size = shown.trim().rsplit('|').next().unwrap();
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    assert_eq!(shown, format!("70-71/tcp, 73/udp, {}->80/tcp||linux/{arch}|{size}\n", port.trim()));
    let command = lab.knarr(&["ps", "--no-trunc", "--format", "{{.Command}}"]);
    assert_eq!(command, "\"sh -c 'echo \\\"a\\nb\\\"; sleep 1000'\"\n");
    let open = lab.knarr(&["inspect", "-f", "{{json .NetworkSettings.Ports}}", c]);
    assert!(open.contains("\"70/tcp\":null") || open.contains("\"70-71/tcp\":null"), "{open}");
    assert!(open.contains("\"80/tcp\":[{"), "{open}");
}

#[test]
fn what_cannot_be_meant_is_told_as_docker_tells_it() {
    let lab = Lab::new();
    let c = &*named("renamed");
    lab.knarr(&["create", "--network", "none", "--name", c, "base:1", "true"]);
    for (words, code, text) in [
        (&["create", "-v", ":/volume", "base:1"][..], 125, "empty section between colons"),
        (&["create", "-v", "/a:", "base:1"], 125, "empty section between colons"),
        (&["create", "-v", "", "base:1"], 125, "invalid empty volume spec"),
        (&["rename", "", "new"], 1, "invalid container name or ID: value is empty"),
        (&["rename", c, ""], 1, "new name cannot be blank"),
        (&["kill", c], 1, "is not running"),
    ] {
        let said = lab.0.knarr(words);
        assert_eq!(said.code, code, "{words:?}: {said:?}");
        assert!(said.err.contains(text), "{words:?}: {said:?}");
    }
    let missing = lab.0.path("made/up");
    let mount = |told: &str| format!("type=bind,src={},dst=/mnt{told}", missing.display());
    for told in ["", ",bind-create-src=false"] {
        let said = lab.run(&["--rm", "--mount", &mount(told), "base:1", "true"]);
        assert!(said.code == 125 && said.err.contains("bind source path does not exist"), "{said:?}");
    }
    lab.run(&["--rm", "--mount", &mount(",bind-create-src"), "base:1", "touch", "/mnt/file"]).ok();
    assert!(missing.join("file").exists());
}
