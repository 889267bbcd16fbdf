//! What stands between kubectl and the kubelet API in a cluster, reduced to paths: GET of the pod, and the pod's
//! subresources passed on byte by byte.

use crate::lab::Lab;
use k8s_openapi::api::core::v1::Pod;
use knarr_agent::config::{Config, KubeletConfig};
use knarr_agent::engine::streaming::StreamingServer;
use knarr_agent::kubelet::api_server::{ApiServer, ApiServerOptions};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsConnector, rustls};

/// One that speaks SPDY, one that speaks WebSocket.
pub(crate) const KUBECTLS: [&str; 2] = ["1.29", "1.32"];

const DIRECTORY: &str = "/usr/lib/google-cloud-sdk/bin";

/// How long any client may take.
const DEADLINE: Duration = Duration::from_secs(180);

pub(crate) struct Front {
    kubelet: u16,
    /// The kubelet's port for everybody.
    read_only: u16,
    port: u16,
    home: tempfile::TempDir,
}

#[derive(Debug)]
pub(crate) struct Output<T> {
    pub(crate) code: i32,
    pub(crate) stdout: T,
    pub(crate) stderr: T,
}

fn pod() -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "uid": "p-uid"},
        "spec": {"containers": [{"name": "c", "image": "busybox", "stdin": true,
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}], "nodeName": "n",
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "wanted"}}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0,
            "image": "busybox", "imageID": "", "state": {"running": {}}}]},
    })
}

impl Front {
    pub(crate) async fn start(lab: &Lab) -> Self {
        StreamingServer::join(&lab.engine, ([127, 0, 0, 1], 0).into()).unwrap();
        let pods: Vec<Arc<Pod>> = vec![Arc::new(serde_json::from_value(pod()).unwrap())];
        let read_only = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = ApiServer::bind(ApiServerOptions {
            listen: ([127, 0, 0, 1], 0).into(),
            runtime: lab.engine.clone(),
            pods: Arc::new(move || pods.clone()),
            client_ca: None,
            client: None,
            tls: None,
            node_name: "n".into(),
            config: Arc::new(Config {
                pod_logs_dir: lab.path("logs/pods"),
                kubelet: KubeletConfig { read_only_port: read_only, ..Default::default() },
                ..Default::default()
            }),
            probes: knarr_agent::kubelet::probes::ProbeCounts::default(),
        })
        .await
        .unwrap();
        let kubelet = server.port().unwrap();
        tokio::spawn(server.run(std::future::pending()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, kubelet));
            }
        });
        Self { kubelet, read_only, port, home: tempfile::tempdir().unwrap() }
    }

    fn command(&self, version: &str, arguments: &[&str]) -> Command {
        let program = format!("{DIRECTORY}/kubectl.{version}");
        assert!(std::path::Path::new(&program).is_file(), "{program} is missing");
        let mut command = Command::new(program);
        command
            .arg(format!("--server=http://127.0.0.1:{}", self.port))
            .args(arguments)
            .env("HOME", self.home.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    pub(crate) async fn kubectl(&self, version: &str, arguments: &[&str]) -> Output<String> {
        let out = self.kubectl_with(version, arguments, Vec::new()).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Output { code: out.code, stdout: text(out.stdout), stderr: text(out.stderr) }
    }

    pub(crate) async fn kubectl_with(
        &self,
        version: &str,
        arguments: &[&str],
        input: Vec<u8>,
    ) -> Output<Vec<u8>> {
        let mut child = self.command(version, arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feed = tokio::spawn(async move { stdin.write_all(&input).await });
        let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
        let output =
            output.unwrap_or_else(|_| panic!("kubectl {version} {arguments:?} does not end")).unwrap();
        // A command may end without reading its input.
        let _ = feed.await.unwrap();
        Output { code: output.status.code().unwrap(), stdout: output.stdout, stderr: output.stderr }
    }

    /// Gives kubectl a terminal of a given size, types, and answers all it shows.
    pub(crate) async fn kubectl_in_terminal(
        &self,
        version: &str,
        arguments: &str,
        typed: &str,
        (columns, rows): (u16, u16),
    ) -> String {
        let line = format!(
            "stty cols {columns} rows {rows}; exec {DIRECTORY}/kubectl.{version} --server=http://127.0.0.1:{} {arguments}",
            self.port
        );
        let mut child = Command::new("script")
            .args(["-qefc", &line, "/dev/null"])
            .env("HOME", self.home.path())
            .env_remove("KUBECONFIG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut shown = Vec::new();
        let talk = async {
            // Typed when the shell's prompt is there: kubectl flushes what was typed before it had the terminal.
            while !shown.contains(&b'#') {
                assert!(
                    stdout.read_buf(&mut shown).await.unwrap() > 0,
                    "{}",
                    String::from_utf8_lossy(&shown)
                );
            }
            stdin.write_all(typed.as_bytes()).await.unwrap();
            // Closing it now would end the terminal before the answer.
            let mut more = Vec::new();
            stdout.read_to_end(&mut more).await.unwrap();
            shown.extend(more);
        };
        tokio::time::timeout(DEADLINE, talk)
            .await
            .unwrap_or_else(|_| panic!("kubectl {version} {arguments} hangs"));
        child.wait().await.unwrap();
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Runs kubectl until it has said something.
    pub(crate) async fn kubectl_until(
        &self,
        version: &str,
        arguments: &[&str],
        input: &[u8],
        expected: &str,
    ) -> String {
        let mut child = self.command(version, arguments).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input).await.unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut said = Vec::new();
        let hear = async {
            while !String::from_utf8_lossy(&said).contains(expected) {
                if stdout.read_buf(&mut said).await.unwrap() == 0 {
                    break;
                }
            }
        };
        let heard = tokio::time::timeout(DEADLINE, hear).await;
        child.kill().await.unwrap();
        assert!(heard.is_ok(), "kubectl {version} {arguments:?} said {:?}", String::from_utf8_lossy(&said));
        String::from_utf8(said).unwrap()
    }

    /// Forwards a free port to `port` of the pod and asks it several times at once.
    pub(crate) async fn forwarded(&self, version: &str, port: u16, times: usize) -> Vec<String> {
        let mut child = self.command(version, &["port-forward", "p", &format!(":{port}")]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = tokio::time::timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap();
        let Some(first) = first else {
            let out = child.wait_with_output().await.unwrap();
            panic!("kubectl {version}: {}", String::from_utf8_lossy(&out.stderr));
        };
        let local = first.split("127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        let ask = |_| {
            let local = local.clone();
            async move {
                let mut stream = TcpStream::connect(format!("127.0.0.1:{local}")).await.unwrap();
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answer.split_once("\r\n\r\n").unwrap_or_default().1.to_owned()
            }
        };
        let asked = futures_util::future::join_all((0..times).map(ask));
        let bodies = tokio::time::timeout(DEADLINE, asked).await.unwrap();
        child.kill().await.unwrap();
        bodies
    }

    /// A plain request to the kubelet API: status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.kubelet, path.to_owned()).await
    }

    /// The same without TLS, on the port for everybody.
    pub(crate) async fn get_read_only(&self, path: &str) -> (u16, String) {
        let stream = TcpStream::connect(("127.0.0.1", self.read_only)).await.unwrap();
        ask(stream, "GET", path).await
    }

    /// What nobody may do there.
    pub(crate) async fn post_read_only(&self, path: &str) -> (u16, String) {
        let stream = TcpStream::connect(("127.0.0.1", self.read_only)).await.unwrap();
        ask(stream, "POST", path).await
    }

    pub(crate) fn get_owned(&self, path: &str) -> impl Future<Output = (u16, String)> + Send + use<> {
        get(self.kubelet, path.to_owned())
    }
}

/// The server, which runs in this process, has a file open.
pub(crate) fn has_open(path: &Path) -> bool {
    let mut descriptors = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    descriptors.any(|descriptor| std::fs::read_link(descriptor.path()).is_ok_and(|target| target == path))
}

async fn get(port: u16, path: String) -> (u16, String) {
    ask(connect(port).await, "GET", &path).await
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, method: &str, path: &str) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.0\r\nHost: n\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
    // A server need not say goodbye in TLS.
    assert!(read.is_ok() || !answer.is_empty());
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What kubectl asks before it asks for anything.
fn discovery(path: &str) -> Option<serde_json::Value> {
    Some(match path {
        "/api" => json!({"kind": "APIVersions", "versions": ["v1"]}),
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []}),
        "/api/v1" => json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": [
            {"name": "pods", "singularName": "pod", "namespaced": true, "kind": "Pod", "verbs": ["get"], "shortNames": ["po"]},
        ]}),
        _ => return None,
    })
}

