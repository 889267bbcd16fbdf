//! Dockerfiles as people write them today: what BuildKit documents and older builders do not know.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::image_lab::{ImageLab, listing};
use knarr_tests::registry::Registry;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

/// A context that all cases share.
fn lab() -> ImageLab {
    let lab = ImageLab::new();
    lab.file("one.txt", "one").file("run.sh", "#!/bin/sh\n").file("dir/two.txt", "two");
    lab.file("a/1.go", "1").file("a/b/2.go", "2").file("a/b/c/3.go", "3").file("a/b/c/x.md", "x");
    lab
}

/// Builds a Dockerfile and answers what is in the image besides its base.
fn built(lab: &ImageLab, dockerfile: &str, more: &[&str]) -> BTreeSet<String> {
    lab.file("Dockerfile", dockerfile);
    let root = lab.path("out");
    drop(std::fs::remove_dir_all(&root));
    let out = root.to_str().unwrap();
    lab.knarr(&[&["build", "-q", "-t", "made:1", "-o", out], more, &["context"]].concat()).ok();
    listing(&root)
}

/// The content of a file of the last image.
fn read(lab: &ImageLab, file: &str) -> String {
    std::fs::read_to_string(lab.path("out").join(file)).unwrap()
}

fn has(found: &BTreeSet<String>, expected: &[&str]) {
    for line in expected {
        assert!(found.iter().any(|known| known.starts_with(line)), "{line}: {found:#?}");
    }
}

#[test]
fn modes_in_words() {
    let lab = lab();
    let found =
        built(&lab, "FROM base:1\nCOPY --chmod=u+x,go-r run.sh /r\nCOPY --chmod=u=rwX,go=rX dir /d\n", &[]);
    has(&found, &["r -rwx------ 0:0", "d drwxr-xr-x 0:0", "d/two.txt -rw-r--r-- 0:0"]);
    lab.file("Dockerfile", "FROM base:1\nCOPY --chmod=u+q run.sh /r\n");
    let said = lab.knarr(&["build", "context"]).failed();
    assert!(said.contains("Dockerfile:2: invalid chmod parameter: 'u+q'"), "{said}");
}

#[test]
fn parents_are_kept_from_a_pivot() {
    let lab = lab();
    let found = built(
        &lab,
        "FROM base:1\nCOPY --parents ./a/./b/c /p/\nCOPY --parents **/*.go one.txt /q/\nCOPY a/**/*.go /r/\n",
        &[],
    );
    let files: Vec<&str> = found
        .iter()
        .filter(|line| line.contains(" -rw") && ["p/", "q/", "r/"].iter().any(|top| line.starts_with(top)))
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        files,
        ["p/b/c/3.go", "p/b/c/x.md", "q/a/1.go", "q/a/b/2.go", "q/a/b/c/3.go", "q/one.txt", "r/2.go"]
    );
}

#[test]
fn arguments_of_a_stage_are_its_heirs() {
    let lab = lab();
    let text = "FROM base:1 AS first\nARG A=1\nFROM first\nRUN echo \"[$A]\" > /f\n";
    built(&lab, text, &[]);
    assert_eq!(read(&lab, "f"), "[1]\n");
    built(&lab, text, &["--build-arg", "A=2"]);
    assert_eq!(read(&lab, "f"), "[2]\n");
}

#[test]
fn agents_names_and_hosts_of_the_command_line() {
    let lab = lab();
    let socket = lab.path("agent");
    let _listener = UnixListener::bind(&socket).unwrap();
    let agent = format!("default={}", socket.display());
    let found = built(
        &lab,
        "FROM base:1\nRUN --mount=type=ssh,required test -S $SSH_AUTH_SOCK && echo $SSH_AUTH_SOCK > /f\n",
        &["--ssh", &agent],
    );
    assert_eq!(read(&lab, "f"), "/run/buildkit/ssh_agent.0\n");
    assert!(!found.iter().any(|line| line.starts_with("run")), "nothing of it stays: {found:#?}");
    let said = lab.knarr(&["build", "--no-cache", "context"]).failed();
    assert!(said.contains("Dockerfile:2: unset ssh forward key default"), "{said}");
    let context = format!("extra={}", lab.path("context/dir").display());
    let all = [
        "--build-context",
        &context,
        "--build-context",
        "other=docker-image://base:1",
        "--add-host",
        "friend:1.2.3.4",
    ];
    built(
        &lab,
        "FROM other AS b\nCOPY --from=extra two.txt /x\nRUN --mount=type=bind,from=extra,target=/m cat /m/two.txt > /y\n\
         RUN cat /etc/hosts > /z\n",
        &all,
    );
    assert_eq!((read(&lab, "x"), read(&lab, "y")), ("two".into(), "two".into()));
    assert!(read(&lab, "z").contains("1.2.3.4\tfriend\n"));
    // The files of a context with a name count for the cache as those of the context do.
    lab.file("dir/two.txt", "new");
    let text = std::fs::read_to_string(lab.path("context/Dockerfile")).unwrap();
    built(&lab, &text, &all);
    assert_eq!((read(&lab, "x"), read(&lab, "y")), ("new".into(), "new".into()));
}

