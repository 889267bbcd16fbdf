//! A registry with a certificate of its own authority that wants one from us too, reached straight and by a tunnel.

use crate::lab::{Registry, Store, busybox_tree, run};
use knarr_images::{ErrorKind, ImageStore, ImportConfig, Options, Proxies, Pull};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An authority, a server's pair and a client's pair, all as PEM files in one directory.
fn certificates(dir: &Path) {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test authority",
            "-keyout",
            &at("ca.key"),
            "-out",
            &at("ca.pem"),
        ],
    );
    for (name, extension) in [
        ("server", "subjectAltName=IP:127.0.0.1,DNS:registry.invalid"),
        ("client", "extendedKeyUsage=clientAuth"),
    ] {
        let (key, request, certificate) =
            (at(&format!("{name}.key")), at(&format!("{name}.csr")), at(&format!("{name}.pem")));
        run(
            "openssl",
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
                &key,
                "-out",
                &request,
            ],
        );
        std::fs::write(dir.join("extension"), extension).unwrap();
        run(
            "openssl",
            &[
                "x509",
                "-req",
                "-in",
                &request,
                "-CA",
                &at("ca.pem"),
                "-CAkey",
                &at("ca.key"),
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                &at("extension"),
                "-out",
                &certificate,
            ],
        );
    }
}

struct Rig {
    registry: Registry,
    hosts: tempfile::TempDir,
}

impl Rig {
    fn start() -> Self {
        let hosts = tempfile::tempdir().unwrap();
        certificates(hosts.path());
        let at = |name: &str| hosts.path().join(name).display().to_string();
        let tls = format!(
            "  tls:\n    certificate: {}\n    key: {}\n    clientcas: [{}]\n",
            at("server.pem"),
            at("server.key"),
            at("ca.pem")
        );
        Self { registry: Registry::with(tempfile::tempdir().unwrap(), &tls), hosts }
    }

    /// A store whose hosts file for one registry says this.
    fn store(&self, name: &str, settings: &str, proxies: Proxies) -> (tempfile::TempDir, ImageStore) {
        let directory = self.hosts.path().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("hosts.toml"), format!("server = \"https://{name}\"\n{settings}"))
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let hosts_dir = Some(self.hosts.path().to_owned());
        let options = Options { hosts_dir, proxies, ..Options::default() };
        let store = ImageStore::open_with(&dir.path().join("images"), options).unwrap();
        (dir, store)
    }
}

const CA: &str = "ca = \"../ca.pem\"\n";
const CLIENT: &str = "client = [[\"../client.pem\", \"../client.key\"]]\n";

#[tokio::test(flavor = "multi_thread")]
async fn own_authority_and_client_certificate() {
    let rig = Rig::start();
    let address = rig.registry.address.clone();
    let name = rig.registry.name("busybox:1");
    let both = format!("{CA}{CLIENT}");
    let (_dir, pusher) = rig.store(&address, &both, Proxies::default());
    let image = pusher.import(busybox_tree().path(), "local:1", ImportConfig::default()).unwrap();
    pusher.push(&image, &name, None, None).await.unwrap();
    let unverified = format!("skip_verify = true\n{CLIENT}");
    for (settings, expected) in [
        ("", Some("UnknownIssuer")),
        // The server hangs up at once, and may be heard doing so before it is heard saying why.
        (CA, Some("ertificate|reset|roken pipe|closed")),
        (CLIENT, Some("UnknownIssuer")),
        (&both, None),
        (&unverified, None),
    ] {
        let (_dir, store) = rig.store(&address, settings, Proxies::default());
        let pulled = store.pull(Pull { reference: name.clone(), ..Pull::default() }).await;
        match expected {
            None => assert_eq!(pulled.unwrap().id, image.id, "{settings}"),
            Some(words) => {
                let error = pulled.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{settings}: {error}");
                let said = error.to_string();
                assert!(words.split('|').any(|word| said.contains(word)), "{settings}: {said}");
            }
        }
    }
    assert_eq!(pusher.list_tags(&name, None).await.unwrap(), ["1"]);
    assert_eq!(pusher.list_repositories(&address, None).await.unwrap(), ["busybox"]);
    let missing = "ca = \"missing.pem\"";
    let (_dir, store) = rig.store(&address, missing, Proxies::default());
    let error = store.pull(Pull { reference: name, ..Pull::default() }).await.unwrap_err();
    assert!(error.to_string().contains("missing.pem"), "{error}");
}

/// A proxy that opens tunnels to one place, whatever name it is asked for, to whoever knows the password.
fn tunnels(to: String, opened: Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, to, opened) = (stream.unwrap(), to.clone(), opened.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let head: Vec<String> =
                    reader.by_ref().lines().map_while(|l| l.ok().filter(|l| !l.is_empty())).collect();
                // user:secret
                let known = head.iter().any(|line| line.ends_with("Basic dXNlcjpzZWNyZXQ="));
                if !known || !head[0].starts_with("CONNECT registry.invalid:") {
                    return stream.write_all(b"HTTP/1.1 407 no\r\ncontent-length: 0\r\n\r\n").unwrap();
                }
                opened.fetch_add(1, Ordering::SeqCst);
                stream.write_all(b"HTTP/1.1 200 ok\r\n\r\n").unwrap();
                let far = TcpStream::connect(&to).unwrap();
                let (mut out, mut back) = (far.try_clone().unwrap(), stream.try_clone().unwrap());
                std::thread::spawn(move || {
                    let mut far = far;
                    let _ = std::io::copy(&mut far, &mut back);
                    let _ = back.shutdown(std::net::Shutdown::Both);
                });
                let _ = std::io::copy(&mut reader, &mut out);
                let _ = out.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_goes_through_a_tunnel() {
    let rig = Rig::start();
    let opened = Arc::new(AtomicUsize::new(0));
    let proxy = tunnels(rig.registry.address.clone(), opened.clone());
    let name = "registry.invalid:5000";
    let https = format!("http://user:secret@{proxy}");
    let (_dir, store) = rig.store(name, &format!("{CA}{CLIENT}"), Proxies { https, ..Proxies::default() });
    let image = store.import(busybox_tree().path(), "local:1", ImportConfig::default()).unwrap();
    let reference = format!("{name}/busybox:1");
    store.push(&image, &reference, None, None).await.unwrap();
    let there = Store::new();
    assert_eq!(there.store.list().unwrap(), []);
    let pulled = store.pull(Pull { reference: reference.clone(), ..Pull::default() }).await.unwrap();
    assert_eq!(pulled.id, image.id);
    assert!(opened.load(Ordering::SeqCst) > 0);
    let https = format!("http://{proxy}");
    let (_dir, store) = rig.store(name, CA, Proxies { https, ..Proxies::default() });
    let error = store.pull(Pull { reference, ..Pull::default() }).await.unwrap_err();
    assert!(error.to_string().contains("proxy"), "{error}");
}
