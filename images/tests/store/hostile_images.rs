//! Images that are attacks, served by a registry that keeps to the protocol: rows of the attack matrix that take more
//! than one layer's archive.

use crate::fake_registry::{Answer, Content, FakeRegistry, Request, archive, gzip, sha256};
use crate::hostile_registry::refused;
use crate::lab::Store;
use flate2::Compression;
use flate2::write::GzEncoder;
use knarr_images::{ErrorKind, ImageStore, LayerKind, Options, Pull};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const KINDS: [LayerKind; 2] = [LayerKind::Directory, LayerKind::Erofs];

fn honest(_: &Request, answer: Answer) -> Answer {
    answer
}

fn files(names: &[&str]) -> Content {
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (*name, name.as_bytes())).collect();
    Content::files(&files)
}

/// Pulls into a store that holds layers in this way and looks at the image as a container would.
async fn pulled(registry: &FakeRegistry, layers: LayerKind, look: impl FnOnce(&std::path::Path)) {
    let there = Store::new();
    let root = there.dir.path().join(format!("{layers:?}"));
    let store = ImageStore::open_with(&root, Options { layers, ..Options::default() }).unwrap();
    let image = store.pull(Pull { reference: registry.name(), ..Pull::default() }).await.unwrap();
    let mounts = store.prepare("c", &image).unwrap();
    there.with_mount(&mounts, look);
    store.unmount_layers().unwrap();
}

/// So many times 64 MB of zeros, in members of 64 kB.
fn zeros(times: usize) -> Vec<u8> {
    let mut member = GzEncoder::new(Vec::new(), Compression::best());
    (0..64).for_each(|_| member.write_all(&[0; 1 << 20]).unwrap());
    member.finish().unwrap().repeat(times)
}

/// Nobody would see these zeros, which follow the end of the archive; they cost time all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_behind_the_archive_is_cut_off() {
    let layer = [gzip(&archive(&[("f", b"x")])), zeros(40)].concat();
    let registry = FakeRegistry::start(Content::packed(b"", layer), honest);
    refused(&registry, ErrorKind::Invalid, "bytes expand to more than").await;
}