#[test]
fn contexts_come_as_archives_too() {
    let lab = lab();
    lab.file("Dockerfile", "FROM base:1\nCOPY . /c/\n").file("other.df", "FROM base:1\nCOPY one.txt /o\n");
    lab.file(".dockerignore", "a\n");
    for (flags, more, file) in [
        (&["-c"][..], &[][..], "c/one.txt"),
        (&["-cz"][..], &["-f", "other.df"][..], "o"),
        (&["-cJ"], &[], "c/one.txt"),
    ] {
        let packed =
            Command::new("tar").args(flags).arg("-C").arg(lab.path("context")).arg(".").output().unwrap();
        let root = lab.path("out");
        drop(std::fs::remove_dir_all(&root));
        let arguments = [&["build", "-q", "-o", root.to_str().unwrap()], more, &["-"]].concat();
        let mut building =
            lab.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        building.stdin.take().unwrap().write_all(&packed.stdout).unwrap();
        assert!(building.wait().unwrap().success(), "{flags:?}");
        assert_eq!(read(&lab, file), "one", "{flags:?}");
        assert!(!root.join("c/a").exists(), "its .dockerignore counts");
    }
    let mut building =
        lab.command(&["build", "-q", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    building.stdin.take().unwrap().write_all(b"FROM base:1\nRUN true\n").unwrap();
    assert!(building.wait().unwrap().success(), "a Dockerfile alone");
}

#[test]
fn what_docker_users_write_beside_it() {
    let lab = lab();
    let file = lab.path("metadata.json");
    built(
        &lab,
        "FROM base:1 AS one\nRUN cat /proc/sys/kernel/random/uuid > /u\nFROM one AS two\nRUN echo > /two\n",
        &[
            "--rm",
            "--load",
            "--progress=plain",
            "--provenance=false",
            "--cache-from",
            "x",
            "--metadata-file",
            file.to_str().unwrap(),
        ],
    );
    let first = read(&lab, "u");
    let metadata: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(metadata["image.name"], "docker.io/library/made:1");
    let id = bins::run(&mut lab.command(&["image", "inspect", "-f", "{{.Id}}", "made:1"])).ok();
    assert_eq!(metadata["containerimage.config.digest"], id.trim());
    let text = std::fs::read_to_string(lab.path("context/Dockerfile")).unwrap();
    built(&lab, &text, &["--no-cache-filter", "two"]);
    assert_eq!(read(&lab, "u"), first, "the first stage is not named");
    built(&lab, &text, &["--no-cache-filter", "one"]);
    assert_ne!(read(&lab, "u"), first);
}

#[test]
fn one_image_for_each_platform() {
    let lab = ImageLab::new();
    let registry = Registry::open(&lab.path("registry"));
    let name = format!("127.0.0.1:{}/team/app:1", registry.port);
    // Nothing of another machine has to run: the stage that runs something is this one's.
    lab.file(
        "Dockerfile",
        "FROM --platform=$BUILDPLATFORM base:1 AS build\nARG TARGETARCH\nRUN echo for-$TARGETARCH > /made\n\
         FROM scratch\nCOPY --from=build /made /made\n",
    );
    let build = |more: &[&str]| {
        lab.knarr(
            &[&["build", "-q", "--platform", "linux/arm64,linux/amd64", "-t", &name], more, &["context"]]
                .concat(),
        )
    };
    let refused = build(&["-o", "type=tar,dest=/dev/null"]).failed();
    assert!(refused.contains("does not currently support exporting manifest lists"), "{refused}");
    let out = lab.path("each");
    build(&["-o", out.to_str().unwrap()]).ok();
    for architecture in ["amd64", "arm64"] {
        let made = std::fs::read_to_string(out.join(format!("linux_{architecture}/made"))).unwrap();
        assert_eq!(made, format!("for-{architecture}\n"));
    }
    let digest = build(&["--push"]).ok();
    assert!(digest.starts_with("sha256:"), "{digest}");
    let raw = Command::new("skopeo")
        .args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")])
        .output()
        .unwrap();
    let index: serde_json::Value = serde_json::from_slice(&raw.stdout).unwrap();
    let platforms: Vec<&str> = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["platform"]["architecture"].as_str().unwrap())
        .collect();
    assert_eq!(platforms, ["arm64", "amd64"], "{index}");
    for architecture in platforms {
        let layout = format!("oci:{}:1", lab.path(architecture).display());
        let mut copy = Command::new("skopeo");
        copy.args(["copy", "-q", "--src-tls-verify=false", "--override-arch", architecture]);
        bins::run(copy.args([&format!("docker://{name}"), &layout])).ok();
        let config = bins::run(Command::new("skopeo").args(["inspect", "--config", &layout])).ok();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["architecture"], architecture);
        let bundle = lab.path("bundle");
        drop(std::fs::remove_dir_all(&bundle));
        bins::run(
            Command::new("umoci").args(["unpack", "--image", layout.trim_start_matches("oci:")]).arg(&bundle),
        )
        .ok();
        let made = std::fs::read_to_string(bundle.join("rootfs/made")).unwrap();
        assert_eq!(made, format!("for-{architecture}\n"));
    }
}

