//! A disk that is too small: the error says so, and the space comes back.

use crate::fake_registry::{Content, FakeRegistry};
use crate::lab::eventually;
use knarr_images::{ErrorKind, ImageStore, LayerKind, Mount, Options, Pull};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_left_empty() {
    let registry = FakeRegistry::start(Content::of(6 << 20), |_, answer| answer);
    for layers in [LayerKind::Directory, LayerKind::Erofs] {
        let dir = tempfile::tempdir().unwrap();
        let options = vec!["size=4m".to_owned()];
        let disk = Mount { fs_type: "tmpfs".to_owned(), source: "tmpfs".to_owned(), options };
        disk.mount_at(dir.path()).unwrap();
        let root = dir.path().join("images");
        let store = ImageStore::open_with(&root, Options { layers, ..Options::default() }).unwrap();
        let pull = Pull { reference: registry.name(), ..Pull::default() };
        let error = store.pull(pull).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().to_lowercase().contains("no space left on device"), "{error}");
        drop(store);
        // The next start finds a partial blob, which may be continued, and nothing else.
        let store = ImageStore::open(&root).unwrap();
        assert_eq!(store.list().unwrap(), []);
        let names = |part: &str| std::fs::read_dir(root.join(part)).unwrap().count();
        eventually("nothing is left", || {
            ["layers", "blobs/sha256", "staging", "trash"].iter().all(|part| names(part) == 0)
        });
        store.prune(&knarr_images::Prune::default()).unwrap();
        assert_eq!(names("ingest"), 0, "prune gives up partial blobs too");
        Mount::unmount(dir.path()).unwrap();
    }
}
