//! Files of single containers: copied in and out, kept in volumes, told apart from the image, made into an image.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::run_lab::Lab;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

#[test]
fn files_are_copied_by_dockers_rules() {
    let lab = Lab::new();
    let c = &*format!("cp-{}", std::process::id());
    lab.run(&["-d", "--name", c, "--tmpfs", "/mem", "base:1", "sleep", "1000"]).ok();
    let here = lab.0.path("here");
    std::fs::create_dir_all(here.join("d/sub")).unwrap();
    std::fs::write(here.join("d/sub/f"), "deep").unwrap();
    std::fs::write(here.join("f"), "file").unwrap();
    std::fs::set_permissions(here.join("f"), PermissionsExt::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(here.join("f"), Some(7), Some(8)).unwrap();
    let local = |name: &str| here.join(name).to_str().unwrap().to_owned();
    let there = |path: &str| format!("{c}:{path}");
    lab.knarr(&["cp", &local("f"), &there("/tmp")]);
    lab.knarr(&["cp", &local("f"), &there("/tmp/new")]);
    lab.knarr(&["cp", &local("d"), &there("/tmp/copy")]);
    lab.knarr(&["cp", &local("d"), &there("/tmp")]);
    lab.knarr(&["cp", &local("d/."), &there("/mem")]);
    lab.knarr(&["cp", "-a", &local("f"), &there("/owned")]);
    let script = "stat -c '%U:%G %a' /tmp/f; stat -c '%u:%g' /owned; \
                  cat /tmp/new /tmp/copy/sub/f /tmp/d/sub/f /mem/sub/f";
    let seen = lab.knarr(&["exec", c, "sh", "-c", script]);
    assert_eq!(seen, "root:root 640\n7:8\nfiledeepdeepdeep");
    lab.knarr(&["exec", c, "sh", "-c", "ln -s /etc/passwd /link; ln -s / /root-link; echo x > /mem/x"]);
    lab.knarr(&["cp", &there("/mem/x"), &local("from-memory")]);
    lab.knarr(&["cp", "-L", &there("/link"), &local("followed")]);
    lab.knarr(&["cp", &there("/link"), &local("kept")]);
    assert_eq!(std::fs::read_to_string(here.join("from-memory")).unwrap(), "x\n");
    assert!(std::fs::read_to_string(here.join("followed")).unwrap().contains("www"));
    assert!(here.join("kept").symlink_metadata().unwrap().is_symlink());
    for (source, target, words) in [
        (there("/none"), local("x"), "Could not find the file /none in container "),
        (local("none-such"), there("/"), "none-such: no such file or directory"),
        (local("f"), there("/none/x"), "directory /none does not exist"),
        (local("d"), there("/etc/passwd"), "cannot copy directory"),
        (local("f"), local("g"), "must specify at least one container source"),
        ("nosuch:/x".to_owned(), local("x"), "No such container: nosuch"),
    ] {
        let complaint = lab.0.knarr(&["cp", &source, &target]).failed();
        assert!(complaint.contains(words), "{source} {target}: {complaint}");
    }
    lab.knarr(&["stop", "-t", "0", c]);
    lab.knarr(&["cp", &there("/tmp/copy/."), &local("out")]);
    assert_eq!(std::fs::read_to_string(here.join("out/sub/f")).unwrap(), "deep");
}

#[test]
fn a_container_cannot_lead_a_copy_elsewhere() {
    let lab = Lab::new();
    let c = &*format!("evil-{}", std::process::id());
    let victim = lab.0.path("victim");
    std::fs::create_dir(&victim).unwrap();
    let script = format!("ln -s {0} /dir; ln -s {0}/f /file; sleep 1000", victim.display());
    lab.run(&["-d", "--name", c, "base:1", "sh", "-c", &script]).ok();
    std::fs::write(lab.0.path("f"), "x").unwrap();
    let f = lab.0.path("f");
    for target in ["/dir/f", "/file/x"] {
        lab.0.knarr(&["cp", f.to_str().unwrap(), &format!("{c}:{target}")]).failed();
    }
    lab.0.knarr(&["cp", "-L", &format!("{c}:/file"), lab.0.path("stolen").to_str().unwrap()]).failed();
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
}

#[test]
fn streams_are_tar_archives() {
    let lab = Lab::new();
    let c = &*format!("tar-{}", std::process::id());
    lab.knarr(&["create", "--network", "none", "--name", c, "base:1", "true"]);
    let knarr = bins::find("knarr");
    let base = format!("{} --data-dir data --state-dir state --config config.toml", knarr.display());
    let shell =
        |script: &str| bins::run(Command::new("sh").args(["-ec", script]).current_dir(lab.0.path("")));
    shell(&format!("mkdir -p s/t; echo hi > s/t/f; tar -cf - -C s t | {base} cp - {c}:/tmp")).ok();
    let listed = shell(&format!("{base} cp {c}:/tmp/t - | tar -tf -")).ok();
    assert_eq!(listed, "t/\nt/f\n");
    assert_eq!(shell(&format!("{base} export {c} | tar -xOf - tmp/t/f")).ok(), "hi\n");
}

#[test]
fn an_image_of_a_container() {
    let lab = Lab::new();
    let c = &*format!("commit-{}", std::process::id());
    let script = "echo new > /new; rm -r /srv; chmod 700 /etc; echo www >> /etc/passwd; sleep 1000";
    std::fs::create_dir(lab.0.path("base/srv")).unwrap();
    lab.knarr(&["image", "import", lab.0.path("base").to_str().unwrap(), "base:2"]);
    lab.run(&["-d", "--name", c, "base:2", "sh", "-c", script]).ok();
    let expected = "C /etc\nC /etc/passwd\nA /new\nD /srv\n";
    knarr_tests::eventually::eventually("all is written", std::time::Duration::from_secs(60), || {
        let said = lab.knarr(&["diff", c]);
        if said == expected { Ok(()) } else { Err(said) }
    });
    let change = ["-c", "CMD [\"cat\", \"/new\"]", "-c", "ENV A=b", "-m", "why", "-a", "me"];
    let id = lab.knarr(&[&["commit"], &change[..], &[c, "made:1"]].concat());
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(lab.run(&["--rm", "made:1"]).ok(), "new\n");
    assert_eq!(
        lab.run(&["--rm", "made:1", "sh", "-c", "echo $A; test ! -e /srv && stat -c %a /etc"]).ok(),
        "b\n700\n"
    );
    assert!(lab.knarr(&["image", "inspect", "made:1"]).contains("\"Comment\": \"why\""));
    assert!(
        lab.0.knarr(&["commit", "-c", "RUN x", c]).failed().contains("RUN is not a valid change command")
    );
    let archive = lab.0.path("made.tar");
    lab.knarr(&["image", "save", "--format", "oci", "-o", archive.to_str().unwrap(), "made:1"]);
    let config = format!("oci-archive:{}", archive.display());
    let config = bins::run(Command::new("skopeo").args(["inspect", "--config", &config])).ok();
    assert!(config.contains("\"author\": \"me\""), "{config}");
}

#[test]
fn a_container_has_the_volumes_of_another() {
    let lab = Lab::new();
    let c = &*format!("has-{}", std::process::id());
    std::fs::create_dir(lab.0.path("host")).unwrap();
    let given = ["-v", "data:/d", "-v", "./host:/h:ro", "-v", "/nameless", "-v", "other:/own"];
    lab.run(&[&["-d", "--name", c], &given[..], &["base:1", "sleep", "1000"]].concat()).ok();
    lab.knarr(&["exec", c, "touch", "/d/1", "/nameless/2", "/own/3"]);
    let script = "ls /d /nameless /own; touch /d/new && echo writable; touch /h/new || echo read-only";
    let said = lab.run(&["--rm", "--volumes-from", c, "-v", "own:/own", "base:1", "sh", "-c", script]);
    assert_eq!(said.out, "/d:\n1\n\n/nameless:\n2\n\n/own:\nwritable\nread-only\n", "{said:?}");
    let read_only = format!("{c}:ro");
    let said = lab.run(&["--rm", "--volumes-from", &read_only, "base:1", "touch", "/d/newer"]);
    assert!(said.err.contains("Read-only file system"), "{said:?}");
    let nobody = lab.run(&["--volumes-from", "nobody", "base:1", "true"]);
    assert!(nobody.code == 125 && nobody.err.contains("No such container: nobody"), "{nobody:?}");
    let heir = &*format!("heir-{}", std::process::id());
    lab.run(&["-d", "--name", heir, "--volumes-from", c, "base:1", "sleep", "1000"]).ok();
    lab.knarr(&["rm", "-f", "-v", c]);
    assert_eq!(lab.knarr(&["exec", heir, "ls", "/nameless"]), "2\n", "a volume that is in use stays");
}

#[test]
fn volumes_outlive_containers() {
    let lab = Lab::new();
    std::fs::create_dir(lab.0.path("base/srv")).unwrap();
    std::fs::write(lab.0.path("base/srv/of-image"), "x").unwrap();
    std::os::unix::fs::chown(lab.0.path("base/srv"), Some(33), Some(44)).unwrap();
    lab.knarr(&["image", "import", lab.0.path("base").to_str().unwrap(), "base:2"]);
    let filled = lab.run(&[
        "--rm",
        "-v",
        "data:/srv",
        "base:2",
        "sh",
        "-c",
        "ls /srv; stat -c %u /srv; touch /srv/new",
    ]);
    assert_eq!(filled.ok(), "of-image\n33\n");
    let read_only = ["--rm", "-v", "data:/d:ro", "base:1", "sh", "-c", "ls /d; touch /d/x"];
    let said = lab.run(&read_only);
    assert!(said.out == "new\nof-image\n" && said.code != 0, "{said:?}");
    let c = &*format!("vol-{}", std::process::id());
    lab.run(&["-d", "--name", c, "--mount", "type=volume,src=data,dst=/d", "base:1", "sleep", "1000"]).ok();
    assert!(lab.0.knarr(&["volume", "rm", "data"]).failed().contains("volume is in use - ["));
    lab.knarr(&["rm", "-f", c]);
    assert_eq!(lab.knarr(&["volume", "rm", "data"]), "data\n");
    assert!(lab.0.knarr(&["volume", "rm", "data"]).failed().contains("no such volume: data"));
    let device = lab.0.path("device");
    std::fs::create_dir(&device).unwrap();
    std::fs::write(device.join("of-machine"), "x").unwrap();
    let option = format!("device={}", device.display());
    let bound = ["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &option, "bound"];
    assert_eq!((lab.knarr(&bound), lab.knarr(&bound)), ("bound\n".into(), "bound\n".into()));
    let listed = lab.run(&["--rm", "-v", "bound:/srv", "base:2", "sh", "-c", "ls /srv; touch /srv/made"]);
    assert_eq!(listed.ok(), "of-machine\n");
    assert_eq!(lab.knarr(&["volume", "inspect", "-f", "{{.Options.o}}", "bound"]), "bind\n");
    lab.run(&["-d", "--name", c, "-v", "bound:/d", "base:1", "sleep", "1000"]).ok();
    assert!(lab.0.knarr(&["volume", "rm", "bound"]).failed().contains("volume is in use"));
    lab.knarr(&["rm", "-f", c]);
    lab.knarr(&["volume", "rm", "bound"]);
    assert!(device.join("made").exists() && device.join("of-machine").exists(), "the directory stays");
    lab.knarr(&[&bound[..8], &["lost"]].concat());
    std::fs::remove_dir_all(&device).unwrap();
    let refused = lab.run(&["--rm", "-v", "lost:/d", "base:1", "true"]);
    assert!(refused.code == 125 && refused.err.contains("failed to mount local volume"), "{refused:?}");
    let refused =
        lab.0.knarr(&["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "memory"]).failed();
    assert!(refused.contains("only o=bind of a directory is supported"), "{refused}");
    let relative = lab.0.path("relative");
    assert_eq!(lab.run(&["--rm", "-v", "./relative:/r", "base:1", "touch", "/r/x"]).code, 0);
    assert!(relative.join("x").exists(), "a missing directory is made");
    symlink("/etc", lab.0.path("link")).unwrap();
    assert_eq!(lab.run(&["--rm", "-v", "./link:/r:ro", "base:1", "test", "-e", "/r/passwd"]).code, 0);
}