#[test]
fn a_mount_without_a_place_is_the_working_directory() {
    let lab = lab();
    let found = built(
        &lab,
        "FROM base:1 AS made\nWORKDIR /made\nRUN echo it > file\nFROM base:1\nWORKDIR /work\n\
         RUN --mount=from=made,source=/made,z cp file /found && test ! -e /made\n",
        &[],
    );
    assert!(found.iter().any(|line| line.starts_with("found ")), "{found:?}");
    lab.file("Dockerfile-odd", "FROM base:1\nRUN --mount=type=cache true\n");
    let refused = lab.knarr(&["build", "-f", "context/Dockerfile-odd", "context"]).failed();
    assert!(
        refused.contains("Dockerfile-odd:2: ") && refused.contains("invalid mount target \"/\""),
        "{refused}"
    );
}

#[test]
fn what_a_base_leaves_brings_what_it_copies_from() {
    let lab = lab();
    lab.file(
        "Dockerfile",
        "FROM base:1\nONBUILD COPY --from=files /made /from\nONBUILD RUN <<EOF\necho it > /said\nEOF\n",
    );
    lab.knarr(&["build", "-q", "-t", "left:1", "context"]).ok();
    built(&lab, "FROM base:1 AS files\nRUN echo files > /made\nFROM left:1\n", &[]);
    assert_eq!((read(&lab, "from"), read(&lab, "said")), ("files\n".into(), "it\n".into()));
    // The same between the stages of one file.
    built(
        &lab,
        "FROM base:1 AS files\nRUN echo own > /made\nFROM base:1 AS left\nONBUILD COPY --from=files /made /from\nFROM left\n",
        &[],
    );
    assert_eq!(read(&lab, "from"), "own\n");
}

#[test]
fn scripts_name_their_interpreter() {
    let lab = lab();
    let found = built(
        &lab,
        "FROM base:1\nRUN <<EOF\n#!/bin/busybox sh\necho \"$0\" > /f\nls /dev/pipes >> /f\nEOF\nCOPY <<EOF /g\na\\\\b \\$x\nEOF\n",
        &[],
    );
    assert_eq!(read(&lab, "f"), "/dev/pipes/EOF\nEOF\n");
    assert_eq!(read(&lab, "g"), "a\\b $x\n");
    assert!(!found.iter().any(|line| line.starts_with("dev")), "nothing of it stays: {found:#?}");
}

