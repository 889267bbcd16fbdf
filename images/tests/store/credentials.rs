//! Who we are, from every place that can say it: helpers, identity tokens, tokens that expire in the middle.

use crate::fake_registry::{Answer, Content, FakeRegistry};
use crate::lab::{Store, write_program};
use knarr_images::{Credentials, ErrorKind, ImageStore, Options, Pull};
use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// A challenge that names this registry's own token server.
fn challenge(realm: &OnceLock<String>) -> Answer {
    let challenge = format!(r#"Bearer realm="http://{}/token",service="s""#, realm.get().unwrap());
    Answer::new(401, "{}").header("www-authenticate", &challenge)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_is_exchanged() {
    let realm = Arc::new(OnceLock::new());
    let known = realm.clone();
    let registry = FakeRegistry::start(Content::of(10), move |request, answer| {
        if request.path == "/token" {
            let form = String::from_utf8(request.body.clone()).unwrap();
            let right = request.method == "POST"
                && form.contains("grant_type=refresh_token")
                && form.contains("refresh_token=secret%2Ftoken");
            return if right { Answer::new(200, r#"{"access_token":"T"}"#) } else { Answer::new(400, "{}") };
        }
        match request.headers.get("authorization").map(String::as_str) {
            Some("Bearer T") => answer,
            _ => challenge(&known),
        }
    });
    realm.set(registry.address.clone()).unwrap();
    let identity = |token: &str| Credentials { identity_token: token.to_owned(), ..Credentials::default() };
    let pull =
        |credentials| Pull { reference: registry.name(), credentials: Some(credentials), ..Pull::default() };
    Store::new().store.pull(pull(identity("secret/token"))).await.unwrap();
    let error = Store::new().store.pull(pull(identity("wrong"))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_in_the_middle_is_fetched_again() {
    let realm = Arc::new(OnceLock::new());
    let (known, tokens) = (realm.clone(), AtomicUsize::new(0));
    let spent: Mutex<HashSet<String>> = Mutex::default();
    let registry = FakeRegistry::start(Content::of(100_000), move |request, answer| {
        if request.path.starts_with("/token") {
            let number = tokens.fetch_add(1, Ordering::SeqCst) + 1;
            return Answer::new(200, format!(r#"{{"token":"T{number}","expires_in":3600}}"#));
        }
        // Each token is good for one answer, and the layer needs two.
        let current = format!("Bearer T{}", tokens.load(Ordering::SeqCst));
        let good = request.headers.get("authorization") == Some(&current);
        match good && spent.lock().unwrap().insert(current) {
            true if request.path.contains("/blobs/") && !request.headers.contains_key("range") => {
                let half = answer.body.len() / 2;
                answer.cut(half.max(1))
            }
            true => answer,
            false => challenge(&known),
        }
    });
    realm.set(registry.address.clone()).unwrap();
    Store::new().pull(&registry.name()).await;
    assert!(registry.requests("/token").len() >= 4, "{}", registry.requests("/token").len());
}

const HELPER_ROOT: &str = "KNARR_TEST_HELPER_ROOT";
const HELPER_NAME: &str = "KNARR_TEST_HELPER_NAME";

/// Helpers are found on PATH, which only a new process can have another one of.
async fn pull_with_helper(root: &str) {
    let root = std::path::Path::new(root);
    let options = Options { logins: vec![root.join("config.json")], ..Options::default() };
    let store = ImageStore::open_with(&root.join("images"), options).unwrap();
    let reference = std::env::var(HELPER_NAME).unwrap();
    store.pull(Pull { reference, ..Pull::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn helpers_are_asked() {
    if let Ok(root) = std::env::var(HELPER_ROOT) {
        return pull_with_helper(&root).await;
    }
    let registry = FakeRegistry::start(Content::of(10), |request, answer| {
        // helped:secret
        match request.headers.get("authorization").map(String::as_str) {
            Some("Basic aGVscGVkOnNlY3JldA==") => answer,
            _ => Answer::new(401, "{}").header("www-authenticate", "Basic realm=\"x\""),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let config = format!(r#"{{"credHelpers":{{"{}":"test"}}}}"#, registry.address);
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    let helper = dir.path().join("docker-credential-test");
    let right = format!(
        "#!/bin/sh\nread server\n[ \"$1 $server\" = \"get {}\" ] && echo '{{\"Username\":\"helped\",\"Secret\":\"secret\"}}'\n",
        registry.address
    );
    for (script, works) in [(right.as_str(), true), ("#!/bin/sh\necho no luck; exit 1\n", false)] {
        write_program(&helper, script);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "credentials::helpers_are_asked", "--nocapture"])
            .env(HELPER_ROOT, dir.path())
            .env(HELPER_NAME, registry.name())
            .env("PATH", format!("{}:/usr/bin:/bin", dir.path().display()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
        assert_eq!(child.status.success(), works, "{said}");
        assert!(works || said.contains("docker-credential-test: no luck"), "{said}");
        std::fs::remove_dir_all(dir.path().join("images")).unwrap();
    }
}
