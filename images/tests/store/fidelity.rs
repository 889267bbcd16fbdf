//! File by file the same tree as the peers make of an image: type, mode, owner, size, time, links, attributes.

use crate::lab::{Registry, Store, run};
use knarr_images::{ImageStore, ImportConfig, LayerKind, Options, Pull};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// One line per file.
fn listing(root: &Path) -> String {
    let format = "%P %y %#m %U %G %s %T@ %l %n\\n";
    let script = format!(
        "cd {root} && find . -mindepth 1 ! -type d -printf '{format}' | sort; \
         find . -mindepth 1 -type d -printf '%P %y %#m %U %G\\n' | sort",
        root = root.display(),
    );
    let mut attributes = Vec::new();
    note_attributes(root, root, &mut attributes);
    attributes.sort();
    run("bash", &["-c", &script]) + &attributes.join("")
}

/// Every extended attribute of every file, but for the label of this machine's own security module.
fn note_attributes(root: &Path, path: &Path, found: &mut Vec<String>) {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap_or(0);
    for name in names[..length].split(|byte| *byte == 0) {
        if name.is_empty() || name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        let shown = path.strip_prefix(root).unwrap().display();
        found.push(format!("{shown}: {} = {:?}\n", String::from_utf8_lossy(name), &value[..length]));
    }
    if std::fs::symlink_metadata(path).unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            note_attributes(root, &entry.unwrap().path(), found);
        }
    }
}

fn odd_tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let set_mode = |name: &str, mode: u32| {
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap()
    };
    std::fs::create_dir_all(path("a/very/deep")).unwrap();
    std::fs::write(path("a/setuid"), "x").unwrap();
    set_mode("a/setuid", 0o4755);
    std::fs::write(path("a/secret"), "x").unwrap();
    set_mode("a/secret", 0);
    std::os::unix::fs::chown(path("a/secret"), Some(1000), Some(70_000)).unwrap();
    set_mode("a/very", 0o3711);
    std::fs::hard_link(path("a/setuid"), path("a/very/twin")).unwrap();
    std::os::unix::fs::symlink("../nowhere/at all", path("a/link")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", path("absolute")).unwrap();
    std::fs::write(path("a/ünïcode and space"), "x").unwrap();
    std::fs::write(path(&format!("a/{}", "l".repeat(200))), "long").unwrap();
    let sparse = std::fs::File::create(path("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    std::fs::write(path("large"), vec![42; 3 << 20]).unwrap();
    rustix::fs::setxattr(path("large"), "user.note", b"kept", rustix::fs::XattrFlags::empty()).unwrap();
    // cap_net_raw, permitted and effective.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(
        path("a/setuid"),
        "security.capability",
        &capability,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    let times = std::fs::FileTimes::new()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_007));
    std::fs::File::options().write(true).open(path("large")).unwrap().set_times(times).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), rustix::fs::Mode::from_raw_mode(0o640)).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_tree_as_umoci_in_every_kind_of_layer() {
    let registry = Registry::start();
    let (tree, here) = (odd_tree(), Store::new());
    let name = registry.name("odd:1");
    let image = here.store.import(tree.path(), &name, ImportConfig::default()).unwrap();
    here.store.push(&image, &name, None, None).await.unwrap();

    let dir = tempfile::tempdir().unwrap();
    let layout = format!("{}/oci:1", dir.path().display());
    run("skopeo", &["copy", "--src-tls-verify=false", &format!("docker://{name}"), &format!("oci:{layout}")]);
    let bundle = dir.path().join("bundle");
    run("umoci", &["unpack", "--image", &layout, bundle.to_str().unwrap()]);
    let umoci = listing(&bundle.join("rootfs"));
    assert!(umoci.contains("sparse") && umoci.contains("a/very/twin"), "{umoci}");

    pulled_is(&name, &umoci).await;
}

/// What Debian has everywhere: hard links, setuid programs, links to links, thousands of small files.
const REAL: [&str; 12] = [
    "etc/alternatives",
    "etc/pam.d",
    "etc/skel",
    "lib/terminfo",
    "usr/bin/chsh",
    "usr/bin/mount",
    "usr/bin/passwd",
    "usr/bin/su",
    "usr/lib/tmpfiles.d",
    "usr/share/bash-completion",
    "usr/share/perl5",
    "usr/share/terminfo",
];

