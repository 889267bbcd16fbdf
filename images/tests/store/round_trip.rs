//! The main way of an image: made from a directory, pushed, pulled by somebody else, mounted, removed.

use crate::eventually::eventually;
use crate::lab::{Registry, Store, busybox_tree, run};
use knarr_images::{ImportConfig, Progress, Pull};

#[tokio::test(flavor = "multi_thread")]
async fn import_push_pull_mount_remove() {
    let registry = Registry::start();
    let tree = busybox_tree();
    let (here, there) = (Store::new(), Store::new());
    let name = registry.name("library/busybox:1");
    let config =
        ImportConfig { cmd: vec!["/bin/sh".into()], env: vec!["A=b".into()], ..ImportConfig::default() };
    let image = here.store.import(tree.path(), &name, config.clone()).unwrap();
    assert_eq!(
        image,
        here.store.import(tree.path(), &name, config).unwrap(),
        "the same input, the same image"
    );
    let digest = here.store.push(&image, &name, None, None).await.unwrap();

    let (progress, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let pull = Pull { reference: name.clone(), progress: Some(progress), ..Pull::default() };
    let pulled = there.store.pull(pull).await.unwrap();
    assert_eq!(pulled.id, image.id);
    assert_eq!(pulled.tags, std::slice::from_ref(&name));
    assert_eq!(pulled.digests, [format!("{}@{digest}", registry.name("library/busybox"))]);
    assert!(matches!(steps.recv().await, Some(Progress::Resolved { .. })));

    let config = there.store.config(&pulled).unwrap();
    assert_eq!(config.config().as_ref().unwrap().cmd().as_ref().unwrap(), &["/bin/sh"]);
    let mounts = there.store.prepare("c1", &pulled).unwrap();
    there.with_mount(&mounts, |root| {
        assert_eq!(std::fs::read_to_string(root.join("etc/motd")).unwrap(), "hello from knarr\n");
        assert_eq!(std::fs::read_link(root.join("bin/sh")).unwrap().to_str(), Some("busybox"));
        std::fs::write(root.join("etc/new"), "x").unwrap();
        let differences = run(
            "diff",
            &["-r", "--no-dereference", "-x", "new", tree.path().to_str().unwrap(), root.to_str().unwrap()],
        );
        assert_eq!(differences, "");
    });
    let again = there.store.prepare("c1", &pulled).unwrap();
    assert_eq!(again, mounts);
    there.with_mount(&again, |root| assert!(root.join("etc/new").exists(), "writes stay with the snapshot"));
    assert!(there.store.snapshot_usage("c1").unwrap().1 >= 2);

    there.store.remove(&pulled).unwrap();
    assert_eq!(there.names("layers").len(), 1, "a snapshot keeps its layers");
    there.with_mount(&there.store.mounts("c1").unwrap(), |root| assert!(root.join("bin/busybox").exists()));
    there.store.remove_snapshot("c1").unwrap();
    there.store.remove_snapshot("c1").unwrap();
    there.store.remove(&pulled).unwrap();
    assert_eq!(there.store.list().unwrap(), []);
    eventually("everything is given back", || {
        ["layers", "blobs/sha256", "staging", "trash", "ingest", "leases"]
            .iter()
            .all(|part| there.names(part).is_empty())
    });
}