/// Three gigabytes on a disk of sixty-four megabytes.
#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_that_fills_the_disk_gives_everything_back() {
    let mut header = tar::Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(48 * (64 << 20));
    header.set_mode(0o644);
    header.set_cksum();
    let layer = [gzip(header.as_bytes()), zeros(48)].concat();
    let registry = FakeRegistry::start(Content::packed(b"", layer), honest);
    for kind in KINDS {
        assert!(!crate::disk_full::pull_on("size=64m", kind, &registry).await, "{kind:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_layers_are_refused_before_any_is_fetched() {
    for count in [501, 4000] {
        let registry = FakeRegistry::start_all(&vec![files(&["f"]); count], honest);
        refused(&registry, ErrorKind::Invalid, "at most 500 can be stacked").await;
        assert_eq!(registry.requests("/blobs/").len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_layers_are_pulled_and_stacked() {
    let layers: Vec<Content> = (0..300).map(|n| files(&[&format!("d/f{n}"), "last"])).collect();
    let registry = FakeRegistry::start_all(&layers, honest);
    for kind in KINDS {
        pulled(&registry, kind, |root| {
            assert_eq!(std::fs::read_dir(root.join("d")).unwrap().count(), 300);
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_diff_ids_than_layers_are_refused_before_any_is_fetched() {
    let without = Content { diff_id: String::new(), ..files(&["b"]) };
    let registry = FakeRegistry::start_all(&[files(&["a"]), without], honest);
    refused(&registry, ErrorKind::Invalid, "1 diff_ids for 2 layers").await;
    assert_eq!(registry.requests("/blobs/").len(), 1, "the config");
}

/// The digest is right, so nothing but unpacking can notice.
#[tokio::test(flavor = "multi_thread")]
async fn corrupt_compression_with_the_right_digest_is_refused() {
    let tar = archive(&[("f", &[7; 100_000])]);
    let whole = gzip(&tar);
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0xff;
    let frame = zstd::encode_all(&tar[..], 1).unwrap();
    for layer in
        [whole[..whole.len() - 9].to_vec(), whole[..40].to_vec(), flipped, frame[..frame.len() - 3].to_vec()]
    {
        let registry = FakeRegistry::start(Content::packed(&tar, layer), honest);
        refused(&registry, ErrorKind::Invalid, "layer").await;
    }
}

/// gzip in many members (also empty ones, as estargz ends), zstd in many frames with skippable ones between them
/// (zstd:chunked), and no compression at all, whatever the media type says.
#[tokio::test(flavor = "multi_thread")]
async fn every_packing_is_read_to_its_end() {
    let tar = archive(&[("one", &[1; 10_000]), ("two", b"2"), ("three", &[3; 3000])]);
    let (front, back) = tar.split_at(6000);
    let frame = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let skipped = [&[0x51, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"table"].concat();
    let packings = [
        [gzip(front), gzip(b""), gzip(back), gzip(b"")].concat(),
        [skipped.clone(), frame(front), skipped.clone(), frame(back), skipped].concat(),
        tar.clone(),
    ];
    for layer in packings {
        let registry = FakeRegistry::start(Content::packed(&tar, layer), honest);
        for kind in KINDS {
            pulled(&registry, kind, |root| {
                assert_eq!(std::fs::read(root.join("one")).unwrap(), [1; 10_000]);
                assert_eq!(std::fs::read(root.join("two")).unwrap(), b"2");
                assert_eq!(std::fs::read(root.join("three")).unwrap(), [3; 3000]);
            })
            .await;
        }
    }
}

/// A tag that is moved while it is pulled, and documents that are not what their digest promises.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_changes_between_requests() {
    let (one, two) = (files(&["one"]), files(&["two"]));
    let other = FakeRegistry::start(two, honest);
    let moved = fetched(&other, "/v2/repo/manifests/1");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let changed = moved.clone();
    let registry = FakeRegistry::start(one, move |request, answer| {
        match request.path.ends_with("/manifests/1") && count.fetch_add(1, Ordering::SeqCst) > 0 {
            true => Answer::new(200, changed.clone()),
            false => answer,
        }
    });
    // One request decides: everything else is asked for by digest.
    let store = Store::new();
    let image = store.pull(&registry.name()).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let mounts = store.store.view("v", &image).unwrap();
    store.with_mount(&mounts, |root| assert!(root.join("one").exists()));
    store.store.remove_snapshot("v").unwrap();

    // An index promises one manifest and the registry sends another.
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}}}]}}"#,
        registry.manifest,
        moved.len()
    );
    let swapping = FakeRegistry::start(files(&["one"]), move |request, answer| match &request.path[..] {
        "/v2/repo/manifests/1" => Answer::new(200, index.clone()),
        path if path.contains("/manifests/") => Answer::new(200, moved.clone()),
        _ => answer,
    });
    refused(&swapping, ErrorKind::Mismatch, "digest is").await;

    let lying =
        FakeRegistry::start(files(&["one"]), |request, answer| match request.path.contains("/manifests/") {
            true => answer.header("docker-content-digest", &sha256(b"another")),
            false => answer,
        });
    refused(&lying, ErrorKind::Mismatch, "digest is").await;
}

/// What the honest registry has at a path.
fn fetched(registry: &FakeRegistry, path: &str) -> Vec<u8> {
    let out = crate::lab::run("curl", &["-sf", &format!("http://{}{path}", registry.address)]);
    out.into_bytes()
}

/// The second half of a resumed download is another blob's: the whole is not kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_changes_while_it_is_resumed() {
    let other = Content::of(300_001).layer;
    let layers = AtomicUsize::new(0);
    let registry = FakeRegistry::start(Content::of(300_000), move |request, answer| {
        if !request.path.contains("/blobs/")
            || answer.body.len() < 1000 && !request.headers.contains_key("range")
        {
            return answer;
        }
        match layers.fetch_add(1, Ordering::SeqCst) {
            0 => answer.cut(100_000),
            _ => {
                let length = answer.body.len();
                Answer::new(206, other[other.len() - length..].to_vec())
            }
        }
    });
    refused(&registry, ErrorKind::Mismatch, "digest is").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_in_a_circle_end() {
    let registry =
        FakeRegistry::start(Content::of(10), |request, answer| match request.path.contains("/blobs/") {
            true => Answer::new(302, "").header("location", &request.path),
            false => answer,
        });
    let store = Store::new();
    let error = store.store.pull(Pull { reference: registry.name(), ..Pull::default() }).await.unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
}

/// CVE-2021-20291: after a layer that is not what it says the same store pulls the next image.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_image_blocks_no_other() {
    let store = Store::new();
    for _ in 0..3 {
        let wrong = Content { diff_id: sha256(b"another"), ..files(&["f"]) };
        let registry = FakeRegistry::start_all(&[files(&["below"]), wrong, files(&["above"])], honest);
        let pull = Pull { reference: registry.name(), ..Pull::default() };
        assert_eq!(store.store.pull(pull).await.unwrap_err().kind(), ErrorKind::Mismatch);
        let registry =
            FakeRegistry::start_all(&[files(&["below"]), files(&["f"]), files(&["above"])], honest);
        store.pull(&registry.name()).await;
    }
}
