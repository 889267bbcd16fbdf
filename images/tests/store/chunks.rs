//! Registries that take no large request get a blob in parts.

use crate::fake_registry::{Answer, Content, FakeRegistry, Request};
use crate::lab::Store;
use knarr_images::{ImportConfig, Pull};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// What was uploaded, by the number of the upload.
type Uploads = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// An upload endpoint with a largest request: every part must begin where the last one ended.
fn uploader(uploads: &Uploads, largest: usize, asks: bool, request: &Request, answer: Answer) -> Answer {
    let next =
        |path: &str, parts: u32| Answer::new(202, "").header("location", &format!("{path}?part={parts}"));
    let base = request.path.split('?').next().unwrap().to_owned();
    let mut uploads = uploads.lock().unwrap();
    if request.body.len() > largest {
        return Answer::new(413, "too large");
    }
    match request.method.as_str() {
        "HEAD" => Answer::new(404, ""),
        "POST" => {
            let path = format!("/v2/repo/blobs/uploads/{}", uploads.len());
            uploads.insert(path.clone(), Vec::new());
            let opened = next(&path, 0);
            if asks { opened.header("OCI-Chunk-Min-Length", "1000") } else { opened }
        }
        "PATCH" => {
            let upload = uploads.get_mut(&base).unwrap();
            let range = format!("{}-{}", upload.len(), upload.len() + request.body.len() - 1);
            if request.headers["content-range"] != range {
                return Answer::new(416, "");
            }
            upload.extend(&request.body);
            next(&base, 1)
        }
        "PUT" if request.path.contains("/manifests/") => Answer::new(201, ""),
        "PUT" => {
            uploads.get_mut(&base).unwrap().extend(&request.body);
            let digest = crate::fake_registry::sha256(&uploads[&base]).replace(':', "%3A");
            if request.path.ends_with(&digest) { Answer::new(201, "") } else { Answer::new(400, "digest") }
        }
        _ => answer,
    }
}

/// A layer of this size that does not compress.
fn noise(bytes: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut state = 7u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    });
    std::fs::write(dir.path().join("noise"), noise.take(bytes).collect::<Vec<_>>()).unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_sent_where_a_whole_blob_is_too_large() {
    for asks in [true, false] {
        let uploads = Uploads::default();
        let taken = uploads.clone();
        let registry = FakeRegistry::start(Content::of(1), move |request, answer| {
            uploader(&taken, 9 << 20, asks, request, answer)
        });
        let (tree, store) = (noise(20 << 20), Store::new());
        let image = store.store.import(tree.path(), "local:1", ImportConfig::default()).unwrap();
        store.store.push(&image, &registry.name(), None, None).await.unwrap();
        let sent = registry.requests("/blobs/uploads/");
        let parts = sent.iter().filter(|request| request.method == "PATCH").count();
        assert!((3..=4).contains(&parts), "{parts} parts, the config at most one");
        let refused = sent.iter().filter(|request| request.body.len() > 9 << 20).count();
        assert_eq!(refused, usize::from(!asks), "a registry that says it first is not tried with more");
    }
}

/// From registry to registry the parts are fetched as they are sent.
#[tokio::test(flavor = "multi_thread")]
async fn copies_are_sent_in_parts_too() {
    let source = FakeRegistry::start(Content::of(20 << 20), |_, answer| answer);
    let uploads = Uploads::default();
    let taken = uploads.clone();
    let target = FakeRegistry::start(Content::of(1), move |request, answer| {
        uploader(&taken, 9 << 20, true, request, answer)
    });
    let store = Store::new();
    let digest = store.store.copy((&source.name(), None), (&target.name(), None)).await.unwrap();
    assert_eq!(digest, source.manifest);
    let pull = Pull { reference: source.name(), ..Pull::default() };
    store.store.pull(pull).await.unwrap();
    let largest = uploads.lock().unwrap().values().map(Vec::len).max().unwrap();
    assert!(largest > 20 << 20, "{largest}");
}