/// Reads a request head, answers it or passes it on with the kubelet's path, then bytes both ways.
async fn serve(mut client: TcpStream, kubelet: u16) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // One at a time, because what follows the head belongs to the other side.
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let (line, headers) = head.split_once("\r\n").unwrap();
    let mut words = line.split(' ');
    let (method, uri) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    if let Some(document) = discovery(path) {
        return answer(client, "200 OK", &document.to_string()).await;
    }
    let Some(subresource) = path.strip_prefix("/api/v1/namespaces/default/pods/p") else {
        return answer(client, "404 Not Found", "{}").await;
    };
    let container = query.split('&').find_map(|pair| pair.strip_prefix("container=")).unwrap_or("c");
    let onward = match subresource {
        "" => return answer(client, "200 OK", &pod().to_string()).await,
        "/log" => format!("/containerLogs/default/p/{container}?{query}"),
        "/exec" => format!("/exec/default/p/{container}?{query}"),
        "/attach" => format!("/attach/default/p/{container}?{query}"),
        "/portforward" => format!("/portForward/default/p?{query}"),
        other => panic!("{other}"),
    };
    let mut server = connect(kubelet).await;
    server.write_all(format!("{method} {onward} HTTP/1.1\r\n{headers}").as_bytes()).await.unwrap();
    // Either side may break off.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

async fn answer(mut client: TcpStream, status: &str, body: &str) {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all((head + body).as_bytes()).await.unwrap();
}

async fn connect(port: u16) -> TlsStream<TcpStream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer))
        .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("n".try_into().unwrap(), stream).await.unwrap()
}

/// The kubelet's certificate is self-signed.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
