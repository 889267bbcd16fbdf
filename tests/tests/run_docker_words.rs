//! Docker's other names of commands: the same words, columns, filters and refusals, on the same code.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::registry::Registry;
use knarr_tests::run_lab::{Lab, named};
use serde_json::Value;

/// The words of each line.
fn words(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn images_have_dockers_columns() {
    let lab = Lab::new();
    lab.0.file("Dockerfile", "FROM base:1\nLABEL kind=test\nRUN echo hello >/f\n");
    let id = lab.knarr(&["build", "-q", "-t", "team/app:2", "context"]);
    assert!(id.starts_with("sha256:"), "{id}");
    lab.knarr(&["tag", "team/app:2", "127.0.0.1:1/app"]);
    let listed = lab.knarr(&["images"]);
    assert!(listed.starts_with("REPOSITORY"), "{listed}");
    let header = &words(&listed)[0].join(" ");
    assert_eq!(header, "REPOSITORY TAG IMAGE ID CREATED SIZE");
    // What is "a second ago" is two seconds ago a moment later.
    let ageless = |listed: &str| {
        let rows = words(listed).into_iter();
        rows.map(|row| [&row[..3], &row[row.len() - 1..]].concat()).collect::<Vec<_>>()
    };
    for others in [&["image", "ls"][..], &["image", "list", "--all"]] {
        assert_eq!(ageless(&lab.knarr(others)), ageless(&listed));
    }
    let rows = words(&listed);
    let short = &id.trim()["sha256:".len()..][..12];
    for (repository, tag) in [("team/app", "2"), ("127.0.0.1:1/app", "latest")] {
        let row = rows.iter().find(|row| row[0] == repository).unwrap();
        assert_eq!((row[1].as_str(), row[2].as_str()), (tag, short), "{listed}");
    }
    assert!(rows.iter().any(|row| row[0] == "base" && row[1] == "1" && row.last().unwrap().ends_with('B')));
    let shown = |more: &[&str]| {
        let found = lab.knarr(&[&["images", "--format", "{{.Repository}}:{{.Tag}}"], more].concat());
        let mut found: Vec<String> = found.lines().map(str::to_owned).collect();
        found.sort();
        found
    };
    assert_eq!(shown(&["base"]), ["base:1"]);
    assert_eq!(shown(&["docker.io/library/base:1"]), ["base:1"]);
    assert_eq!(shown(&["base:2"]), [""; 0]);
    assert_eq!(shown(&["--filter", "reference=*/app"]), ["127.0.0.1:1/app:latest", "team/app:2"]);
    assert_eq!(shown(&["-f", "label=kind=test", "team/app"]), ["team/app:2"]);
    assert_eq!(shown(&["-f", "label=kind=none"]), [""; 0]);
    assert_eq!(shown(&["-f", "dangling=true"]), [""; 0]);
    assert_eq!(shown(&["-f", "before=team/app:2"]), ["base:1"]);
    assert_eq!(lab.knarr(&["images", "-q", "base"]), format!("{}\n", &id_of(&lab, "base:1")[7..19]));
    assert_eq!(lab.knarr(&["images", "-q", "--no-trunc", "base"]).trim(), id_of(&lab, "base:1"));
    let refused = lab.0.knarr(&["images", "-f", "colour=red"]).failed();
    assert!(refused.contains("invalid filter 'colour'"), "{refused}");
    let row: Value = serde_json::from_str(&lab.knarr(&["images", "--format", "json", "base"])).unwrap();
    assert_eq!((&row["Repository"], &row["Digest"]), (&"base".into(), &"<none>".into()));
}

fn id_of(lab: &Lab, name: &str) -> String {
    lab.knarr(&["image", "inspect", "-f", "{{.Id}}", name]).trim().to_owned()
}

#[test]
fn images_are_inspected_as_docker_does() {
    let lab = Lab::new();
    lab.0.file(
        "Dockerfile",
        "FROM base:1\nENV A=b\nEXPOSE 80\nUSER www\nCMD [\"sh\", \"-c\", \"true\"]\nLABEL a.b=c\n",
    );
    lab.knarr(&["build", "-q", "-t", "app", "context"]);
    let document: Value = serde_json::from_str(&lab.knarr(&["image", "inspect", "app"])).unwrap();
    let image = &document[0];
    assert_eq!(image["RepoTags"], serde_json::json!(["app:latest"]));
    assert_eq!(image["Config"]["Cmd"], serde_json::json!(["sh", "-c", "true"]));
    assert_eq!((&image["Config"]["User"], &image["Os"]), (&"www".into(), &"linux".into()));
    assert_eq!(image["Config"]["Entrypoint"], Value::Null);
    assert_eq!(image["RootFS"]["Layers"].as_array().unwrap().len(), 1);
    assert!(image["Size"].as_u64().unwrap() > 100_000);
    for (template, expected) in [
        ("{{.Config.Cmd}} {{.Config.Entrypoint}}", "[sh -c true] []"),
        ("{{index .Config.Labels \"a.b\"}}", "c"),
        ("{{range .Config.Env}}{{println .}}{{end}}", "A=b\n"),
        ("{{json .Config.ExposedPorts}}", "{\"80/tcp\":{}}"),
        (
            "{{.Config.WorkingDir}}|{{.Architecture}}",
            if cfg!(target_arch = "x86_64") { "|amd64" } else { "|arm64" },
        ),
    ] {
        let said = lab.knarr(&["inspect", "--type", "image", "-f", template, "app"]);
        assert!(said.ends_with(&format!("{expected}\n")), "{template}: {said}");
    }
    let (name, volume) = (&*named("word"), &*named("data"));
    lab.run(&["--name", name, "base:1", "true"]).ok();
    lab.knarr(&["volume", "create", "--label", "a=b", volume]);
    // One command for whatever has the name.
    let said = lab.knarr(&["inspect", "-f", "{{json .}}", name, "app", volume]);
    let kinds: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(kinds[0]["State"].is_object() && kinds[1]["RootFS"].is_object(), "{said}");
    assert_eq!(kinds[2]["Labels"]["a"], "b");
    let missing = lab.0.knarr(&["inspect", "nothing"]);
    assert_eq!((missing.code, missing.out.trim()), (1, "[]"));
    assert!(missing.err.contains("No such object: nothing"), "{missing:?}");
    let missing = lab.0.knarr(&["image", "inspect", "nothing"]).failed();
    assert!(missing.contains("No such image: nothing:latest"), "{missing}");
    let sizes = lab.knarr(&["container", "inspect", "-s", "-f", "{{.SizeRw}} {{.SizeRootFs}}", name]);
    assert!(sizes.split_whitespace().all(|size| size.parse::<u64>().is_ok()), "{sizes}");
}

#[test]
fn what_is_used_is_not_removed() {
    let lab = Lab::new();
    let name = &*named("user");
    let container = lab.run(&["-d", "--name", name, "base:1", "sleep", "1000"]).ok();
    let (container, id) = (&container[..12], id_of(&lab, "base:1"));
    let short = &id[7..19];
    let refused = lab.0.knarr(&["rmi", "base:1"]).failed();
    let expected = format!(
        "conflict: unable to remove repository reference \"base:1\" (must force) - container {container} is using its \
         referenced image {short}"
    );
    assert!(refused.contains(&expected), "{refused}");
    let refused = lab.0.knarr(&["rmi", "-f", short]).failed();
    let expected = format!(
        "unable to delete {short} (cannot be forced) - image is being used by running container {container}"
    );
    assert!(refused.contains(&expected), "{refused}");
    // A name more can go, and the last one if it is insisted on: the image stays for as long as it is used.
    lab.knarr(&["tag", "base:1", "other"]);
    assert_eq!(lab.knarr(&["rmi", "other"]), "Untagged: other:latest\n");
    assert_eq!(lab.knarr(&["rmi", "--force", "base:1"]), "Untagged: base:1\n");
    assert_eq!(
        lab.knarr(&["images", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"]),
        format!("{short} <none>:<none>\n")
    );
    assert_eq!(lab.knarr(&["images", "-q", "-f", "dangling=true"]).trim(), short);
    lab.knarr(&["commit", name, "again"]);
    lab.knarr(&["kill", name]);
    lab.knarr(&["wait", name]);
    let refused = lab.0.knarr(&["rmi", short]).failed();
    assert!(refused.contains("(must be forced) - image is being used by stopped container"), "{refused}");
    lab.knarr(&["container", "rm", name]);
    assert_eq!(lab.knarr(&["rmi", short]), format!("Deleted: {id}\n"));
    let missing = lab.0.knarr(&["rmi", "nothing", "again"]);
    assert!(missing.code == 1 && missing.err.contains("No such image: nothing:latest"), "{missing:?}");
    assert!(missing.out.starts_with("Untagged: again:latest\nDeleted: sha256:"), "{missing:?}");
    assert_eq!(lab.0.knarr(&["rmi", "-f", "nothing"]).code, 0);
}

#[test]
fn images_come_and_go_by_short_words() {
    let lab = Lab::new();
    let registry = Registry::open(&lab.0.path("registry"));
    let name = format!("127.0.0.1:{}/team/app", registry.port);
    lab.knarr(&["tag", "base:1", &name]);
    let pushed = lab.knarr(&["push", &name]);
    assert!(
        pushed.starts_with(&format!("The push refers to repository [{name}]\nlatest: digest: sha256:")),
        "{pushed}"
    );
    lab.knarr(&["tag", "base:1", &format!("{name}:2")]);
    assert_eq!(lab.knarr(&["push", "-q", "-a", &name]), format!("{name}:2\n{name}:latest\n"));
    lab.knarr(&["rmi", &name, &format!("{name}:2"), "base:1"]);
    let pulled = lab.knarr(&["pull", &name]);
    let lines: Vec<&str> = pulled.lines().collect();
    assert!(lines[0] == "Using default tag: latest" && lines[1].starts_with("Digest: sha256:"), "{pulled}");
    assert_eq!(lines[2], format!("Status: Downloaded newer image for {name}:latest"));
    assert_eq!(lines[3], format!("{name}:latest"));
    assert!(lab.knarr(&["pull", &name]).contains("Status: Image is up to date for"), "it is there");
    let mut all: Vec<String> = lab.knarr(&["pull", "-a", "-q", &name]).lines().map(str::to_owned).collect();
    all.sort();
    assert_eq!(all, [format!("{name}:2"), format!("{name}:latest")]);
    let digests = lab.knarr(&["images", "--digests", "--format", "{{.Tag}} {{.Digest}}", &name]);
    assert!(digests.lines().all(|line| line.contains(" sha256:")), "{digests}");
    lab.knarr(&["save", "-o", "app.tar", &name]);
    lab.knarr(&["rmi", &name, &format!("{name}:2")]);
    assert_eq!(lab.knarr(&["load", "-q", "-i", "app.tar"]), format!("Loaded image: {name}:latest\n"));
    lab.knarr(&["tag", &name, "beside:1"]);
    assert_eq!(
        lab.knarr(&["load", "-i", "app.tar"]),
        format!("Loaded image: {name}:latest\n"),
        "as it is there"
    );
    let steps = lab.knarr(&["history", "--no-trunc", "--format", "{{.CreatedBy}} {{.Size}}", &name]);
    assert_eq!(steps.lines().count(), 1);
    assert!(words(&lab.knarr(&["history", &name]))[0].join(" ").starts_with("IMAGE CREATED CREATED BY SIZE"));
    // A root file system in and out.
    let made = named("made");
    lab.knarr(&["create", "--name", &made, &name, "true"]);
    lab.knarr(&["export", "-o", "root.tar", &made]);
    lab.knarr(&[
        "import",
        "-c",
        "CMD [\"echo\", \"hi\"]",
        "-c",
        "ENV A=b",
        "-m",
        "why",
        "root.tar",
        "flat:1",
    ]);
    assert_eq!(lab.run(&["--rm", "flat:1"]).ok(), "hi\n");
    assert_eq!(lab.knarr(&["history", "--format", "{{.Comment}}", "flat:1"]), "why\n");
    let nameless = lab.knarr(&["import", "root.tar"]);
    assert_eq!(lab.run(&["--rm", nameless.trim(), "echo", "ho"]).ok(), "ho\n");
    // A registry is a server of archives too.
    let manifest: Value = serde_json::from_str(&lab.knarr(&["manifest", "inspect", &name])).unwrap();
    let blobs = format!("http://127.0.0.1:{}/v2/team/app/blobs", registry.port);
    let url = format!("{blobs}/{}", manifest["layers"][0]["digest"].as_str().unwrap());
    lab.knarr(&["import", &url, "fetched:1"]);
    assert_eq!(lab.run(&["--rm", "fetched:1", "echo", "from afar"]).ok(), "from afar\n");
    let missing = format!("{blobs}/sha256:{}", "0".repeat(64));
    let said = lab.0.knarr(&["import", &missing]).failed();
    assert!(said.contains(&missing), "{said}");
}

#[test]
fn groups_of_commands_and_what_is_no_longer_needed() {
    let lab = Lab::new();
    let (one, two) = (&*named("one"), &*named("two"));
    lab.knarr(&[
        "container",
        "run",
        "--network",
        "none",
        "--name",
        one,
        "-l",
        "keep=no",
        "base:1",
        "touch",
        "/f",
    ]);
    lab.knarr(&[
        "container",
        "create",
        "--network",
        "none",
        "--name",
        two,
        "-l",
        "keep=yes",
        "-v",
        "/v",
        "base:1",
        "true",
    ]);
    let listed = lab.knarr(&["container", "ls", "-a", "--format", "{{.Names}}"]);
    assert_eq!(listed, lab.knarr(&["ps", "-a", "--format", "{{.Names}}"]));
    assert_eq!(listed.lines().count(), 2);
    assert!(words(&lab.knarr(&["container", "list", "-as"]))[0].last().unwrap() == "SIZE");
    let sized = lab.knarr(&["ps", "-a", "--format", "{{.Size}}"]);
    assert!(sized.lines().all(|line| line.contains(" (virtual ")), "{sized}");
    let usage = lab.knarr(&["system", "df"]);
    assert_eq!(words(&usage)[0].join(" "), "TYPE TOTAL ACTIVE SIZE RECLAIMABLE");
    let images = lab.knarr(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"]);
    assert_eq!(images, "Images 1 1\nContainers 2 0\nLocal Volumes 1 1\nBuild Cache 0 0\n");
    assert!(lab.knarr(&["system", "df", "-v"]).contains("Local Volumes space usage:"));
    let gone = lab.knarr(&["container", "prune", "-f", "--filter", "label=keep=no"]);
    assert!(gone.starts_with("Deleted Containers:\n") && gone.contains("Total reclaimed space: "), "{gone}");
    assert_eq!(lab.knarr(&["ps", "-aq"]).lines().count(), 1);
    lab.knarr(&["volume", "create", "kept"]);
    let gone = lab.knarr(&["system", "prune", "-a", "-f", "--volumes"]);
    for words in
        ["Deleted Containers:", "Deleted Volumes:", "Deleted Images:", "untagged: base:1", "deleted: sha256:"]
    {
        assert!(gone.contains(words), "{words}: {gone}");
    }
    assert_eq!(lab.knarr(&["volume", "ls", "-q"]), "kept\n");
    assert_eq!(lab.knarr(&["volume", "ls", "-q", "-f", "dangling=true", "-f", "name=ke"]), "kept\n");
    assert_eq!(lab.knarr(&["volume", "inspect", "-f", "{{.Driver}}", "kept"]), "local\n");
    let gone = lab.knarr(&["volume", "prune", "-af"]);
    assert_eq!(gone, "Deleted Volumes:\nkept\n\nTotal reclaimed space: 0B\n");
    assert_eq!(lab.knarr(&["images", "-q"]), "");
}

#[test]
fn containers_are_found_as_docker_finds_them() {
    let lab = Lab::new();
    let (web, web2) = (&*named("web"), &*named("web2"));
    for name in [web, web2] {
        lab.run(&["--name", name, "--runtime", "runc", "--log-driver", "json-file", "base:1", "true"]).ok();
    }
    let found = |filter: &str| {
        let listed = lab.knarr(&["ps", "-a", "--format", "{{.Names}}", "--filter", filter]);
        let mut names: Vec<String> = listed.lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    assert_eq!(found(&format!("name=^/{web}$")), [web]);
    assert_eq!(found(&format!("name=^{web}$")), [web]);
    assert_eq!(found("name=web").len(), 2);
    assert_eq!(found("ancestor=base"), found("ancestor=docker.io/library/base:1"));
    assert_eq!(found("ancestor=base").len(), 2);
    assert_eq!(found("ancestor=bas").len(), 0);
    assert_eq!(found(&format!("since={web}")), [web2]);
    assert_eq!(found(&format!("before={web2}")), [web]);
    assert_eq!(found("network=none").len(), 2);
    assert_eq!(found("network=host").len(), 0);
    let refused = lab.run(&["--runtime", "other", "base:1", "true"]);
    assert_eq!(refused.code, 125);
    assert!(refused.err.contains("unknown or invalid runtime name: other"), "{refused:?}");
    let missing = lab.run(&["127.0.0.1:1/none", "true"]);
    assert!(missing.err.contains("Unable to find image '127.0.0.1:1/none:latest' locally"), "{missing:?}");
}

#[test]
fn what_is_here() {
    let lab = Lab::new();
    let counts = lab.knarr(&["info", "-f", "{{.Containers}} {{.Images}} {{.Driver}} {{.NCPU}}"]);
    assert!(counts.starts_with("0 1 overlay "), "{counts}");
    let text = lab.knarr(&["system", "info"]);
    for words in [" Containers: 0", "  Running: 0", " Images: 1", " Cgroup Version: ", " Total Memory: "] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let version = lab.knarr(&["version", "--format", "{{.Client.Version}} {{.Server.Version}}"]);
    let (client, server) = version.trim().split_once(' ').unwrap();
    assert!(client == server && lab.knarr(&["--version"]).contains(client), "{version}");
    let document: Value = serde_json::from_str(&lab.knarr(&["version", "-f", "json"])).unwrap();
    assert_ne!(document["Server"]["Components"][1]["Version"], "");
    let networks = lab.knarr(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]);
    assert_eq!(networks, "bridge bridge\nhost host\nnone null\n");
    let range =
        lab.knarr(&["network", "inspect", "bridge", "-f", "{{range .IPAM.Config}}{{.Subnet}}{{end}}"]);
    assert!(range.starts_with("10.146."), "{range}");
    let refused = lab.0.knarr(&["network", "inspect", "mine"]).failed();
    assert!(refused.contains("network mine not found"), "{refused}");
}

/// As Docker's documentation writes them.
#[test]
fn templates_of_dockers_documentation() {
    let lab = Lab::new();
    let name = &*named("shown");
    lab.run(&[
        "-d",
        "--name",
        name,
        "-l",
        "com.example.kind=web",
        "--network",
        "none",
        "--user",
        "7:8",
        "--entrypoint",
        "sleep",
        "base:1",
        "600",
    ])
    .ok();
    lab.knarr(&["update", "--memory", "64m", name]);
    for (template, expected) in [
        ("{{range $key, $value := .Config.Labels}}{{$key}}={{$value}}{{end}}", "com.example.kind=web"),
        ("{{index .Config.Labels \"com.example.kind\"}}{{index .Config.Labels \"none\"}}", "web"),
        (
            "{{range $name, $net := .NetworkSettings.Networks}}{{$name}}:{{len $net.IPAddress}}{{end}}",
            "none:0",
        ),
        ("{{join .Args \"+\"}} {{(index .Config.Cmd 0)}} {{.Config.Entrypoint}}", "600 600 [sleep]"),
        ("{{.Config.User}} {{.HostConfig.Memory}} {{.HostConfig.MemorySwap}}", "7:8 67108864 134217728"),
        (
            "{{if and .State.Running (eq .State.ExitCode 0)}}up{{else if .State.Dead}}dead{{else}}down{{end}}",
            "up",
        ),
        ("{{with $s := .State}}{{$s.Status | upper | printf \"%-8s|\"}}{{end}}", "RUNNING |"),
        ("{{range $i, $word := split .Config.Image \":\"}}{{if $i}}/{{end}}{{$word}}{{end}}", "base/1"),
        (
            "{{range $p, $to := .NetworkSettings.Ports}}{{$p}} {{(index $to 0).HostPort}}{{else}}none{{end}}",
            "none",
        ),
    ] {
        assert_eq!(lab.knarr(&["inspect", "-f", template, name]), format!("{expected}\n"), "{template}");
    }
    let table = "table {{.Names}}\t{{.Label \"com.example.kind\"}}\t{{title .State}}";
    let listed = words(&lab.knarr(&["ps", "--filter", &format!("name={name}"), "--format", table]));
    assert_eq!(listed, [vec!["NAMES", "KIND", "STATE"], vec![name, "web", "Running"]]);
    let refused = lab.0.knarr(&["ps", "--format", "{{frob .Names}}"]).failed();
    assert!(refused.contains("template parsing error: function \"frob\" not defined"), "{refused}");
    lab.knarr(&["rm", "-f", name]);
}

#[test]
fn limits_may_change_in_any_state() {
    let (lab, name) = (Lab::new(), named("relimit"));
    lab.knarr(&[
        "create",
        "--name",
        &name,
        "--network",
        "none",
        "--pids-limit",
        "50",
        "base:1",
        "sleep",
        "600",
    ]);
    let limits = || {
        let template = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.MemoryReservation}}";
        lab.knarr(&["inspect", "-f", template, &name]).trim().to_owned()
    };
    // What a container can see of it: its own cgroup, in either version of the hierarchy.
    let seen = || {
        let id = lab.knarr(&["inspect", "-f", "{{.Id}}", &name]);
        let found = ["pids/knarr-run", "knarr-run"].map(|root| {
            std::fs::read_to_string(format!("/sys/fs/cgroup/{root}/{name}/{}/pids.max", id.trim()))
        });
        found.into_iter().find_map(Result::ok).unwrap_or_default().trim().to_owned()
    };
    lab.knarr(&["update", "--memory", "64m", "--memory-swap", "64m", &name]);
    assert_eq!(limits(), format!("{} 50 0", 64 << 20));
    lab.knarr(&["start", &name]);
    assert_eq!(seen(), "50");
    lab.knarr(&["update", "--pids-limit", "60", "--memory-reservation", "16m", &name]);
    assert_eq!((seen().as_str(), limits()), ("60", format!("{} 60 {}", 64 << 20, 16 << 20)));
    lab.knarr(&["restart", "-t", "0", &name]);
    assert_eq!(seen(), "60");
    lab.knarr(&["stop", "-t", "0", &name]);
    lab.knarr(&["update", "--pids-limit", "70", &name]);
    lab.knarr(&["start", &name]);
    assert_eq!((seen().as_str(), limits()), ("70", format!("{} 70 {}", 64 << 20, 16 << 20)));
    let refused = lab.0.knarr(&["update", "--blkio-weight", "5", &name]).failed();
    assert!(refused.contains("range of blkio weight is from 10 to 1000"), "{refused}");
}

#[test]
fn images_are_for_a_platform() {
    let lab = Lab::new();
    let base = lab.0.path("base").to_string_lossy().into_owned();
    lab.knarr(&["import", "--platform", "linux/s390x", &base, "other:1"]);
    assert_eq!(lab.knarr(&["image", "inspect", "-f", "{{.Architecture}}", "other:1"]), "s390x\n");
    let archive = lab.0.path("other.tar").to_string_lossy().into_owned();
    lab.knarr(&["save", "--platform", "linux/s390x", "-o", &archive, "other:1"]);
    for arguments in [
        &["save", "--platform", "linux/arm64", "-o", "no.tar", "other:1"][..],
        &["history", "--platform", "linux/arm64", "other:1"],
        &["rmi", "--platform", "linux/arm64", "other:1"],
        &["load", "--platform", "linux/arm64", "-i", &archive],
        &["push", "--platform", "linux/arm64", "other:1"],
    ] {
        let refused = lab.0.knarr(arguments).failed();
        assert!(refused.contains("does not provide the specified platform (linux/arm64)"), "{refused}");
    }
    assert!(lab.knarr(&["history", "--platform", "linux/s390x", "other:1"]).starts_with("IMAGE"));
    lab.knarr(&["rmi", "--platform", "linux/s390x", "other:1"]);
}
