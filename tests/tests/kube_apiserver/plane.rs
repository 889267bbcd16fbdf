//! A real kube-apiserver with its own etcd and its own certificates, the node authorizer and NodeRestriction on: what
//! `knarr agent` meets as a node of somebody else's cluster.

use knarr_tests::bins::{self, Said};
use knarr_tests::cluster::kubectls;
use knarr_tests::eventually::eventually;
use serde_json::Value;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const START: Duration = Duration::from_secs(120);

/// A running control plane.
#[derive(Debug)]
pub(crate) struct Plane {
    directory: tempfile::TempDir,
    kubectl: PathBuf,
    port: u16,
    etcd: Child,
    server: Option<Child>,
}

/// A program that lies in one of the directories of PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn start(program: &Path, arguments: &[String], log: &Path) -> Child {
    let log = File::create(log).expect("a log");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
    command.spawn().expect("a program of the control plane")
}

impl Plane {
    /// `None` without the programs.
    pub(crate) fn start() -> Option<Plane> {
        let (server, etcd, kubectl) = (on_path("kube-apiserver")?, on_path("etcd")?, kubectls().pop()?);
        let directory = tempfile::Builder::new().prefix("knarr-plane-").tempdir().expect("a directory");
        let store = free_port();
        let etcd = start_etcd(&etcd, directory.path(), store);
        let mut plane = Plane { directory, kubectl, port: free_port(), etcd, server: None };
        plane.make_certificates();
        plane.serve(&server, store);
        Some(plane)
    }

    fn make_certificates(&self) {
        let ca = [
            "req",
            "-x509",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=plane-ca",
            "-keyout",
            "ca.key",
            "-out",
            "ca.crt",
        ];
        self.openssl(&[&ca[..], &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]].concat());
        self.openssl(&["genrsa", "-out", "accounts.key", "2048"]);
        self.certificate(
            "server",
            "/CN=kube-apiserver",
            "subjectAltName=IP:127.0.0.1,IP:10.197.0.1,DNS:kubernetes",
        );
        let client = "extendedKeyUsage=clientAuth";
        self.certificate("admin", "/O=system:masters/CN=admin", client);
        self.certificate("to-kubelet", "/CN=kube-apiserver-kubelet-client", client);
        self.certificate("node", "/O=system:nodes/CN=system:node:real", client);
        std::fs::write(self.path("admin.kubeconfig"), self.kubeconfig("admin")).expect("a kubeconfig");
    }

    /// A certificate of the CA, and its key.
    fn certificate(&self, name: &str, subject: &str, extension: &str) {
        let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
        self.openssl(&[
            "req",
            "-new",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-subj",
            subject,
            "-addext",
            extension,
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        self.sign(&request, &format!("{name}.crt"));
    }

    /// Signs a request as it is.
    pub(crate) fn sign(&self, request: &str, certificate: &str) {
        self.openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-copy_extensions",
            "copy",
            "-in",
            request,
            "-out",
            certificate,
        ]);
    }

    pub(crate) fn openssl(&self, arguments: &[&str]) -> String {
        bins::run(Command::new("openssl").args(arguments).current_dir(self.directory.path())).ok()
    }

    /// A kubeconfig that shows one of the certificates.
    pub(crate) fn kubeconfig(&self, who: &str) -> String {
        let path = |name: String| self.path(&name).display().to_string();
        let text = serde_json::json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority": path("ca.crt".into())}}],
            "users": [{"name": "u", "user": {"client-certificate": path(format!("{who}.crt")),
                "client-key": path(format!("{who}.key"))}}]});
        text.to_string()
    }

    fn serve(&mut self, program: &Path, store: u16) {
        let file = |name: &str| self.path(name).display().to_string();
        let arguments = [
            format!("--etcd-servers=http://127.0.0.1:{store}"),
            format!("--secure-port={}", self.port),
            "--bind-address=127.0.0.1".into(),
            "--advertise-address=127.0.0.1".into(),
            "--endpoint-reconciler-type=none".into(),
            "--service-cluster-ip-range=10.197.0.0/24".into(),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--allow-privileged".into(),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
            "--service-account-issuer=https://plane.example".into(),
            format!("--service-account-key-file={}", file("accounts.key")),
            format!("--service-account-signing-key-file={}", file("accounts.key")),
            format!("--kubelet-client-certificate={}", file("to-kubelet.crt")),
            format!("--kubelet-client-key={}", file("to-kubelet.key")),
            format!("--kubelet-certificate-authority={}", file("ca.crt")),
            "--kubelet-preferred-address-types=InternalIP".into(),
        ];
        self.server = Some(start(program, &arguments, &self.path("server.log")));
        eventually("kube-apiserver is ready", START, || {
            let said = self.k(&["get", "--raw", "/readyz"]);
            if said.out == "ok" { Ok(()) } else { Err(format!("{said:?}\n{}", self.log())) }
        });
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The last words of the server.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// kubectl as the administrator.
    pub(crate) fn k(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(self.path("admin.kubeconfig")).args(arguments);
        bins::run(command.env("HOME", self.directory.path()))
    }

    pub(crate) fn create(&self, object: &Value) {
        let file = self.path("object.json");
        std::fs::write(&file, object.to_string()).expect("a manifest");
        self.k(&["create", "-f", &file.display().to_string()]).ok();
    }

    pub(crate) fn get(&self, what: &[&str]) -> Value {
        let said = self.k(&[&["get", "-o", "json", "--ignore-not-found"], what].concat()).ok();
        serde_json::from_str(&said).unwrap_or_default()
    }

    /// A kubectl that goes on until it is killed, and the first line it says.
    pub(crate) fn background(&self, arguments: &[&str], log: &str) -> (Background, String) {
        let all: Vec<String> = ["--kubeconfig", &self.path("admin.kubeconfig").display().to_string()]
            .into_iter()
            .chain(arguments.iter().copied())
            .map(str::to_owned)
            .collect();
        let child = Background(start(&self.kubectl, &all, &self.path(log)));
        let first = eventually("kubectl says something", Duration::from_secs(30), || {
            let said = std::fs::read_to_string(self.path(log)).unwrap_or_default();
            said.split_once('\n').map(|(first, _)| first.to_owned()).ok_or(said)
        });
        (child, first)
    }
}

/// Ends with its owner.
#[derive(Debug)]
pub(crate) struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ended = (self.0.kill(), self.0.wait());
    }
}

fn start_etcd(program: &Path, directory: &Path, port: u16) -> Child {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()));
    let arguments = [
        format!("--data-dir={}", directory.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
    ];
    start(program, &arguments, &directory.join("etcd.log"))
}

impl Drop for Plane {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- kube-apiserver said:\n{}", self.log());
        }
        for child in self.server.iter_mut().chain([&mut self.etcd]) {
            let _ended = (child.kill(), child.wait());
        }
    }
}
