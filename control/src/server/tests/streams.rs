//! What is passed on to a node: refused where there is nobody to talk to, byte by byte where there is.

use super::*;
use crate::pki::Identity;
use rustls::pki_types::ServerName;
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[test]
fn a_pod_without_a_node_has_no_log() {
    let lab = lab();
    lab.post(PODS, &pod("p"));
    let empty = lab.get(&format!("{PODS}/p/log"));
    assert_eq!((empty.code, empty.body), (204, Value::String(String::new())));
    let refused = lab.post(&format!("{PODS}/p/exec?command=true&stdout=1"), &Value::Null).refusal();
    assert_eq!(refused, (400, "pod p does not have a host assigned".into()));
    assert_eq!(lab.get(&format!("{PODS}/none/log")).code, 404);
    let refused = lab.get(&format!("{PODS}/p/log?container=x")).refusal();
    assert_eq!(refused, (400, "container x is not valid for pod p".into()));
    let mut two = pod("two");
    two["spec"]["containers"] = json!([{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]);
    lab.post(PODS, &two);
    let refused = lab.get(&format!("{PODS}/two/log")).refusal();
    assert_eq!(refused, (400, "a container name must be specified for pod two, choose one of: [a b]".into()));
}

#[test]
fn options_of_logs_are_judged_before_anybody_is_asked() {
    let lab = lab();
    for (options, code, why) in [
        ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        (
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
            422,
            ": Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        (
            "tailLines=-1&limitBytes=0",
            422,
            "[tailLines: Invalid value: -1: must be greater than or equal to 0, limitBytes: Invalid value: 0: must be greater than 0]",
        ),
        ("tailLines=many", 400, "strconv.ParseInt: parsing \"many\": invalid syntax"),
    ] {
        let why = if code == 422 { format!("PodLogOptions \"p\" is invalid: {why}") } else { why.into() };
        assert_eq!(lab.get(&format!("{PODS}/p/log?{options}")).refusal(), (code, why));
    }
}

/// A server that answers every request with the request itself.
async fn echo(listener: TcpListener) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ncontent-type: text/plain\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&request[..length]).await.unwrap();
    }
}

#[test]
fn requests_to_a_pod_are_passed_on() {
    let lab = lab();
    let listener = lab.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    lab.runtime.spawn(echo(listener));
    local_pod(&lab);
    let echoed = lab.get(&format!("{PODS}/p:{port}/proxy/some/path?a=b%20c"));
    let text = echoed.body.as_str().unwrap();
    assert!(text.starts_with("GET /some/path?a=b%20c HTTP/1.1\r\n"), "{text}");
    assert!(text.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{text}");
    let echoed = lab.get(&format!("{PODS}/http:p:{port}/proxy/logs/"));
    assert!(echoed.body.as_str().unwrap().starts_with("GET /logs/ HTTP/1.1\r\n"), "{echoed:?}");
    let options = lab.call("OPTIONS", &format!("{PODS}/p:{port}/proxy/x"), "", &Value::Null);
    assert!(options.body.as_str().unwrap().starts_with("OPTIONS /x HTTP/1.1\r\n"), "{options:?}");
    assert_eq!(lab.call("OPTIONS", &format!("{PODS}/p"), "", &Value::Null).code, 405);
    let root = lab.get(&format!("{PODS}/p:{port}/proxy?a=b"));
    assert_eq!(root.code, 301, "{root:?}");
    assert_eq!(root.headers["location"], format!("{PODS}/p:{port}/proxy/?a=b"));
}

/// A pod `p` that seems to run on this host.
fn local_pod(lab: &Lab) {
    lab.post(PODS, &pod("p"));
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    assert_eq!(lab.patch(&format!("{PODS}/p/status"), "merge", &status).code, 200);
}

/// A server that answers every request with a page.
async fn page(listener: TcpListener, acceptor: TlsAcceptor) {
    let body = r#"<a href="/rewriteme">test</a>"#;
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ncontent-type: text/html\r\n\r\n");
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        assert!(stream.get_ref().1.peer_certificates().is_none(), "the certificate is for agents");
        read_head(&mut stream).await;
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    }
}

