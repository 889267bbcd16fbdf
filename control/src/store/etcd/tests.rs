//! The store on a real etcd: the common suite, two servers on one state, and what happens when etcd goes and comes.

use super::super::{Store, suite};
use super::*;
use serde_json::json;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

mod cluster;

/// How often an etcd that ends at once is given other ports.
const ATTEMPTS: usize = 8;

/// A port that is free, and that the kernel gives to no connection meanwhile: those are higher.
fn port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let next = std::process::id().wrapping_mul(13) + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 24_000 + u16::try_from(next % 8_000).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Waits until it takes connections; `false` where it ends before.
fn listens(child: &mut Child, url: &str) -> bool {
    let address = url.split_once("://").unwrap().1;
    loop {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if std::net::TcpStream::connect(address).is_ok() {
            // Somebody else may have answered, on whose port it cannot live.
            return child.try_wait().unwrap().is_none();
        }
        std::thread::yield_now();
    }
}

/// An etcd of its own, in a directory of its own.
struct Server {
    child: Child,
    url: String,
    directory: tempfile::TempDir,
}

impl Server {
    /// `None` where this machine has no etcd: a named skip.
    fn start() -> Option<Self> {
        for _ in 0..ATTEMPTS {
            let directory = tempfile::tempdir().unwrap();
            let url = format!("http://127.0.0.1:{}", port());
            let Some(mut child) = spawn(&url, port(), directory.path()) else {
                skip("etcd is not installed");
                return None;
            };
            if listens(&mut child, &url) {
                return Some(Self { child, url, directory });
            }
        }
        panic!("etcd does not start");
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn again(&mut self) {
        for _ in 0..ATTEMPTS {
            self.child = spawn(&self.url, port(), self.directory.path()).unwrap();
            if listens(&mut self.child, &self.url) {
                return;
            }
        }
        panic!("etcd does not start again");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(url: &str, peer: u16, directory: &std::path::Path) -> Option<Child> {
    let peer = format!("http://127.0.0.1:{peer}");
    Command::new("etcd")
        .args(["--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls", &peer])
        .args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")])
        .arg("--data-dir")
        .arg(directory.join("data"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()
}

fn skip(why: &str) {
    if let Ok(path) = std::env::var("KNARR_SKIPS") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        // In one piece: others write to the same file.
        file.write_all(format!("store_on_etcd: {why}\n").as_bytes()).unwrap();
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Connects as soon as etcd answers.
async fn store(url: &str) -> Arc<dyn Store> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        match connect(&[url.to_owned()], &EtcdTls::default()).await {
            Ok(store) => return store,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

fn draft(value: i64) -> Draft {
    Draft::of(&json!({"kind": "T", "metadata": {"name": "x"}, "value": value}))
}

#[test]
fn holds_the_common_suite() {
    let Some(server) = Server::start() else { return };
    runtime().block_on(async { suite::run(&*store(&server.url).await).await });
}

#[test]
fn two_servers_see_each_other_and_never_lose_an_update() {
    let Some(server) = Server::start() else { return };
    runtime().block_on(async {
        let (one, other) = (store(&server.url).await, store(&server.url).await);
        let mut watch = other.watch("suite/shared/", other.revision()).unwrap();
        let first = one.create("suite/shared/a", draft(0)).await.unwrap();
        assert_eq!(watch.next().await.unwrap()[0].entry.value, first.value);
        let count = |store: Arc<dyn Store>| async move {
            for _ in 0..20 {
                loop {
                    let entry = store.get("suite/shared/a").await.unwrap().unwrap();
                    let value = entry.object()["value"].as_i64().unwrap();
                    match store.update("suite/shared/a", entry.revision, draft(value + 1)).await {
                        Ok(_) => break,
                        Err(StoreError::Conflict) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        };
        tokio::join!(count(one.clone()), count(other.clone()));
        let last = one.revision().max(other.revision());
        one.wait_for(last).await;
        assert_eq!(one.get("suite/shared/a").await.unwrap().unwrap().object()["value"], 40);
        assert_eq!(one.close(), ());
        assert!(one.create("suite/shared/b", draft(1)).await.is_err());
    });
}

#[test]
fn watches_go_on_when_etcd_comes_back() {
    let Some(mut server) = Server::start() else { return };
    runtime().block_on(async {
        let store = store(&server.url).await;
        let first = store.create("suite/back/a", draft(1)).await.unwrap();
        let mut watch = store.watch("suite/back/", first.revision).unwrap();
        server.kill();
        assert!(store.update("suite/back/a", first.revision, draft(2)).await.is_err());
        assert!(store.get("suite/back/a").await.unwrap().is_some(), "reads go on");
        server.again();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        loop {
            match store.update("suite/back/a", first.revision, draft(3)).await {
                // An attempt that was reported as failed may have been taken.
                Ok(_) | Err(StoreError::Conflict) => break,
                Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
            }
        }
        let events = watch.next().await.unwrap();
        assert_eq!(events[0].entry.object()["value"], 3);
    });
}
