//! Three members, any one of which may go; and members that speak TLS with those they know only.

use super::*;
use crate::pki::{Pki, Subject};
use std::path::Path;

struct Member {
    child: Child,
    url: String,
}

impl Drop for Member {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Members that take connections; they are at peace with each other later.
fn members(count: usize, directory: &Path, scheme: &str, extra: &[String]) -> Option<Vec<Member>> {
    for attempt in 0..ATTEMPTS {
        let directory = directory.join(format!("attempt-{attempt}"));
        std::fs::create_dir(&directory).unwrap();
        let mut members = begin(count, &directory, scheme, extra)?;
        if members.iter_mut().all(|member| listens(&mut member.child, &member.url)) {
            return Some(members);
        }
    }
    panic!("etcd does not start");
}

fn begin(count: usize, directory: &Path, scheme: &str, extra: &[String]) -> Option<Vec<Member>> {
    let ports: Vec<u16> = (0..2 * count).map(|_| port()).collect();
    let (clients, peers) = ports.split_at(count);
    let name = |number: usize| format!("m{number}");
    let peer = |number: usize| format!("http://127.0.0.1:{}", peers[number]);
    let all: Vec<String> = (0..count).map(|number| format!("{}={}", name(number), peer(number))).collect();
    let member = |number: usize| {
        let url = format!("{scheme}://127.0.0.1:{}", clients[number]);
        let child = Command::new("etcd")
            .args(["--name", &name(number), "--initial-cluster", &all.join(",")])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer(number), "--initial-advertise-peer-urls", &peer(number)])
            .args(extra)
            .arg("--data-dir")
            .arg(directory.join(name(number)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        child.ok().map(|child| Member { child, url })
    };
    let started: Option<Vec<Member>> = (0..count).map(member).collect();
    if started.is_none() {
        skip("etcd is not installed");
    }
    started
}

async fn connected(urls: &[String], tls: &EtcdTls) -> Arc<dyn Store> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    loop {
        match connect(urls, tls).await {
            Ok(store) => return store,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// Writes until it succeeds: while a leader is chosen, etcd takes nothing.
async fn create(store: &dyn Store, key: &str) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    loop {
        match store.create(key, draft(1)).await {
            Ok(_) => return,
            // An attempt that was reported as failed may have been taken.
            Err(StoreError::Exists) => return,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn one_member_of_three_may_go() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut members) = members(3, directory.path(), "http", &[]) else { return };
    let urls: Vec<String> = members.iter().map(|member| member.url.clone()).collect();
    runtime().block_on(async {
        let store = connected(&urls, &EtcdTls::default()).await;
        create(&*store, "suite/cluster/before").await;
        let mut watch = store.watch("suite/cluster/", store.revision()).unwrap();
        drop(members.remove(0));
        for number in 0..5 {
            create(&*store, &format!("suite/cluster/after-{number}")).await;
        }
        let mut seen = Vec::new();
        while seen.len() < 5 {
            let events = tokio::time::timeout(Duration::from_secs(90), watch.next()).await.unwrap().unwrap();
            seen.extend(events.iter().map(|event| event.entry.name().to_owned()));
        }
        assert_eq!(seen, ["after-0", "after-1", "after-2", "after-3", "after-4"]);
    });
}

#[test]
fn tls_is_mutual() {
    let directory = tempfile::tempdir().unwrap();
    let pki = Pki::open(&directory.path().join("pki")).unwrap();
    let names = ["127.0.0.1".to_owned()];
    let path = |name: &str| directory.path().join(name);
    for common_name in ["server", "client"] {
        let identity = pki.sign(&Subject { common_name, organization: None, names: &names }).unwrap();
        std::fs::write(path(&format!("{common_name}.crt")), &identity.certificate).unwrap();
        std::fs::write(path(&format!("{common_name}.key")), &identity.key).unwrap();
    }
    std::fs::write(path("ca.crt"), pki.ca_pem()).unwrap();
    let file = |name: &str| path(name).display().to_string();
    let extra = [
        "--client-cert-auth".to_owned(),
        format!("--trusted-ca-file={}", file("ca.crt")),
        format!("--cert-file={}", file("server.crt")),
        format!("--key-file={}", file("server.key")),
    ];
    let Some(members) = members(1, directory.path(), "https", &extra) else { return };
    let urls = [members[0].url.clone()];
    let known =
        EtcdTls { ca: Some(path("ca.crt")), identity: Some((path("client.crt"), path("client.key"))) };
    runtime().block_on(async {
        let store = connected(&urls, &known).await;
        create(&*store, "suite/tls/a").await;
        let nobody = EtcdTls { identity: None, ..known.clone() };
        assert!(connect(&urls, &nobody).await.is_err(), "without a certificate");
        assert!(connect(&urls, &EtcdTls::default()).await.is_err(), "a CA that nobody knows");
        let missing = EtcdTls { ca: Some(path("none.crt")), identity: None };
        let error = connect(&urls, &missing).await.err().unwrap().to_string();
        assert!(error.contains("none.crt"), "{error}");
    });
}