#[test]
fn pages_of_a_pod_with_a_certificate_of_its_own_link_through_the_proxy() {
    let lab = lab();
    let listener = lab.runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = rcgen::generate_simple_self_signed(["anybody".to_owned()]).unwrap();
    let own = Identity { certificate: own.cert.pem(), key: own.signing_key.serialize_pem() };
    let certificate = tls::ServerCertificate::new(&own).unwrap();
    let config = tls::server(lab.pki.ca_pem(), certificate).unwrap();
    lab.runtime.spawn(page(listener, TlsAcceptor::from(Arc::new(config))));
    local_pod(&lab);
    let found = lab.get(&format!("{PODS}/https:p:{port}/proxy/"));
    assert_eq!(found.code, 200, "{found:?}");
    assert_eq!(found.body, format!(r#"<a href="{PODS}/https:p:{port}/proxy/rewriteme">test</a>"#));
}

/// Reads to the end of a request or response head.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// An agent that demands a client certificate, switches protocols and then sends every byte back.
async fn agent(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    seen: tokio::sync::mpsc::UnboundedSender<(bool, String)>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let known = stream.get_ref().1.peer_certificates().is_some();
        seen.send((known, read_head(&mut stream).await)).unwrap();
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n";
        stream.write_all(switch).await.unwrap();
        let (mut from, mut to) = tokio::io::split(stream);
        // The other side ends the copy when it has seen enough.
        let _ = tokio::io::copy(&mut from, &mut to).await;
    }
}

pub(super) fn acceptor(lab: &Lab, names: &[String]) -> TlsAcceptor {
    let identity = lab.pki.sign(&Subject { common_name: "n", organization: None, names }).unwrap();
    let certificate = tls::ServerCertificate::new(&identity).unwrap();
    TlsAcceptor::from(Arc::new(tls::server(lab.pki.ca_pem(), certificate).unwrap()))
}

pub(super) async fn connect(address: SocketAddr, identity: &Identity) -> TlsStream<TcpStream> {
    let connector = TlsConnector::from(Arc::new(tls::kubelet_client(identity).unwrap()));
    let stream = TcpStream::connect(address).await.unwrap();
    connector.connect(ServerName::IpAddress(address.ip().into()), stream).await.unwrap()
}

/// Starts the HTTPS listener of the lab's server.
pub(super) fn listen(lab: &Lab) -> SocketAddr {
    let names = ["127.0.0.1".to_owned()];
    let identity = lab.pki.sign(&Subject { common_name: "s", organization: None, names: &names }).unwrap();
    let certificate = tls::ServerCertificate::new(&identity).unwrap();
    let config = Arc::new(tls::server(lab.pki.ca_pem(), certificate).unwrap());
    let listener = lab.runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let address = listener.local_addr().unwrap();
    lab.runtime.spawn(listener::serve(lab.server.clone(), listener, config, lab.stop.subscribe()));
    address
}

#[test]
fn an_exec_is_passed_to_the_agent_byte_by_byte() {
    let lab = lab();
    let address = listen(&lab);
    let backend = lab.runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let port = backend.local_addr().unwrap().port();
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    lab.runtime.spawn(agent(backend, acceptor(&lab, &["127.0.0.1".to_owned()]), seen));
    assert_eq!(lab.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).code, 201);
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    assert_eq!(lab.patch("/api/v1/nodes/n/status", "merge", &status).code, 200);
    let mut running = pod("p");
    running["spec"]["nodeName"] = "n".into();
    assert_eq!(lab.post(PODS, &running).code, 201);
    let admin = lab
        .pki
        .sign(&Subject { common_name: "admin", organization: Some("system:masters"), names: &[] })
        .unwrap();
    lab.runtime.block_on(async {
        let mut client = connect(address, &admin).await;
        let request = format!(
            "POST {PODS}/p/exec?command=echo&command=a%20b&stdin=true&stdout=true&tty=false HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\nAuthorization: Bearer none\r\nContent-Length: 0\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.to_ascii_lowercase().contains("upgrade: spdy/3.1"), "{head}");
        let (known, head) = requests.recv().await.unwrap();
        assert!(known, "the agent sees the server's client certificate");
        assert!(head.starts_with("POST /exec/default/p/c?command=echo&command=a%20b&input=1&output=1 HTTP/1.1"), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(head.contains("x-stream-protocol-version: v4.channel.k8s.io") && !head.contains("authorization"), "{head}");
        let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        let (mut from, mut to) = tokio::io::split(client);
        let sent = bytes.clone();
        let write = tokio::spawn(async move { to.write_all(&sent).await.map(|()| to) });
        let mut back = vec![0; bytes.len()];
        from.read_exact(&mut back).await.unwrap();
        assert!(back == bytes, "bytes come back as they were sent");
        drop(write.await.unwrap().unwrap());
    });
}

#[test]
fn an_agent_that_is_gone_is_an_error_in_words() {
    let lab = lab();
    lab.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}}));
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}});
    lab.patch("/api/v1/nodes/n/status", "merge", &status);
    let mut running = pod("p");
    running["spec"]["nodeName"] = "n".into();
    lab.post(PODS, &running);
    let refused = "dial tcp 127.0.0.1:1: connect: connection refused";
    let log = lab.get(&format!("{PODS}/p/log?tailLines=1"));
    let told = format!(r#"Get "https://127.0.0.1:1/containerLogs/default/p/c?tailLines=1": {refused}"#);
    assert_eq!((log.refusal(), log.at("/reason")), ((500, told), &Value::Null));
    let exec = lab.post(&format!("{PODS}/p/exec?command=true&stdout=true"), &Value::Null);
    assert_eq!(exec.refusal(), (500, format!("error dialing backend: {refused}")));
    let page = lab.get("/api/v1/nodes/n/proxy/healthz").refusal();
    assert_eq!(page, (503, format!("error trying to reach service: {refused}")));
}
