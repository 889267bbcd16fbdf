//! What the config of a stranger's image may ask for, and what it may not: nothing in it reaches the host, the engine's
//! own notes or another container (docs/images-security.md).

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::run_lab::Lab;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// Builds `evil:1` of this Dockerfile on the lab's context.
fn build(lab: &Lab, dockerfile: &str) {
    lab.0.file("Dockerfile", dockerfile);
    let context = lab.0.path("context");
    lab.knarr(&["image", "build", "-t", "evil:1", context.to_str().unwrap()]);
}

/// A directory of the host that nobody may touch.
fn victim(lab: &Lab) -> PathBuf {
    let victim = lab.0.path("victim");
    std::fs::create_dir_all(victim.join("deep")).unwrap();
    std::fs::write(victim.join("hosts"), "untouched").unwrap();
    victim
}

fn untouched(victim: &PathBuf) {
    let mut names: Vec<_> =
        std::fs::read_dir(victim).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["deep", "hosts"]);
    assert_eq!(std::fs::read_dir(victim.join("deep")).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(victim.join("hosts")).unwrap(), "untouched");
}

#[test]
fn working_directories_and_volumes_of_an_image_stay_inside() {
    let lab = Lab::new();
    let victim = victim(&lab);
    let outside = victim.display();
    let links = format!(
        "FROM base:1\nRUN ln -s {outside} /link && ln -s ../../../../../../..{outside}/deep /up\n\
         VOLUME [\"/link/volume\", \"/../../..{outside}/deep/volume\", \"/up/volume\"]\n"
    );
    build(&lab, &links);
    for workdir in ["/link/made", "/up/made"] {
        // Made inside, or refused.
        lab.0.file("Dockerfile", &format!("{links}WORKDIR {workdir}\n"));
        let _either = lab.0.knarr(&["image", "build", lab.0.path("context").to_str().unwrap()]);
        untouched(&victim);
    }
    // A volume of the image is filled with what the image has there, and that is never what the host has.
    let script = "pwd; ls /link /up; touch /link/volume/x";
    for more in [&[][..], &["--read-only"], &["-w", "/link/made"], &["-w", "/up/made"]] {
        let said = lab.run(&[&["--rm"], more, &["evil:1", "sh", "-c", script]].concat());
        assert!(!said.out.contains("hosts"), "{said:?}");
        untouched(&victim);
    }
}

#[test]
fn files_that_are_mounted_over_an_image_do_not_follow_its_links() {
    let lab = Lab::new();
    let victim = victim(&lab);
    let etc = lab.0.path("context/etc");
    std::fs::create_dir_all(&etc).unwrap();
    for name in ["hosts", "hostname", "resolv.conf"] {
        symlink(victim.join("hosts"), etc.join(name)).unwrap();
    }
    std::fs::create_dir(lab.0.path("context/dev")).unwrap();
    symlink(victim.join("deep"), lab.0.path("context/dev/shm")).unwrap();
    build(&lab, "FROM base:1\nCOPY etc/ /etc/\nCOPY dev/ /dev/\n");
    let said = lab.run(&[
        "--rm",
        "--hostname",
        "ship",
        "evil:1",
        "sh",
        "-c",
        "echo x > /etc/hosts; echo y > /dev/shm/y",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    untouched(&victim);
}

#[test]
fn labels_of_an_image_are_only_labels() {
    let lab = Lab::new();
    let options = r#"{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"1\"}]},\"RestartPolicy\":{\"Name\":\"always\"},\"Privileged\":true}"#;
    build(
        &lab,
        &format!(
            "FROM base:1\nLABEL io.knarr.run.auto-remove=true io.knarr.run.stop-timeout=0\n\
             LABEL io.knarr.run.options=\"{options}\"\n\
             LABEL cdi.k8s.io/evil=vendor.com/class=device run.oci.hooks=/bin/sh io.kubernetes.cri-o.Devices=/dev/mem\n"
        ),
    );
    let name = format!("labelled-{}", std::process::id());
    assert_eq!(lab.run(&["--name", &name, "evil:1", "sh", "-c", "ls /dev; exit 3"]).code, 3);
    let state =
        "{{.State.Status}} {{.RestartCount}} {{.HostConfig.Privileged}} {{.HostConfig.RestartPolicy.Name}}";
    assert_eq!(lab.knarr(&["inspect", "-f", state, &name]), "exited 0 false no\n");
    assert!(!lab.knarr(&["logs", &name]).contains("mem\n"));
    assert_eq!(lab.knarr(&["port", &name]), "");
}

#[test]
fn a_build_takes_its_context_from_here_alone() {
    let lab = Lab::new();
    for context in ["https://example.com/x.git", "git@example.com:x.git", "http://example.com/context.tar"] {
        let said = lab.0.knarr(&["image", "build", context]);
        assert_ne!(said.code, 0, "{said:?}");
        assert!(said.err.contains("not") || said.err.contains("No such file"), "{said:?}");
    }
    let dockerfile = "FROM base:1\nRUN --mount=type=bind,target=/x,bind-propagation=rshared true\n";
    lab.0.file("Dockerfile", dockerfile);
    let context = lab.0.path("context");
    let said = lab.0.knarr(&["image", "build", context.to_str().unwrap()]).failed();
    assert!(said.contains("unexpected key 'bind-propagation' in --mount"), "{said}");
}
