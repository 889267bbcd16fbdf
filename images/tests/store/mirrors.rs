//! Mirrors by a `hosts` directory as containerd reads it, and lists that come in pages.

use crate::fake_registry::{Answer, Content, FakeRegistry};
use crate::lab::Store;
use knarr_images::{Credentials, ErrorKind, ImageStore, Options, Pull};
use std::path::Path;

const NAME: &str = "registry.example/repo:1";

/// A store whose file for a registry's name says this.
fn store(dir: &Path, registry: &str, settings: &str) -> ImageStore {
    let hosts = dir.join("hosts.d");
    std::fs::create_dir_all(hosts.join(registry)).unwrap();
    std::fs::write(hosts.join(registry).join("hosts.toml"), settings).unwrap();
    let options = Options { hosts_dir: Some(hosts), ..Options::default() };
    ImageStore::open_with(&dir.join("images"), options).unwrap()
}

fn pull(credentials: Option<Credentials>) -> Pull {
    Pull { reference: NAME.to_owned(), credentials, ..Pull::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_is_asked_first_and_learns_no_password() {
    let (dir, origin) =
        (tempfile::tempdir().unwrap(), FakeRegistry::start(Content::of(10), |_, answer| answer));
    let mirror = FakeRegistry::start(Content::of(10), |request, answer| {
        // A mirror that asks who is there gets no answer, and one that does not is enough.
        match request.headers.get("x-team").map(String::as_str) {
            Some("blue") => answer,
            _ => Answer::new(401, "{}").header("www-authenticate", "Basic realm=\"x\""),
        }
    });
    let settings = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]\n[host.\"http://{1}\".header]\nx-team = \"blue\"\n",
        origin.address, mirror.address
    );
    let there = store(dir.path(), "registry.example", &settings);
    let image = there.pull(pull(Some(Credentials::basic("user", "secret")))).await.unwrap();
    assert_eq!(image.tags, [NAME], "the name says nothing of the mirror");
    let asked = mirror.requests("/v2/");
    assert_eq!(asked.len(), 3, "manifest, config and layer");
    assert!(asked.iter().all(|request| request.path.ends_with("?ns=registry.example")), "{asked:?}");
    assert!(asked.iter().all(|request| !request.headers.contains_key("authorization")), "{asked:?}");
    assert_eq!(origin.requests("/v2/").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_a_mirror_the_registry_is_asked() {
    for status in [401, 404, 500] {
        let dir = tempfile::tempdir().unwrap();
        let origin = FakeRegistry::start(Content::of(10), |request, answer| {
            match request.headers.get("authorization").map(String::as_str) {
                Some("Basic dXNlcjpzZWNyZXQ=") => answer,
                _ => Answer::new(401, "{}").header("www-authenticate", "Basic realm=\"x\""),
            }
        });
        let mirror = FakeRegistry::start(Content::of(10), move |_, _| {
            Answer::new(status, "{}").header("www-authenticate", "Basic realm=\"x\"")
        });
        let settings =
            format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.address, mirror.address);
        let there = store(dir.path(), "_default", &settings);
        there.pull(pull(Some(Credentials::basic("user", "secret")))).await.unwrap();
        let asked = mirror.requests("/v2/");
        assert!(asked.iter().all(|request| !request.headers.contains_key("authorization")), "{asked:?}");
        assert_eq!(asked.len(), if status == 500 { 1 } else { 3 }, "one that is broken is not asked again");
        assert!(origin.requests("/v2/").iter().all(|request| !request.path.contains("ns=")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_is_not_there_is_passed_over() {
    let (dir, origin) =
        (tempfile::tempdir().unwrap(), FakeRegistry::start(Content::of(10), |_, answer| answer));
    // Nobody listens at the first port, and the kernel gives it to nobody.
    let settings = format!("server = \"http://{}\"\n[host.\"http://127.0.0.1:1\"]\n", origin.address);
    let there = store(dir.path(), "registry.example", &settings);
    there.pull(pull(None)).await.unwrap();
    let image = there.find(NAME).unwrap().unwrap();
    // Pushes never go to a mirror: the registry itself is asked, which takes none here.
    let error = there.push(&image, "registry.example/other:1", None, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(!origin.requests("/v2/other/blobs/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let registry = FakeRegistry::start(Content::of(10), |request, answer| {
        let page = |from: usize, what: &str| {
            let names: Vec<String> = (from..from + 3).map(|number| format!("\"n{number}\"")).collect();
            let body = format!(r#"{{"name":"repo","{what}":[{}]}}"#, names.join(","));
            let path = request.path.split('?').next().unwrap();
            match from {
                6 => Answer::new(200, body),
                _ => Answer::new(200, body)
                    .header("link", &format!("<{path}?last=n{}&n=3>; rel=\"next\"", from + 2)),
            }
        };
        let what = match request.path.split('?').next().unwrap() {
            "/v2/repo/tags/list" => "tags",
            "/v2/_catalog" => "repositories",
            _ => return answer,
        };
        match request.path.split("last=n").nth(1).and_then(|rest| rest.split('&').next()) {
            None => page(0, what),
            Some(last) => page(last.parse::<usize>().unwrap() + 1, what),
        }
    });
    let (store, all) = (Store::new(), (0..9).map(|number| format!("n{number}")).collect::<Vec<_>>());
    assert_eq!(store.store.list_tags(&registry.name(), None).await.unwrap(), all);
    assert_eq!(store.store.list_repositories(&registry.address, None).await.unwrap(), all);
}
