//! `knarr image build` with real commands run by the runtime: what is built, what is cached, what other tools make of
//! it, and that buildah makes the same of the same context.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::image_lab::{ImageLab, listing};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A lab that builds.
struct Lab(ImageLab);

impl std::ops::Deref for Lab {
    type Target = ImageLab;
    fn deref(&self) -> &ImageLab {
        &self.0
    }
}

impl Lab {
    fn new() -> Self {
        Self(ImageLab::new())
    }

    fn build(&self, dockerfile: &str, more: &[&str]) -> Said {
        self.file("Dockerfile", dockerfile);
        self.knarr(&[&["image", "build", "-t", "out:1"], more, &["context"]].concat())
    }

    fn unpack(&self) -> (PathBuf, serde_json::Value) {
        self.0.unpack("out:1")
    }
}

#[test]
fn what_people_write() {
    let lab = Lab::new();
    lab.file("one.txt", "one")
        .file("dir/two.txt", "two")
        .file("dir/sub/three.key", "no")
        .file(".dockerignore", "**/*.key");
    let built = lab.build(
        "ARG BASE=base\nFROM ${BASE}:1 AS builder\nWORKDIR /src\nCOPY one.txt dir/ ./\n\
         RUN echo built > made && \\\n    # a comment inside\n    id > who\n\
         RUN <<EOF\necho first > script\nEOF\n\
         FROM ${BASE}:1\nARG WHO=world\nENV GREETING=\"hello $WHO\" TWO=2\n\
         COPY --from=builder --chown=www:www /src/made /out/\nCOPY --from=builder /src /src\n\
         RUN --network=none echo \"$GREETING\" > /out/greeting && rm /src/two.txt\n\
         USER www\nRUN id -u > /tmp/uid && test \"$HOME\" = /srv\n\
         EXPOSE 80 90/udp\nVOLUME /data\nLABEL a=b \"c d\"=\"e f\"\nSTOPSIGNAL SIGINT\n\
         HEALTHCHECK --interval=5s CMD true\nENTRYPOINT [\"/bin/cat\"]\nCMD [\"/out/greeting\"]\n",
        &["--build-arg", "WHO=there"],
    );
    assert!(built.err.contains("[builder 4/5] RUN echo built"), "{built:?}");
    let id = built.ok().trim().to_owned();
    let (root, image) = lab.unpack();
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    assert_eq!(
        (read("out/greeting"), read("out/made"), read("src/script")),
        ("hello there\n".into(), "built\n".into(), "first\n".into())
    );
    assert!(read("src/who").starts_with("uid=0(root)"));
    let all = listing(&root);
    let has = |start: &str| all.iter().any(|line| line.starts_with(start));
    assert!(
        has("out/made -rw-r--r-- 33:44")
            && has("out/greeting -rw-r--r-- 0:0")
            && has("tmp/uid -rw-r--r-- 33:44"),
        "{all:?}"
    );
    for gone in ["src/two.txt", "src/sub/three.key", "etc/resolv.conf", "proc", "dev", "sys"] {
        assert!(!has(gone), "{gone}: {all:?}");
    }
    let config = &image["config"];
    assert_eq!(config["Env"][0], "GREETING=hello there");
    assert_eq!(config["ExposedPorts"], serde_json::json!({"80/tcp": {}, "90/udp": {}}));
    assert_eq!((config["User"].as_str(), config["StopSignal"].as_str()), (Some("www"), Some("SIGINT")));
    assert_eq!(config["Labels"], serde_json::json!({"a": "b", "c d": "e f"}));
    let layers = image["rootfs"]["diff_ids"].as_array().unwrap().len();
    let history = image["history"].as_array().unwrap();
    assert_eq!(history.iter().filter(|entry| entry["empty_layer"] != true).count(), layers);
    assert_eq!(
        lab.build(
            &std::fs::read_to_string(lab.path("context/Dockerfile")).unwrap(),
            &["--build-arg", "WHO=there"]
        )
        .ok()
        .trim(),
        id
    );
}