#[test]
fn mounts_arguments_and_proxies() {
    let lab = lab();
    let text = "FROM base:1\nARG KIND=cache\nARG TARGETSTAGE\nARG NEED=${NONE:?not given}\n\
         RUN --mount=type=$KIND,target=/c,id=own,uid=7,mode=0710 stat -c '%u %a' /c > /f\n\
         RUN echo $HTTP_PROXY $TARGETSTAGE $NEED > /g\nFROM base:1 AS last\n";
    let target = ["--target", "0", "--build-arg", "http_proxy=http://p", "--build-arg", "NEED=n"];
    built(&lab, text, &target);
    assert_eq!((read(&lab, "f"), read(&lab, "g")), ("7 710\n".into(), "http://p default n\n".into()));
    let refused = lab.knarr(&["build", "context"]).ok();
    assert!(refused.starts_with("sha256:"), "the stage that lacks it is not needed: {refused}");
    let refused = lab.knarr(&["build", "--target", "lost", "context"]).failed();
    assert!(refused.contains("target stage \"lost\" could not be found (did you mean last?)"), "{refused}");
}

#[test]
fn copies_that_find_nothing_and_directories_that_are_new() {
    let lab = lab();
    lab.file("closed/file", "x");
    std::os::unix::fs::chown(lab.path("context/closed"), Some(5), Some(6)).unwrap();
    let found = built(
        &lab,
        "FROM base:1\nRUN mkdir -m 700 /src && chown 7:8 /src && touch /src/f && mkdir /src/sub && chown 9:9 /src/sub\n\
         FROM base:1\nCOPY one.txt nothing* /n/\nCOPY none* /m/\nCOPY --from=0 /src /new\nCOPY --chmod=750 one.txt /deep/er/\n\
         USER www\nWORKDIR /its/place\nUSER not-yet\nWORKDIR /nobodys\n",
        &[],
    );
    has(
        &found,
        &[
            "n/one.txt -rw-r--r-- 0:0",
            "new drwxr-xr-x 0:0",
            "new/sub drwxr-xr-x 9:9",
            "deep/er drwxr-x--- 0:0",
            "its/place drwxr-xr-x 33:44",
            "nobodys drwxr-xr-x 0:0",
        ],
    );
    lab.file("Dockerfile", "FROM base:1\nCOPY nothing /n/\n");
    let refused = lab.knarr(&["build", "context"]).failed();
    assert!(refused.contains("Dockerfile:2: \"/nothing\": not found"), "{refused}");
}

#[test]
fn limits_and_annotations() {
    let lab = lab();
    let archive = lab.path("out.tar");
    let output = format!("type=oci,dest={}", archive.display());
    built(
        &lab,
        "FROM base:1\nRUN ulimit -n > /f && df -k /dev/shm | tail -1 | awk '{print $2}' >> /f\n",
        &[
            "--ulimit",
            "nofile=1062:1062",
            "--shm-size",
            "96m",
            "--annotation",
            "org.example.who=knarr-test",
            "-o",
            &output,
        ],
    );
    assert_eq!(read(&lab, "f"), "1062\n98304\n");
    let bytes = std::fs::read(archive).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("\"org.example.who\":\"knarr-test\""));
    let refused = lab.knarr(&["build", "--shm-size", "lots", "context"]).failed();
    assert!(refused.contains("invalid size: 'lots'"), "{refused}");
}

