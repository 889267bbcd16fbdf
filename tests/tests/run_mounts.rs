//! What is mounted into single containers: images, directories with and without what is mounted below them.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::run_lab::{Lab, named};
use std::process::Command;

/// A directory `top` in which a file system is mounted at `below`, for as long as it lives.
struct Stack(std::path::PathBuf);

impl Stack {
    fn new(lab: &Lab) -> Self {
        let top = lab.0.path("top");
        std::fs::create_dir_all(top.join("below")).unwrap();
        bins::run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(top.join("below"))).ok();
        std::fs::write(top.join("below/mounted"), "").unwrap();
        Self(top)
    }

    fn bind(&self, more: &str) -> String {
        format!("type=bind,src={},dst=/in{more}", self.0.display())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg(self.0.join("below")).status();
    }
}

/// Whether a container with these options can write to what is mounted below.
fn touched(lab: &Lab, options: &[&str]) -> bool {
    lab.run(&[&["--rm"], options, &["base:1", "touch", "/in/below/file"]].concat()).code == 0
}

#[test]
fn read_only_is_read_only_below_too() {
    let lab = Lab::new();
    let stack = Stack::new(&lab);
    let top = stack.0.display().to_string();
    assert!(!touched(&lab, &["-v", &format!("{top}:/in:ro")]));
    assert!(!touched(&lab, &["--mount", &stack.bind(",ro")]));
    assert!(!touched(&lab, &["--mount", &stack.bind(",ro,bind-recursive=readonly")]));
    assert!(touched(&lab, &["--mount", &stack.bind(",ro,bind-recursive=writable")]));
    assert!(touched(&lab, &["-v", &format!("{top}:/in")]));
}

#[test]
fn a_mount_may_leave_out_what_is_mounted_below() {
    let lab = Lab::new();
    let stack = Stack::new(&lab);
    let seen = |more: &str, script: &str| {
        lab.run(&["--rm", "--mount", &stack.bind(more), "base:1", "sh", "-c", script]).out
    };
    assert_eq!(seen("", "ls /in/below"), "mounted\n");
    assert_eq!(
        seen(",bind-recursive=disabled", "ls /in/below; touch /in/below/x && echo written"),
        "written\n"
    );
    assert_eq!(
        seen(",ro,bind-recursive=disabled", "ls /in/below; touch /in/below/y || echo refused"),
        "x\nrefused\n"
    );
}

/// Docker's: read-only itself is what such a runtime can do.
#[test]
fn a_runtime_that_cannot_read_recursively_is_not_asked_to() {
    let lab = Lab::new();
    let stack = Stack::new(&lab);
    let (script, runtime) = (lab.0.path("older-runtime"), bins::find("knarr-runtime"));
    let text = format!(
        "#!/bin/sh\nfor word; do [ \"$word\" != features ] || exec echo '{{\"mountOptions\":[\"ro\",\"bind\"]}}'; done\n\
         exec {} \"$@\"\n",
        runtime.display()
    );
    bins::write_program(&script, &text);
    let config = std::fs::read_to_string(lab.0.path("config.toml")).unwrap();
    let runtimes = format!("[engine.runtimes]\nolder = \"{}\"\n", script.display());
    std::fs::write(lab.0.path("config.toml"), config + &runtimes).unwrap();
    let bind = stack.bind(",ro");
    assert!(touched(&lab, &["--runtime", "older", "--mount", &bind]));
    assert!(!touched(&lab, &["--mount", &bind]));
    let forced = stack.bind(",ro,bind-recursive=readonly");
    let said = lab.run(&["--rm", "--runtime", "older", "--mount", &forced, "base:1", "true"]);
    assert!(said.code == 125 && said.err.contains("rro is not supported"), "{said:?}");
}

#[test]
fn an_image_is_mounted() {
    let lab = Lab::new();
    lab.0.file("Dockerfile", "FROM base:1\nCOPY word /data/word\n").file("word", "from the image\n");
    lab.knarr(&["build", "-q", "-t", "other:1", "context"]);
    let c = &*named("with-image");
    let whole = "type=image,source=other:1,target=/other";
    let part = "type=image,source=other:1,target=/part,image-subpath=data";
    let script = "cat /other/data/word /part/word; touch /part/x || echo refused";
    let said = lab.run(&["--name", c, "--mount", whole, "--mount", part, "base:1", "sh", "-c", script]);
    assert_eq!(said.out, "from the image\nfrom the image\nrefused\n", "{said:?}");
    let shown =
        lab.knarr(&["inspect", "-f", "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}};{{end}}", c]);
    let id = lab.knarr(&["image", "inspect", "-f", "{{.Id}}", "other:1"]).trim().to_owned();
    assert_eq!(shown, format!("image {id} /other;image {id} /part;\n"));
    let said = lab.run(&["--rm", "--volumes-from", c, "base:1", "cat", "/part/word"]);
    assert_eq!(said.out, "from the image\n", "{said:?}");
    let said = lab.run(&["--rm", "--mount", "type=image,source=none-such:1,target=/x", "base:1", "true"]);
    assert_eq!(said.code, 125, "{said:?}");
}

#[test]
fn a_part_of_a_volume_is_mounted() {
    let (lab, c) = (Lab::new(), &*named("with-part"));
    let volume = format!("parts-{}", std::process::id());
    let fill = "mkdir -p /v/a/b && echo inside > /v/a/b/word && ln -s /etc /v/a/away && ln -s b /v/a/near";
    lab.knarr(&["run", "--rm", "-v", &format!("{volume}:/v"), "base:1", "sh", "-c", fill]);
    let mount = |part: &str, target: &str| format!("src={volume},target={target},volume-subpath={part}");
    let (directory, file) = (mount("a/near", "/part"), mount("a/b/word", "/word"));
    let script = "cat /part/word /word; ls /part; echo more >> /part/word";
    let all = ["--name", c, "--mount", &directory, "--mount", &file, "base:1", "sh", "-c", script];
    let said = lab.run(&all);
    assert_eq!(said.out, "inside\ninside\nword\n", "{said:?}");
    lab.knarr(&["start", "-a", c]);
    let inherited = lab.run(&["--rm", "--volumes-from", c, "base:1", "sh", "-c", "wc -l < /word; ls /part"]);
    assert_eq!(inherited.out, "3\nword\n", "{inherited:?}");
    for part in ["a/away", "a/away/passwd", "none"] {
        let said = lab.run(&["--rm", "--mount", &mount(part, "/part"), "base:1", "true"]);
        assert!(said.code == 125 && said.err.contains("cannot access path"), "{part}: {said:?}");
    }
    let said = lab.run(&["--rm", "--mount", &mount("../x", "/part"), "base:1", "true"]);
    assert!(said.err.contains("subpath must be a relative path within the volume"), "{said:?}");
    lab.knarr(&["rm", c]);
    lab.knarr(&["volume", "rm", &volume]);
}
