//! A disk that is too small, by a little or by much: the error says so, and the space comes back.

use crate::eventually::eventually;
use crate::fake_registry::{Content, FakeRegistry};
use knarr_images::{ErrorKind, ImageStore, LayerKind, Mount, Options, Prune, Pull};
use std::path::Path;

/// A disk of this size with a store on it.
fn small_disk(size: &str, at: &Path) {
    let options = vec![size.to_owned()];
    Mount { fs_type: "tmpfs".to_owned(), source: "tmpfs".to_owned(), options }.mount_at(at).unwrap();
}

fn open(root: &Path, layers: LayerKind) -> Result<ImageStore, knarr_images::Error> {
    ImageStore::open_with(root, Options { layers, ..Options::default() })
}

/// True where the pull succeeded. In any case nothing is listed that is not whole, and everything is given back.
pub(crate) async fn pull_on(size: &str, layers: LayerKind, registry: &FakeRegistry) -> bool {
    let dir = tempfile::tempdir().unwrap();
    small_disk(size, dir.path());
    let root = dir.path().join("images");
    let pulled = match open(&root, layers) {
        Ok(store) => store.pull(Pull { reference: registry.name(), ..Pull::default() }).await,
        Err(error) => Err(error),
    };
    if let Err(error) = &pulled {
        assert_eq!(error.kind(), ErrorKind::Io, "{size}: {error}");
        assert!(error.to_string().to_lowercase().contains("no space left on device"), "{size}: {error}");
    }
    // On a disk that is full to the last byte not even the next start may find room.
    if let Ok(store) = open(&root, layers) {
        assert_eq!(store.list().unwrap().len(), usize::from(pulled.is_ok()), "{size}");
        if let Ok(image) = &pulled {
            store.remove(image).unwrap();
        }
        let names = |part: &str| std::fs::read_dir(root.join(part)).unwrap().count();
        eventually("nothing is left", || {
            ["layers", "blobs/sha256", "staging", "trash"].iter().all(|part| names(part) == 0)
        });
        store.prune(&Prune::default()).unwrap();
        assert_eq!(names("ingest"), 0, "{size}: prune gives up partial blobs too");
    }
    Mount::unmount(dir.path()).unwrap();
    pulled.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_space_ends() {
    let registry = FakeRegistry::start(Content::of(300_000), |_, answer| answer);
    for layers in [LayerKind::Directory, LayerKind::Erofs] {
        let mut fitted = false;
        for pages in (8..=240).step_by(8) {
            fitted = pull_on(&format!("size={}k", pages * 4), layers, &registry).await;
            if fitted {
                break;
            }
        }
        assert!(fitted, "{layers:?}: with enough space it works");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_inodes_end() {
    let registry = FakeRegistry::start(Content::of(1000), |_, answer| answer);
    for layers in [LayerKind::Directory, LayerKind::Erofs] {
        let mut fitted = false;
        for inodes in (4..60).step_by(1) {
            fitted = pull_on(&format!("nr_inodes={inodes}"), layers, &registry).await;
            if fitted {
                break;
            }
        }
        assert!(fitted, "{layers:?}: with enough inodes it works");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_is_far_too_large() {
    let registry = FakeRegistry::start(Content::of(6 << 20), |_, answer| answer);
    for layers in [LayerKind::Directory, LayerKind::Erofs] {
        assert!(!pull_on("size=4m", layers, &registry).await);
    }
}
