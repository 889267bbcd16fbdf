//! Images of other tools run here, and ours run there.

use crate::eventually::eventually;
use crate::lab::{Registry, Store, busybox_tree, run};
use knarr_images::{Format, ImportConfig, Pull};

/// skopeo, umoci and podman read what we push and save.
#[tokio::test(flavor = "multi_thread")]
async fn ours_there() {
    let registry = Registry::start();
    let (tree, store) = (busybox_tree(), Store::new());
    let name = registry.name("ours:1");
    let config = ImportConfig { cmd: vec!["/bin/sh".into()], ..ImportConfig::default() };
    let image = store.store.import(tree.path(), &name, config).unwrap();
    let digest = store.store.push(&image, &name, None, None).await.unwrap();
    let docker = format!("docker://{name}");
    let inspected = run("skopeo", &["inspect", "--tls-verify=false", &docker]);
    assert!(inspected.contains(&digest), "{inspected}");

    let dir = tempfile::tempdir().unwrap();
    let layout = format!("{}/oci:1", dir.path().display());
    run("skopeo", &["copy", "--src-tls-verify=false", &docker, &format!("oci:{layout}")]);
    let bundle = dir.path().join("bundle");
    run("umoci", &["unpack", "--image", &layout, bundle.to_str().unwrap()]);
    let rootfs = bundle.join("rootfs");
    assert_eq!(
        run("diff", &["-r", "--no-dereference", tree.path().to_str().unwrap(), rootfs.to_str().unwrap()]),
        ""
    );

    for (format, transport) in [(Format::Oci, "oci-archive"), (Format::Docker, "docker-archive")] {
        let path = dir.path().join(transport);
        let mut file = std::fs::File::create(&path).unwrap();
        store.store.save(std::slice::from_ref(&name), format, &mut file).unwrap();
        let inspected = run("skopeo", &["inspect", "--config", &format!("{transport}:{}", path.display())]);
        assert!(inspected.contains("/bin/sh"), "{inspected}");
    }
}

/// Images made by umoci and re-compressed by skopeo, in every format that skopeo writes.
#[tokio::test(flavor = "multi_thread")]
async fn theirs_here() {
    let registry = Registry::start();
    let dir = tempfile::tempdir().unwrap();
    let layout = format!("{}/oci", dir.path().display());
    let image = format!("{layout}:1");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &image]);
    let bundle = dir.path().join("bundle");
    let rootfs = bundle.join("rootfs");
    for change in 0..2 {
        run("umoci", &["unpack", "--image", &image, bundle.to_str().unwrap()]);
        if change == 0 {
            std::fs::create_dir_all(rootfs.join("d/deep")).unwrap();
            std::fs::write(rootfs.join("d/old"), "old").unwrap();
            std::fs::write(rootfs.join("keep"), "kept").unwrap();
        } else {
            std::fs::remove_file(rootfs.join("d/old")).unwrap();
            std::fs::write(rootfs.join("d/deep/new"), "new").unwrap();
        }
        run("umoci", &["repack", "--image", &image, bundle.to_str().unwrap()]);
        std::fs::remove_dir_all(&bundle).unwrap();
    }
    for (tag, options) in [
        ("oci", vec!["--format", "oci"]),
        ("v2s2", vec!["--format", "v2s2"]),
        ("zstd", vec!["--dest-compress-format", "zstd"]),
    ] {
        let name = registry.name(&format!("theirs:{tag}"));
        let mut arguments = vec!["copy", "--dest-tls-verify=false"];
        arguments.extend(options);
        let (from, to) = (format!("oci:{image}"), format!("docker://{name}"));
        arguments.extend([from.as_str(), to.as_str()]);
        run("skopeo", &arguments);
        let store = Store::new();
        let pulled = store.pull(&name).await;
        let mounts = store.store.prepare("c", &pulled).unwrap();
        store.with_mount(&mounts, |root| {
            assert!(!root.join("d/old").exists(), "{tag}: a whiteout hides it");
            assert_eq!(std::fs::read_to_string(root.join("d/deep/new")).unwrap(), "new");
            assert_eq!(std::fs::read_to_string(root.join("keep")).unwrap(), "kept");
        });
    }
    for transport in ["oci-archive", "docker-archive"] {
        let path = dir.path().join(transport);
        let to = format!("{transport}:{}:example.com/theirs:1", path.display());
        run("skopeo", &["copy", &format!("oci:{image}"), &to]);
        let store = Store::new();
        let loaded = store.store.load(&mut std::fs::File::open(&path).unwrap(), None).unwrap();
        assert_eq!(loaded[0].tags, ["example.com/theirs:1"], "{transport}");
        let mounts = store.store.view("v", &loaded[0]).unwrap();
        store.with_mount(&mounts, |root| assert!(root.join("keep").exists() && !root.join("d/old").exists()));
    }
}

/// Only the missing layer of a second image is fetched; a copy to another repository sends no blob twice.
#[tokio::test(flavor = "multi_thread")]
async fn shared_layers_travel_once() {
    let registry = Registry::start();
    let (tree, store) = (busybox_tree(), Store::new());
    let one = registry.name("one:1");
    let image = store.store.import(tree.path(), &one, ImportConfig::default()).unwrap();
    let digest = store.store.push(&image, &one, None, None).await.unwrap();
    let puts = || registry.requests("PUT", "/blobs/uploads/");
    eventually("layer and config are in the log", || puts() >= 2);
    let uploads = puts();
    let two = registry.name("two:1");
    assert_eq!(store.store.push(&image, &two, None, None).await.unwrap(), digest);
    let three = registry.name("three:1");
    assert_eq!(store.store.copy((&one, None), (&three, None)).await.unwrap(), digest);
    assert_eq!(puts(), uploads, "mounted from the other repository");
    assert_eq!(store.store.list_tags(&three, None).await.unwrap(), ["1"]);

    let there = Store::new();
    let gets = || registry.requests("GET", "/blobs/sha256");
    let before = gets();
    there.pull(&one).await;
    eventually("layer and config are in the log", || gets() >= before + 2);
    let fetched = gets();
    let pulled = there.pull(&two).await;
    assert_eq!(gets(), fetched, "everything is already there");
    assert_eq!(pulled.tags.len(), 2, "one image, two names");
    let error =
        there.store.pull(Pull { reference: registry.name("none:1"), ..Pull::default() }).await.unwrap_err();
    assert!(error.to_string().ends_with("none:1: not found"), "{error}");
}

/// What two images share is counted for both, and given back by neither.
#[tokio::test(flavor = "multi_thread")]
async fn disk_use_of_images_that_share_a_layer() {
    let (one, two, store) = (busybox_tree(), busybox_tree(), Store::new());
    std::fs::write(two.path().join("etc/more"), vec![1; 100_000]).unwrap();
    let config = |cmd: &str| ImportConfig { cmd: vec![cmd.to_owned()], ..ImportConfig::default() };
    let first = store.store.import(one.path(), "one:1", config("a")).unwrap();
    let twin = store.store.import(one.path(), "twin:1", config("b")).unwrap();
    let other = store.store.import(two.path(), "two:1", config("a")).unwrap();
    let usage = store.store.disk_usage().unwrap();
    let of = |id: &str| usage.iter().find(|usage| usage.image.id == id).unwrap();
    assert_eq!(usage[0].image.id, other.id, "the largest first");
    assert_eq!(of(&other.id).total, of(&other.id).unique);
    for image in [&first, &twin] {
        let usage = of(&image.id);
        assert!(usage.total > 1 << 20 && usage.unique < 4096, "{usage:?}");
    }
}