#[test]
fn the_cache_knows_what_counts() {
    let lab = Lab::new();
    let dockerfile = "FROM base:1 AS one\nCOPY a /a\nRUN echo x > /same\nFROM base:1\nCOPY --from=one /same /same\n\
                      RUN echo y > /y\nCOPY b /b\n";
    let cached = |said: &Said| said.err.lines().filter(|line| line.ends_with("CACHED")).count();
    lab.file("a", "1").file("b", "1");
    let first = lab.build(dockerfile, &[]);
    assert_eq!((cached(&first), first.code), (0, 0), "{first:?}");
    assert_eq!(cached(&lab.build(dockerfile, &[])), 5);
    lab.file("a", "1");
    let touched = lab.build(dockerfile, &[]);
    assert_eq!(cached(&touched), 5, "times do not count: {touched:?}");
    lab.file("b", "2");
    let changed = lab.build(dockerfile, &[]);
    assert_eq!(cached(&changed), 4, "{changed:?}");
    lab.file("a", "2");
    let other_stage = lab.build(dockerfile, &["--build-arg", "UNUSED=1"]);
    assert!(cached(&other_stage) >= 2, "what another stage gave is known by its contents: {other_stage:?}");
    assert_eq!(cached(&lab.build(dockerfile, &["--no-cache"])), 0);
}

