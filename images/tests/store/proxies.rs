//! Registries that are reached only through a proxy.

use crate::fake_registry::{Answer, Content, FakeRegistry};
use knarr_images::{ErrorKind, ImageStore, Options, Proxies, Pull};

fn store(proxies: Proxies) -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let plain_http = vec!["registry.invalid:5000".to_owned()];
    let options = Options { proxies, plain_http, ..Options::default() };
    let store = ImageStore::open_with(&dir.path().join("images"), options).unwrap();
    (dir, store)
}

/// The name can be resolved by nobody: only the proxy knows the way.
fn pull() -> Pull {
    Pull { reference: "registry.invalid:5000/repo:1".to_owned(), ..Pull::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_goes_to_the_proxy_with_the_whole_url() {
    let proxy = FakeRegistry::start(Content::of(100_000), |request, answer| {
        // user:secret
        match request.headers.get("proxy-authorization").map(String::as_str) {
            Some("Basic dXNlcjpzZWNyZXQ=") => answer,
            _ => Answer::new(407, "who are you?"),
        }
    });
    let http = format!("http://user:secret@{}", proxy.address);
    let (_dir, with_password) = store(Proxies { http, ..Proxies::default() });
    with_password.pull(pull()).await.unwrap();
    let hosts: Vec<String> =
        proxy.requests("/v2/").iter().map(|request| request.headers["host"].clone()).collect();
    assert!(hosts.len() >= 3 && hosts.iter().all(|host| host == "registry.invalid:5000"), "{hosts:?}");

    let http = format!("http://{}", proxy.address);
    let (_dir, without) = store(Proxies { http: http.clone(), ..Proxies::default() });
    let error = without.pull(pull()).await.unwrap_err();
    assert!(error.to_string().contains("407"), "{error}");

    let excluded = Proxies { http, none: "registry.invalid".to_owned(), ..Proxies::default() };
    let seen = proxy.requests("/v2/").len();
    let (_dir, direct) = store(excluded);
    assert_eq!(direct.pull(pull()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(proxy.requests("/v2/").len(), seen, "NO_PROXY keeps it out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_cannot_be_spoken_to_is_named() {
    let http = "socks5://127.0.0.1:1".to_owned();
    let (_dir, store) = store(Proxies { http, ..Proxies::default() });
    let error = store.pull(pull()).await.unwrap_err();
    assert!(error.to_string().contains("socks5:// is not supported"), "{error}");
}