/// An image of three layers by GNU tar and umoci (which knows no sparse files in GNU's own format): of this machine's own files, of odd ones over them, of deletions.
fn real_image(dir: &Path) -> String {
    let at = |name: &str| dir.join(name).display().to_string();
    let (odd, gone) = (odd_tree(), dir.join("gone"));
    let sparse = std::fs::File::options().write(true).open(odd.path().join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"in the middle", 500_000).unwrap();
    for name in ["c 1 3", "b 8 0"] {
        let device = odd.path().join(&name[..1]).display().to_string();
        let numbers: Vec<&str> = name.split(' ').collect();
        run("mknod", &[&[device.as_str()][..], &numbers].concat());
    }
    std::fs::create_dir_all(gone.join("etc/pam.d")).unwrap();
    std::fs::create_dir_all(gone.join("a")).unwrap();
    for name in ["etc/.wh.alternatives", "etc/pam.d/.wh..wh..opq", "etc/pam.d/only", "a/.wh.secret"] {
        std::fs::write(gone.join(name), "").unwrap();
    }
    let real: Vec<&str> = REAL.into_iter().filter(|name| Path::new("/").join(name).exists()).collect();
    let options = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-S", "-cf"];
    let (one, two, three) = (at("1.tar"), at("2.tar"), at("3.tar"));
    run("tar", &[&options[..], &[&one, "--format=posix", "-C", "/"], &real[..]].concat());
    let odd = odd.path().to_str().unwrap();
    run("tar", &[&options[..], &[&two, "--format=posix", "-C", odd, "."]].concat());
    run("tar", &["-cf", &three, "-C", gone.to_str().unwrap(), "etc", "a"]);
    let layout = at("oci");
    let image = format!("{layout}:1");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &image]);
    for layer in [&one, &two, &three] {
        run("umoci", &["raw", "add-layer", "--image", &image, layer]);
    }
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn real_files_look_as_umoci_and_podman_show_them() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let (image, name) = (real_image(dir.path()), registry.name("real:1"));
    run("skopeo", &["copy", "--dest-tls-verify=false", &format!("oci:{image}"), &format!("docker://{name}")]);
    let bundle = dir.path().join("bundle");
    run("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()]);
    let umoci = listing(&bundle.join("rootfs"));
    assert!(umoci.lines().count() > 100 && umoci.contains("security.capability"), "{umoci}");

    let place = |name: &str| dir.path().join(name).display().to_string();
    let (root, run_root) = (place("podman"), place("podman-run"));
    let podman = |arguments: &[&str]| {
        let own = ["--root", &root, "--runroot", &run_root, "--storage-driver", "overlay"];
        run("podman", &[&own[..], arguments].concat())
    };
    podman(&["pull", "-q", "--tls-verify=false", &name]);
    let mounted = podman(&["image", "mount", &name]);
    let theirs = listing(Path::new(mounted.trim()));
    podman(&["image", "umount", &name]);
    podman(&["rmi", &name]);
    same(&theirs, &umoci, "podman and umoci");

    pulled_is(&name, &umoci).await;
}

/// Pulls an image into a fresh store of each kind, and compares what is mounted.
async fn pulled_is(name: &str, umoci: &str) {
    for layers in [LayerKind::Directory, LayerKind::Erofs, LayerKind::Copy] {
        let there = Store::new();
        let root = there.dir.path().join(format!("{layers:?}"));
        let store = ImageStore::open_with(&root, Options { layers, ..Options::default() }).unwrap();
        let pulled = store.pull(Pull { reference: name.to_owned(), ..Pull::default() }).await.unwrap();
        let mounts = store.prepare("c", &pulled).unwrap();
        same(&there.with_mount(&mounts, listing), umoci, &format!("{layers:?}"));
        store.unmount_layers().unwrap();
    }
}

/// Shows only what differs: the whole is thousands of lines.
fn same(ours: &str, theirs: &str, what: &str) {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (mine, others) = (lines(ours), lines(theirs));
    let differences: Vec<_> = mine.symmetric_difference(&others).take(40).collect();
    assert!(ours == theirs, "{what}: {differences:#?}");
}
