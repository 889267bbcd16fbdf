//! Registries that lie, break, stall and ask for passwords.

use crate::eventually::eventually;
use crate::fake_registry::{Answer, Content, FakeRegistry, Request, sha256};
use crate::lab::Store;
use knarr_images::{Credentials, Error, ErrorKind, Image, Pull};
use std::sync::atomic::{AtomicUsize, Ordering};

async fn pull(
    store: &Store,
    registry: &FakeRegistry,
    credentials: Option<Credentials>,
) -> Result<Image, Error> {
    store.store.pull(Pull { reference: registry.name(), credentials, ..Pull::default() }).await
}

/// The pull fails like this, and nothing stays behind.
pub(crate) async fn refused(registry: &FakeRegistry, kind: ErrorKind, words: &str) {
    let store = Store::new();
    let error = pull(&store, registry, None).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(store.store.list().unwrap(), []);
    eventually("nothing is left", || {
        ["layers", "blobs/sha256", "staging", "leases", "trash"]
            .iter()
            .all(|part| store.names(part).is_empty())
    });
}

fn is_layer(request: &Request) -> bool {
    request.path.contains("/blobs/") && request.headers.contains_key("accept-encoding")
}

/// The layer's blob is the second that is asked for: the config comes first.
fn layer_counter() -> impl Fn(&Request) -> Option<usize> {
    let count = AtomicUsize::new(0);
    move |request| {
        let number = is_layer(request).then(|| count.fetch_add(1, Ordering::SeqCst))?;
        number.checked_sub(1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_digests_that_are_wrong() {
    let honest = |_: &Request, answer: Answer| answer;
    let bigger = Content { size: Some(10 << 20), ..Content::of(100) };
    refused(&FakeRegistry::start(bigger, honest), ErrorKind::Mismatch, "bytes, expected 10485760").await;
    let smaller = Content { size: Some(10), ..Content::of(100) };
    refused(&FakeRegistry::start(smaller, honest), ErrorKind::Mismatch, "expected 10").await;
    let digest = Content { digest: Some(sha256(b"another")), ..Content::of(100_000) };
    refused(&FakeRegistry::start(digest, honest), ErrorKind::Mismatch, "digest is").await;
    let diff_id = Content { diff_id: sha256(b"another"), ..Content::of(100_000) };
    refused(&FakeRegistry::start(diff_id, honest), ErrorKind::Mismatch, "diff id").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_not_images() {
    for (body, kind, words) in [
        ("{", ErrorKind::Invalid, "manifest"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, ErrorKind::Unsupported, "schema 1"),
        (r#"{"schemaVersion":2,"layers":[],"manifests":[]}"#, ErrorKind::Invalid, "both"),
    ] {
        let script = move |request: &Request, answer: Answer| match request.path.contains("/manifests/") {
            true => Answer::new(200, body),
            false => answer,
        };
        refused(&FakeRegistry::start(Content::of(1), script), kind, words).await;
    }
    let endless = |request: &Request, answer: Answer| match request.path.contains("/manifests/") {
        true => Answer::new(200, vec![b' '; 5 << 20]),
        false => answer,
    };
    refused(&FakeRegistry::start(Content::of(1), endless), ErrorKind::Invalid, "larger than").await;
    let unknown = |request: &Request, answer: Answer| match request.path.contains("/manifests/") {
        true => Answer::new(404, "gone"),
        false => answer,
    };
    refused(&FakeRegistry::start(Content::of(1), unknown), ErrorKind::NotFound, "repo:1: not found").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_transfer_is_resumed_where_it_stopped() {
    let nth = layer_counter();
    let registry = FakeRegistry::start(Content::of(400_000), move |request, answer| match nth(request) {
        Some(0) => answer.cut(150_000),
        Some(1) => answer.cut(100_000),
        _ => answer,
    });
    let store = Store::new();
    let image = pull(&store, &registry, None).await.unwrap();
    let ranges: Vec<String> = registry
        .requests("/blobs/")
        .iter()
        .filter_map(|request| request.headers.get("range").cloned())
        .collect();
    assert_eq!(ranges, ["bytes=150000-", "bytes=250000-"]);
    let mounts = store.store.view("v", &image).unwrap();
    store.with_mount(&mounts, |root| {
        assert_eq!(std::fs::metadata(root.join("noise")).unwrap().len(), 400_000)
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_ranges_starts_again() {
    let nth = layer_counter();
    let content = Content::of(200_000);
    let whole = content.layer.clone();
    let registry = FakeRegistry::start(content, move |request, answer| match nth(request) {
        Some(0) => answer.cut(150_000),
        Some(_) => Answer::new(200, &whole[..]),
        None => answer,
    });
    let store = Store::new();
    pull(&store, &registry, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_registry_is_asked_again() {
    let count = AtomicUsize::new(0);
    let registry =
        FakeRegistry::start(Content::of(10), move |_, answer| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::new(429, "slow down").header("retry-after", "0"),
            1 => Answer::new(503, "busy"),
            _ => answer,
        });
    pull(&Store::new(), &registry, None).await.unwrap();
    assert_eq!(registry.requests("/manifests/").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_with_the_credentials_and_used() {
    let realm = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let known = realm.clone();
    let registry = FakeRegistry::start(Content::of(10), move |request, answer| {
        if request.path.starts_with("/token") {
            // user:secret
            let right =
                request.headers.get("authorization").is_some_and(|value| value == "Basic dXNlcjpzZWNyZXQ=");
            return if right { Answer::new(200, r#"{"token":"T"}"#) } else { Answer::new(401, "{}") };
        }
        match request.headers.get("authorization").map(String::as_str) {
            Some("Bearer T") => answer,
            _ => {
                let challenge = format!(
                    r#"Bearer realm="{}",service="s",scope="repository:repo:pull""#,
                    known.get().unwrap()
                );
                Answer::new(401, "{}").header("www-authenticate", &challenge)
            }
        }
    });
    realm.set(format!("http://{}/token", registry.address)).unwrap();
    let credentials = Credentials::basic("user", "secret");
    pull(&Store::new(), &registry, Some(credentials)).await.unwrap();
    assert_eq!(registry.requests("/token").len(), 1, "one token for all requests");
    let wrong = Credentials::basic("user", "wrong");
    let error = pull(&Store::new(), &registry, Some(wrong)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    let error = pull(&Store::new(), &registry, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_to_another_host_get_no_credentials() {
    let storage = FakeRegistry::start(Content::of(10), |_, answer| answer);
    let target = storage.address.clone();
    let registry = FakeRegistry::start(Content::of(10), move |request, answer| {
        match request.headers.get("authorization").map(String::as_str) {
            Some("Basic dXNlcjpzZWNyZXQ=") if request.path.contains("/blobs/") => {
                Answer::new(307, "").header("location", &format!("http://{target}{}", request.path))
            }
            Some("Basic dXNlcjpzZWNyZXQ=") => answer,
            _ => Answer::new(401, "{}").header("www-authenticate", "Basic realm=\"x\""),
        }
    });
    pull(&Store::new(), &registry, Some(Credentials::basic("user", "secret"))).await.unwrap();
    let followed = storage.requests("/blobs/");
    assert_eq!(followed.len(), 2, "config and layer");
    assert!(followed.iter().all(|request| !request.headers.contains_key("authorization")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_blob_is_continued_by_the_next_pull() {
    let refuse = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let (nth, refusing) = (layer_counter(), refuse.clone());
    let registry = FakeRegistry::start(Content::of(400_000), move |request, answer| match nth(request) {
        Some(0) => answer.cut(150_000),
        Some(_) if refusing.load(Ordering::SeqCst) => Answer::new(403, "{}"),
        _ => answer,
    });
    let store = Store::new();
    let error = pull(&store, &registry, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
    assert_eq!(store.names("ingest").len(), 1, "what arrived is kept");
    refuse.store(false, Ordering::SeqCst);
    pull(&store, &registry, None).await.unwrap();
    let last = registry.requests("/blobs/").pop().unwrap();
    assert_eq!(last.headers.get("range").map(String::as_str), Some("bytes=150000-"));
    assert_eq!(store.names("ingest"), [""; 0]);
}
