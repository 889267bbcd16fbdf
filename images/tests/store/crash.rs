//! Killed at any moment: afterwards the store opens, lists only what is whole, and gives back the rest.

use crate::eventually::eventually;
use crate::fake_registry::{Content, FakeRegistry};
use crate::lab::Store;
use knarr_images::{ImageStore, Pull};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROOT: &str = "KNARR_TEST_CRASH_ROOT";
const NAME: &str = "KNARR_TEST_CRASH_NAME";

/// Pulls and removes until it is killed.
async fn be_the_victim(root: &str) {
    let reference = std::env::var(NAME).unwrap();
    let store = ImageStore::open(root.as_ref()).unwrap();
    loop {
        let image = store.pull(Pull { reference: reference.clone(), ..Pull::default() }).await.unwrap();
        store.prepare("c", &image).unwrap();
        store.remove_snapshot("c").unwrap();
        store.remove(&image).unwrap();
    }
}

/// Runs itself as its own victim.
#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment() {
    if let Ok(root) = std::env::var(ROOT) {
        return be_the_victim(&root).await;
    }
    let registry = FakeRegistry::start(Content::of(3_000_000), |_, answer| answer);
    let dir = Store::new();
    for round in 0..25u64 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::killed_at_any_moment"])
            .env(ROOT, dir.root())
            .env(NAME, registry.name())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Let it come to life, then a little further each time.
        let before = registry.requests("/manifests/").len();
        eventually("the victim works", || registry.requests("/manifests/").len() > before);
        let until = Instant::now() + Duration::from_millis(round * 7);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        whole_and_clean(&dir, &registry).await;
    }
}

async fn whole_and_clean(dir: &Store, registry: &FakeRegistry) {
    let store = ImageStore::open(&dir.root()).unwrap();
    eventually("what was half made is gone", || {
        dir.names("staging").is_empty() && dir.names("trash").is_empty()
    });
    for image in store.list().unwrap() {
        let mounts = store.view("look", &image).unwrap();
        dir.with_mount(&mounts, |root| {
            assert_eq!(std::fs::metadata(root.join("noise")).unwrap().len(), 3_000_000)
        });
        store.remove_snapshot("look").unwrap();
        store.remove(&image).unwrap();
    }
    store.remove_snapshot("c").unwrap();
    let image = store.pull(Pull { reference: registry.name(), ..Pull::default() }).await.unwrap();
    store.remove(&image).unwrap();
    eventually("all space is given back", || {
        ["layers", "blobs/sha256", "staging", "ingest", "trash"].iter().all(|part| dir.names(part).is_empty())
    });
}
