//! Images go both ways: podman runs what we built, we run what buildah and podman made, and both builders make the
//! same of the same Dockerfiles.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::caller::{self, Caller};
use knarr_tests::image_lab::listing;
use knarr_tests::run_lab::Lab;
use std::path::Path;
use std::process::Command;

/// `RUN` is podman's `run` with the reference runtime.
const SETUP: &str = r#"
RUN() { P run --rm $OPTIONS "$@"; }
"#;

const END: &str = "P rm -a -f -t 0; umount -R root run";

#[test]
fn podman_runs_what_we_build_and_we_run_what_it_makes() {
    let lab = Lab::new();
    lab.0.file("Dockerfile", "FROM base:1\nRUN echo built > /made && adduser() { :; } && chown www /made\n\
        ENV WHO=world\nUSER www\nWORKDIR /tmp\nENTRYPOINT [\"sh\", \"-c\"]\nCMD [\"cat /made; id -u; pwd; echo $WHO\"]\n");
    lab.knarr(&["image", "build", "-q", "-t", "out:1", "context"]);
    let expected = "built\n33\n/tmp\nworld\n";
    assert_eq!(lab.run(&["--rm", "out:1"]).ok(), expected);
    for format in ["docker", "oci"] {
        lab.knarr(&["image", "save", "--format", format, "-o", &format!("{format}.tar"), "out:1"]);
    }
    let here = lab.0.path("");
    let script = format!(
        r#"set -e
        for format in docker oci; do
            P load -q -i {0}$format.tar >/dev/null; RUN out:1; RUN out:1 'exit 3' || echo $?; P rmi -f -a >/dev/null
        done
        P load -q -i {0}docker.tar >/dev/null
        P run --network none --cgroup-parent $CGROUP --name cc out:1 'echo theirs > /tmp/theirs'
        P commit -q -f oci cc made:1 >/dev/null; P rm cc >/dev/null
        P save -q --format oci-archive -o {0}theirs-oci.tar made:1; P save -q -o {0}theirs-docker.tar made:1
        echo end of the script"#,
        here.display()
    );
    let said = Caller::new(false).run(&format!("{}{SETUP}", caller::PODMAN), &script, END);
    let twice = format!("{expected}3\n").repeat(2);
    assert!(said.out.starts_with(&twice) && said.out.contains("end of the script"), "{said:?}");
    for archive in ["theirs-oci.tar", "theirs-docker.tar"] {
        let loaded = lab.knarr(&["image", "load", "-i", archive]);
        let name = loaded.lines().last().unwrap().rsplit(' ').next().unwrap().to_owned();
        let run = ["--rm", "--pull", "never", &name, "cat /tmp/theirs; id -u"];
        assert_eq!(lab.run(&run).ok(), "theirs\n33\n", "{loaded}");
    }
}

/// Dockerfiles as people write them; `BASE` is the base image. What the older buildah of Debian 12 does not know
/// (here-documents, --link, --parents, ${V#x}) is not among them.
const CASES: [(&str, &str); 11] = [
    (
        "stages",
        "FROM BASE AS one\nRUN mkdir /o && echo 1 > /o/f && ln -s f /o/l\nFROM BASE AS two\nCOPY --from=one /o /o\n\
        COPY --from=0 /o/f /g\nFROM two\nRUN rm /o/l && echo 2 >> /g\n",
    ),
    (
        "arguments",
        "ARG V=1.2.3\nARG NONE\nFROM BASE\nARG V\nARG D=${V:-x}-d\nENV A=${V} B=$V-b C=${NONE:-none} E=${V:+set}\n\
        LABEL v=\"$V\" d=$D lit='$V'\nRUN echo $V $D > /v\n",
    ),
    (
        "directories",
        "FROM BASE\nENV D=/a/b\nWORKDIR $D\nWORKDIR c\nCOPY one.txt .\nWORKDIR /tmp\nCOPY one.txt x/y/\n",
    ),
    ("commands", "FROM BASE\nENTRYPOINT exec sleep 1\nCMD a b\n"),
    ("exec form", "FROM BASE\nENTRYPOINT [\"a\", \"b c\"]\nCMD [\"d\"]\nSTOPSIGNAL 9\nUSER www:audio\n"),
    ("health", "FROM BASE\nHEALTHCHECK --interval=5s --timeout=3s --retries=2 CMD true || exit 1\n"),
    (
        "descriptions",
        "FROM BASE\nMAINTAINER me\nEXPOSE 80 443/tcp 53/udp\nVOLUME /v1 /v2\nVOLUME [\"/v 3\"]\nLABEL a=1 \\\n  b=\"two words\"\n",
    ),
    ("escape", "# escape=`\nFROM BASE\nRUN echo a `\n  b > /e\n"),
    (
        "files",
        "FROM BASE\nRUN echo x > /h1 && ln /h1 /h2 && ln -s nowhere /dangling && mkdir -m 1777 /sticky && touch /bin2\n\
        RUN rm /h1 && chmod 4755 /h2 && rm -r /root\n",
    ),
    (
        "copies",
        "FROM BASE\nCOPY dir /d\nCOPY dir/ /e/\nCOPY dir/* /f/\nCOPY one.txt dir/two.txt /g/\nCOPY --chown=www:44 one.txt /owned\n\
        COPY o?e.txt /h/\nCOPY . /all/\n",
    ),
    ("archives", "FROM BASE\nADD t.tgz /t/\nADD t.tgz one.txt /u/\nADD dir /w\nCOPY t.tgz /whole.tgz\n"),
];