#[test]
fn a_directory_is_a_base() {
    let lab = lab();
    let context = format!("files={}", lab.path("context/dir").display());
    let found = built(
        &lab,
        "FROM files AS whole\nCOPY one.txt /\nFROM nothing\nCOPY --from=whole / /w\n",
        &["--build-context", &context, "--build-context", "nothing=docker-image://scratch"],
    );
    has(&found, &["w/two.txt", "w/one.txt"]);
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn a_check_builds_nothing_and_tells_what_is_better_written_otherwise() {
    let lab = lab();
    lab.file("Dockerfile", "FROM base:1 AS Bad\nCOPY $nowhere /x\nFROM base:1\nCMD true\n");
    let checked = lab.knarr(&["build", "--check", "context"]);
    assert_eq!(checked.code, 1, "{checked:?}");
    let expected = "Check complete, 3 warnings have been found!\n\n\
        WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/\n\
        Stage name 'Bad' should be lowercase\nDockerfile:1\n--------------------\n   \
        1 | >>> FROM base:1 AS Bad\n   2 |     COPY $nowhere /x\n   3 |     FROM base:1\n--------------------\n";
    assert!(checked.out.starts_with(expected), "{}", checked.out);
    assert!(checked.out.contains("Usage of undefined variable '$nowhere'\n"), "{}", checked.out);
    let told: serde_json::Value = serde_json::from_str(
        &lab.knarr(&["build", "--call=check,format=json,ignorestatus=1", "context"]).out,
    )
    .unwrap_or_default();
    assert_eq!(told, serde_json::Value::Null, "ignorestatus=1 is no boolean of ours");
    let json = lab.knarr(&["build", "--call=check,format=json,ignorestatus=true", "context"]).ok();
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(told["warnings"][2]["ruleName"], "JSONArgsRecommended");
    assert_eq!(told["warnings"][2]["location"]["ranges"][0]["start"]["line"], 4);

    // What is not built is not complained of after a build.
    let built = lab.knarr(&["build", "-t", "made:1", "context"]);
    let said = &built.err;
    assert!(
        said.contains("\n 2 warnings found (use knarr build --check to expand):\n - StageNameCasing: "),
        "{said}"
    );
    assert!(said.contains("\n - JSONArgsRecommended: JSON arguments recommended for CMD"), "{said}");
    lab.file("Dockerfile", "# check=error=true\nFROM base:1\nCMD true\n");
    let said = lab.knarr(&["build", "context"]).failed();
    assert!(said.contains("lint violation found for rules: JSONArgsRecommended"), "{said}");
    lab.file("Dockerfile", "# check=skip=all;error=true\nFROM base:1\nCMD true\n");
    assert_eq!(lab.knarr(&["build", "--check", "context"]).ok(), "Check complete, no warnings found.\n");
    lab.file("Dockerfile", "FROM base:1 AS Bad\nNOPE\n");
    let said = lab.knarr(&["build", "--check", "context"]);
    assert!(said.out.contains("StageNameCasing"), "{said:?}");
    assert!(said.err.contains("Dockerfile:2: unknown instruction: NOPE"), "{said:?}");
}

#[test]
fn a_dockerfile_tells_its_stages_and_what_they_take() {
    let lab = lab();
    lab.file(
        "Dockerfile",
        "ARG tag=1\n# one is the first\nFROM base:$tag AS one\n# a says what\nARG a=x\nFROM one\n\
         RUN --mount=type=secret,id=s,required=true true\n",
    );
    let targets = lab.knarr(&["build", "--call=targets", "context"]).ok();
    assert_eq!(targets, "TARGET    DESCRIPTION\none       is the first\n(default) \n");
    let outline = lab.knarr(&["build", "--call=outline", "context"]).ok();
    let expected = "BUILD ARG   VALUE   DESCRIPTION\ntag         1       \na           x       says what\n\n\
                    SECRET   REQUIRED\ns        true\n\n";
    assert_eq!(outline, expected);
    let json = lab.knarr(&["build", "--call=outline,format=json", "--target", "one", "context"]).ok();
    let told: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&told["name"], &told["args"][1]["name"]), (&"one".into(), &"a".into()));
}

#[test]
fn a_cache_begins_with_what_it_is_given() {
    let lab = lab();
    let found = built(
        &lab,
        "FROM base:1\nRUN --mount=type=cache,id=c,from=base:1,source=/etc,target=/c cp /c/passwd /first && touch /c/more\n\
         RUN --mount=type=cache,id=c,from=base:1,source=/etc,target=/c cp /c/more /c/group /\n\
         RUN --mount=type=cache,id=c,target=/c test ! -e /c/more\n",
        &["--no-cache"],
    );
    has(&found, &["first -rw-r--r-- 0:0", "group -rw-r--r-- 0:0", "more -rw-r--r-- 0:0"]);
}

#[test]
fn an_archive_wins_over_what_is_of_another_kind() {
    let lab = lab();
    let tree = lab.path("tree");
    std::fs::create_dir_all(tree.join("was-file")).unwrap();
    std::fs::write(tree.join("was-dir"), "x").unwrap();
    let archive = lab.path("context/a.tar");
    bins::run(Command::new("tar").arg("-cf").arg(archive).arg("-C").arg(tree).arg(".")).ok();
    let found = built(
        &lab,
        "FROM base:1\nRUN mkdir -p /was-dir/full && touch /was-file && ln -s nowhere /link\nADD a.tar /\nCOPY one.txt /link/\n",
        &[],
    );
    has(&found, &["was-dir -rw-r--r--", "was-file drwxr-xr-x", "nowhere/one.txt -rw-r--r--"]);
}
