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
    let mut note = [0; 8];
    let noted = rustix::fs::getxattr(root.join("large"), "user.note", &mut note);
    run("bash", &["-c", &script]) + &format!("user.note: {noted:?} {note:?}\n")
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

    for layers in [LayerKind::Directory, LayerKind::Erofs, LayerKind::Copy] {
        let there = Store::new();
        let root = there.dir.path().join(format!("{layers:?}"));
        let store = ImageStore::open_with(&root, Options { layers, ..Options::default() }).unwrap();
        let pulled = store.pull(Pull { reference: name.clone(), ..Pull::default() }).await.unwrap();
        let mounts = store.prepare("c", &pulled).unwrap();
        let ours = there.with_mount(&mounts, listing);
        assert_eq!(ours, umoci, "{layers:?}");
        store.unmount_layers().unwrap();
    }
}
