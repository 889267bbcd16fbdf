//! What a pull fetches, by the word of the registry: its own log is read, not our counters.

use crate::eventually::eventually;
use crate::lab::{Registry, Store, run};
use knarr_images::{ImageStore, Pull};

/// Two images on one base, pushed by skopeo: `base` (one layer), `one` and `two` (one more each).
fn family(registry: &Registry) {
    let dir = tempfile::tempdir().unwrap();
    let layout = format!("{}/oci", dir.path().display());
    let tagged = |tag: &str| format!("{layout}:{tag}");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &tagged("empty")]);
    let mut from = "empty";
    for (tag, bytes) in [("base", 3_000_000), ("one", 50_000), ("two", 60_000)] {
        let bundle = dir.path().join(tag);
        run("umoci", &["unpack", "--image", &tagged(from), bundle.to_str().unwrap()]);
        let content: Vec<u8> = (0..bytes as u32).flat_map(|n| (n ^ bytes as u32).to_le_bytes()).collect();
        std::fs::write(bundle.join("rootfs").join(tag), content).unwrap();
        run("umoci", &["repack", "--image", &tagged(tag), bundle.to_str().unwrap()]);
        let (source, target) =
            (format!("oci:{}", tagged(tag)), format!("docker://{}", registry.name(&format!("family:{tag}"))));
        run("skopeo", &["copy", "-q", "--dest-tls-verify=false", &source, &target]);
        from = "base";
    }
}

/// The digests of an image's layers, as skopeo reads them.
fn layers(registry: &Registry, tag: &str) -> Vec<String> {
    let name = format!("docker://{}", registry.name(&format!("family:{tag}")));
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &name]);
    let manifest: serde_json::Value = serde_json::from_str(&raw).unwrap();
    let layers = manifest["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
}

/// How often a blob was sent so far; a line is written after its answer.
fn sent(registry: &Registry, digest: &str) -> usize {
    registry.requests("GET", &format!("/blobs/{digest}"))
}

fn is_sent(registry: &Registry, digest: &str, times: usize) {
    eventually("the registry's log has it", || sent(registry, digest) >= times);
    assert_eq!(sent(registry, digest), times, "{digest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_image_on_the_same_base_fetches_only_what_is_new() {
    let registry = Registry::start();
    family(&registry);
    let (one, two) = (layers(&registry, "one"), layers(&registry, "two"));
    assert_eq!((one.len(), &one[0]), (2, &two[0]));
    let store = Store::new();
    store.pull(&registry.name("family:one")).await;
    one.iter().for_each(|digest| is_sent(&registry, digest, 1));
    let unpacked = store.names("layers").len();
    store.pull(&registry.name("family:two")).await;
    is_sent(&registry, &two[1], 1);
    assert_eq!(sent(&registry, &two[0]), 1, "the base was fetched again");
    assert_eq!((unpacked, store.names("layers").len()), (2, 3), "the base is unpacked once");
    // Three layers and two configurations.
    eventually("the registry's log has all", || registry.requests("GET", "/blobs/") >= 5);
    let before = registry.requests("GET", "/blobs/");
    store.pull(&registry.name("family:two")).await;
    assert_eq!(registry.requests("GET", "/blobs/"), before, "what is here is not asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_pulls_at_once_fetch_every_layer_once() {
    let registry = Registry::start();
    family(&registry);
    let layers = layers(&registry, "one");
    let store = Store::new();
    // Four handles share nothing but the directory, as four processes would.
    let pulls = (0..4).map(|_| {
        let store = ImageStore::open(&store.root()).unwrap();
        let reference = registry.name("family:one");
        tokio::spawn(async move { store.pull(Pull { reference, ..Pull::default() }).await })
    });
    let pulls: Vec<_> = pulls.collect();
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    layers.iter().for_each(|digest| is_sent(&registry, digest, 1));
    assert_eq!(store.names("layers").len(), 2);
}