#[test]
fn the_same_input_gives_the_same_image() {
    let dockerfile = "FROM base:1\nWORKDIR /w\nCOPY a /etc/a\nCOPY d /d/e/\nRUN echo x > /x && mkdir /m\n";
    let ids: Vec<String> = (0..2)
        .map(|_| {
            let lab = Lab::new();
            lab.file("a", "1").file("d/b", "1");
            for file in ["bin", "etc", "tmp", "root", "etc/passwd", "etc/group"] {
                let file = std::fs::File::open(lab.path("base").join(file)).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
            lab.build(dockerfile, &["--no-cache", "--build-arg", "SOURCE_DATE_EPOCH=1000"]).ok();
            let (_, image) = lab.unpack();
            assert_eq!(image["created"], "1970-01-01T00:16:40Z");
            let diff_ids = image["rootfs"]["diff_ids"].as_array().unwrap();
            // All but the base, which the lab made anew.
            serde_json::to_string(&diff_ids[1..]).unwrap()
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
}

#[test]
fn mounts_leave_nothing_behind() {
    let lab = Lab::new();
    lab.file("d/seen", "seen").file("d/hidden", "no").file(".dockerignore", "d/hidden");
    std::fs::write(lab.path("secret"), "s3cret").unwrap();
    let built = lab.build(
        "FROM base:1\nRUN --mount=type=secret,id=s,required test $(stat -c %s /run/secrets/s) = 6\n\
         RUN --mount=type=cache,target=/cache,id=c echo 1 > /cache/kept\n\
         RUN --mount=type=cache,target=/other,id=c cat /other/kept > /copied\n\
         RUN --mount=type=bind,source=d,target=/b,rw test -e /b/seen && test ! -e /b/hidden && touch /b/new\n\
         RUN --mount=type=tmpfs,target=/t touch /t/x\nRUN true\n",
        &["--secret", "id=s,src=secret"],
    );
    built.ok();
    let (root, image) = lab.unpack();
    assert_eq!(std::fs::read_to_string(root.join("copied")).unwrap(), "1\n");
    for gone in ["cache", "other", "b", "t", "run"] {
        assert!(!root.join(gone).exists(), "{gone}");
    }
    assert!(!lab.path("context/d/new").exists());
    let layers = image["rootfs"]["diff_ids"].as_array().unwrap().len();
    assert_eq!(layers, 2, "a step that changed nothing makes no layer: {image}");
    let store = bins::run(Command::new("grep").args(["-rl", "s3cret"]).arg(lab.path("data")));
    assert_eq!(store.out, "", "a secret is nowhere in the store");
    assert_eq!(std::fs::read_dir(lab.path("data/images/staging")).unwrap().count(), 0);
}

#[test]
fn errors_name_file_and_line() {
    let lab = Lab::new();
    for (dockerfile, line, words) in [
        ("FORM base:1\n", 1, "unknown instruction: FORM (did you mean FROM?)"),
        ("FROM base:1\nCOPY nothere /x\n", 2, "\"/nothere\": not found"),
        ("FROM base:1\n\nRUN true && \\\n  false\n", 3, "did not complete successfully: exit code: 1"),
        (
            "FROM base:1\nRUN exit 42\n",
            2,
            "process \"/bin/sh -c exit 42\" did not complete successfully: exit code: 42",
        ),
        ("FROM base:1\nADD https://127.0.0.1:1/x.git?y /x\n", 2, "query \"y\" has no value"),
        ("FROM base:1\nCOPY Dockerfile Dockerfile /x\n", 2, "must be a directory and end with a /"),
        ("FROM base:1\nCOPY --chown=nobody Dockerfile /x\n", 2, "no such name in /etc/passwd"),
        ("FROM base:1\nUSER nobody\nRUN true\n", 3, "unable to find user nobody"),
        ("FROM base:1\nRUN --mount=type=secret,id=s,required true\n", 2, "secret s: not found"),
        ("FROM base:1 AS a\nFROM base:1\nCOPY --from=a /nothere /\n", 3, "\"/nothere\": not found"),
    ] {
        let complaint = lab.build(dockerfile, &[]).failed();
        assert!(
            complaint.contains(&format!("Dockerfile:{line}: ")) && complaint.contains(words),
            "{dockerfile}: {complaint}"
        );
        assert!(complaint.contains(" | >>> "), "{complaint}");
    }
    assert!(lab.knarr(&["image", "build", "nothere"]).failed().contains("unable to prepare context"));
    assert!(
        lab.build("FROM base:1\n", &["--target", "x"])
            .failed()
            .contains("target stage \"x\" could not be found")
    );
}

#[test]
fn a_context_and_an_image_cannot_lead_outside() {
    let lab = Lab::new();
    std::fs::write(lab.path("outside"), "outside").unwrap();
    symlink(lab.path("outside"), lab.path("context/link")).unwrap();
    symlink("../outside", lab.path("context/relative")).unwrap();
    for source in ["link", "relative", "../outside"] {
        let complaint = lab.build(&format!("FROM base:1\nCOPY {source} /x\n"), &[]).failed();
        assert!(complaint.contains("not found"), "{source}: {complaint}");
    }
    lab.file("f", "x");
    let target = lab.path("victim");
    std::fs::create_dir(&target).unwrap();
    let dockerfile = format!("FROM base:1\nRUN ln -s {0} /evil\nCOPY f /evil/f\n", target.display());
    lab.build(&dockerfile, &[]).ok();
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
    let (root, _) = lab.unpack();
    let within = root.join(target.strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(within.join("f")).unwrap(), b"x", "where the image itself would find it");
}

/// The same context built by buildah gives the same tree and the same settings.
#[test]
fn buildah_makes_the_same() {
    let lab = Lab::new();
    lab.file("a.txt", "a").file("d/b.txt", "b").file("d/sub/c.txt", "c").file("x y.txt", "space");
    symlink("a.txt", lab.path("context/link")).unwrap();
    symlink("b.txt", lab.path("context/d/inner")).unwrap();
    std::fs::set_permissions(lab.path("context/d/b.txt"), PermissionsExt::from_mode(0o750)).unwrap();
    let dir = lab.path("context");
    bins::run(
        Command::new("tar").arg("-C").arg(&dir).args(["-czf"]).arg(dir.join("t.tgz")).args(["d", "a.txt"]),
    )
    .ok();
    let dockerfile = "FROM base\nWORKDIR /w\nCOPY a.txt link ./\nCOPY d /d\nCOPY d/* /star/\nCOPY *.txt /all/\nADD t.tgz /t/\n\
                      COPY [\"x y.txt\", \"/spaced\"]\nCOPY --chown=5:6 --chmod=0600 a.txt /owned\nENV A=1 B=\"two $A\"\n\
                      WORKDIR sub\nUSER 7\nCMD [\"a\"]\nLABEL l=m\nEXPOSE 1\n";
    lab.build(&dockerfile.replace("FROM base", "FROM base:1"), &[]).ok();
    let (root, ours) = lab.unpack();
    let buildah = |arguments: &[&str]| {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(lab.path("b")).arg("--runroot").arg(lab.path("br"));
        bins::run(command.args(["--storage-driver", "vfs"]).args(arguments).current_dir(lab.path(""))).ok()
    };
    std::fs::write(
        lab.path("context/Dockerfile"),
        dockerfile.replace("FROM base", "FROM scratch\nCOPY --from=base / /"),
    )
    .unwrap();
    let context = format!("base={}", lab.path("base").display());
    buildah(&["build", "-q", "--build-context", &context, "-t", "theirs", "context"]);
    let container = buildah(&["from", "theirs"]).trim().to_owned();
    let mounted = buildah(&["mount", &container]).trim().to_owned();
    let (mine, theirs) = (listing(&root), listing(Path::new(&mounted)));
    let inspected: serde_json::Value =
        serde_json::from_str(&buildah(&["inspect", "--type", "image", "theirs"])).unwrap();
    let config = &inspected["OCIv1"]["config"];
    buildah(&["rm", "-a"]);
    assert_eq!(mine.symmetric_difference(&theirs).collect::<Vec<_>>(), Vec::<&String>::new());
    for key in ["User", "Cmd", "WorkingDir", "ExposedPorts"] {
        assert_eq!(ours["config"][key], config[key], "{key}");
    }
    assert!(
        config["Env"].to_string().contains("B=two ")
            && ours["config"]["Env"].to_string().contains("\"B=two ")
    );
}

#[test]
fn results_go_elsewhere_too() {
    let lab = Lab::new();
    lab.file("a", "1");
    let path = |name: &str| lab.path(name).to_str().unwrap().to_owned();
    let (tar, oci) =
        (format!("type=tar,dest={}", path("out.tar")), format!("type=oci,dest={}", path("oci.tar")));
    let outputs = ["-o", &path("out"), "-o", &tar, "-o", &oci];
    lab.build("FROM base:1\nCOPY --chown=5:6 a /made\n", &outputs).ok();
    let meta = std::fs::metadata(lab.path("out/made")).unwrap();
    assert_eq!((std::os::unix::fs::MetadataExt::uid(&meta), lab.path("out/bin/sh").exists()), (5, true));
    let listed = bins::run(Command::new("tar").args(["-tvf", &path("out.tar"), "made"])).ok();
    assert!(listed.contains(" 5/6 "), "{listed}");
    let archive = format!("oci-archive:{}", path("oci.tar"));
    bins::run(Command::new("skopeo").args(["inspect", &archive])).ok();
    assert!(lab.build("FROM base:1\n", &["-o", "type=odd"]).failed().contains("not supported"));
    std::fs::create_dir(lab.path("seen")).unwrap();
    let seen = path("seen");
    let look = format!(
        "{0} image mount out:1 {seen} && cat {seen}/made && {0} image unmount {seen} && test ! -e {seen}/made",
        format_args!(
            "{} --data-dir {} --state-dir {}",
            bins::find("knarr").display(),
            path("data"),
            path("state")
        ),
    );
    let said = bins::run(Command::new("unshare").args(["-m", "sh", "-c", &look]));
    assert_eq!(said.ok(), format!("{seen}\n1"));
}