/// What a RUN of buildah needs and does not take away.
const LEFT_BY_BUILDAH: [&str; 5] = ["dev", "proc", "run", "sys", "etc/hostname"];

#[test]
fn both_builders_make_the_same() {
    let lab = Lab::new();
    lab.0.file("one.txt", "one").file("dir/two.txt", "two").file("dir/sub/deep.txt", "deep");
    lab.0.file("dir/sub/not.log", "log").file("dir/keep.log", "kept");
    lab.0.file(".dockerignore", "**/*.log\n!dir/keep.log\nDockerfile\n# comment\n.dockerignore\n");
    let context = lab.0.path("context");
    let tar = |more: &[&str]| bins::run(Command::new("tar").arg("-C").arg(&context).args(more)).ok();
    tar(&["-czf", context.join("t.tgz").to_str().unwrap(), "dir", "one.txt"]);
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(lab.0.path("b")).arg("--runroot").arg(lab.0.path("br"));
        command.args(["--storage-driver", "vfs"]).env("BUILDAH_ISOLATION", "chroot").args(arguments);
        bins::run(command.current_dir(lab.0.path("")))
    };
    lab.knarr(&["image", "save", "--format", "oci", "-o", "base.tar", "base:1"]);
    let base = format!("oci-archive:{}", lab.0.path("base.tar").display());
    let base = buildah(&["pull", "-q", &base]).ok();
    buildah(&["tag", base.trim(), "localhost/base:1"]).ok();
    let mut differences = Vec::new();
    for (name, dockerfile) in CASES {
        lab.0.file("Dockerfile", &dockerfile.replace("BASE", "base:1"));
        let root = lab.0.path(&format!("tree-{}", name.replace(' ', "-")));
        let out = root.to_str().unwrap();
        lab.knarr(&["image", "build", "-q", "-t", "ours:1", "-o", out, "context"]);
        let ours: serde_json::Value =
            serde_json::from_str(&lab.knarr(&["image", "inspect", "ours:1"])).unwrap();
        let ours = &ours[0];
        lab.0.file("Dockerfile", &dockerfile.replace("BASE", "localhost/base:1"));
        buildah(&[
            "build",
            "-q",
            "--pull-never",
            "--format",
            "docker",
            "--network",
            "none",
            "-t",
            "theirs",
            "context",
        ])
        .ok();
        let container = buildah(&["from", "--pull-never", "theirs"]).ok().trim().to_owned();
        let mounted = buildah(&["mount", &container]).ok().trim().to_owned();
        let (mine, other) = (listing(&root), listing(Path::new(&mounted)));
        let inspected = buildah(&["inspect", "--type", "image", "theirs"]).ok();
        let inspected: serde_json::Value = serde_json::from_str(&inspected).unwrap();
        buildah(&["rm", &container]).ok();
        let left = |line: &&String| !LEFT_BY_BUILDAH.contains(&line.split(' ').next().unwrap_or_default());
        let differ = mine.symmetric_difference(&other).filter(left);
        differences.extend(differ.map(|line| format!("{name}: {line}")));
        let theirs = &inspected["Docker"]["config"];
        for key in [
            "User",
            "Cmd",
            "Entrypoint",
            "WorkingDir",
            "ExposedPorts",
            "Volumes",
            "StopSignal",
            "Shell",
            "Healthcheck",
        ] {
            let (ours, theirs) = (plain(&ours["Config"][key]), plain(&theirs[key]));
            if ours != theirs {
                differences.push(format!("{name}: {key}: {ours} {theirs}"));
            }
        }
        for key in ["Env", "Labels"] {
            let (ours, theirs) = (words(&ours["Config"][key]), words(&theirs[key]));
            if ours != theirs {
                differences.push(format!("{name}: {key}: {ours:?} {theirs:?}"));
            }
        }
    }
    assert_eq!(differences, Vec::<String>::new());
}

/// What is not there is said in several ways.
fn plain(value: &serde_json::Value) -> serde_json::Value {
    let empty = value.as_str() == Some("")
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(serde_json::Map::is_empty);
    if empty { serde_json::Value::Null } else { value.clone() }
}

/// In order, without the label by which buildah signs, and the PATH that it gives an image without one.
fn words(value: &serde_json::Value) -> Vec<String> {
    let mut words: Vec<String> = match value {
        serde_json::Value::Array(items) => {
            items.iter().filter_map(|item| item.as_str()).map(str::to_owned).collect()
        }
        serde_json::Value::Object(items) => {
            items.iter().map(|(name, item)| format!("{name}={item}")).collect()
        }
        _ => Vec::new(),
    };
    words.retain(|word| !word.starts_with("io.buildah.version") && !word.starts_with("PATH="));
    words.sort();
    words
}
