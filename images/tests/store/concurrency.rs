//! Many pulls at once, in one process and in several stores' view of one directory, and the collector between them.

use crate::fake_registry::{Content, FakeRegistry};
use crate::lab::Store;
use knarr_images::{ImageStore, Prune, Pull};

#[tokio::test(flavor = "multi_thread")]
async fn pulls_of_one_image_do_the_work_once() {
    let registry = FakeRegistry::start(Content::of(2_000_000), |_, answer| answer);
    let store = Store::new();
    // A second handle shares nothing with the first but the directory, as another process would.
    let other = ImageStore::open(&store.root()).unwrap();
    let pulls = (0..8).map(|number| {
        let store = if number % 2 == 0 { store.store.clone() } else { other.clone() };
        let reference = registry.name();
        tokio::spawn(async move { store.pull(Pull { reference, ..Pull::default() }).await })
    });
    let pulls: Vec<_> = pulls.collect();
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    let layers = registry.requests("/blobs/").len();
    assert!(layers <= 9, "{layers} requests: eight for the small config, one for the layer");
    assert_eq!(store.names("layers").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn collecting_never_takes_what_a_pull_needs() {
    let registry = FakeRegistry::start(Content::of(300_000), |_, answer| answer);
    let store = Store::new();
    let collector = ImageStore::open(&store.root()).unwrap();
    let (stop, stopped) =
        (std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)), std::sync::atomic::Ordering::SeqCst);
    let stopping = stop.clone();
    let collecting = tokio::task::spawn_blocking(move || {
        while !stopping.load(stopped) {
            collector.prune(&Prune::default()).unwrap();
        }
    });
    for round in 0..20 {
        let image = store.pull(&registry.name()).await;
        let mounts = store.store.prepare(&format!("c{round}"), &image).unwrap();
        store.with_mount(&mounts, |root| {
            assert_eq!(std::fs::read_to_string(root.join("etc/motd")).unwrap(), "hello\n");
        });
        store.store.remove_snapshot(&format!("c{round}")).unwrap();
        store.store.remove(&image).unwrap();
    }
    stop.store(true, stopped);
    collecting.await.unwrap();
}
