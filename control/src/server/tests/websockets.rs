//! Watches and logs as browsers read them: over a WebSocket, with the token among the protocols.

use super::streams::{acceptor, connect, listen, read_head};
use super::*;
use futures_util::StreamExt as _;
use std::net::Ipv4Addr;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message, handshake::client};

type Client = WebSocketStream<TlsStream<TcpStream>>;

fn admin(lab: &Lab) -> crate::pki::Identity {
    let subject = Subject { common_name: "admin", organization: Some("system:masters"), names: &[] };
    lab.pki.sign(&subject).unwrap()
}

/// Opens a WebSocket; the protocol that the server chose comes with it.
async fn open(
    stream: TlsStream<TcpStream>,
    path: &str,
    protocol: &str,
) -> Result<(Client, Option<String>), Error> {
    let mut request: client::Request = format!("wss://localhost{path}").into_client_request()?;
    if !protocol.is_empty() {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse()?);
    }
    let (client, response) = tokio_tungstenite::client_async(request, stream).await?;
    let chosen = response.headers().get("sec-websocket-protocol");
    Ok((client, chosen.map(|value| value.to_str().unwrap().to_owned())))
}

/// An agent whose only log comes in two pieces.
async fn agent(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(stream).await.unwrap();
        let head = read_head(&mut stream).await.to_ascii_lowercase();
        assert!(head.starts_with("get /containerlogs/default/p/c?follow=true "), "{head}");
        assert!(!head.contains("websocket") && !head.contains("upgrade"), "{head}");
        let answer =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n4\r\ntwo\n\r\n0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    }
}

fn running_pod(lab: &Lab, port: u16) {
    assert_eq!(lab.post("/api/v1/nodes", &json!({"metadata": {"name": "n"}})).code, 201);
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}});
    assert_eq!(lab.patch("/api/v1/nodes/n/status", "merge", &status).code, 200);
    let mut running = pod("p");
    running["spec"]["nodeName"] = "n".into();
    assert_eq!(lab.post(PODS, &running).code, 201);
}

#[test]
fn a_log_is_read_to_its_end() {
    let lab = lab();
    let address = listen(&lab);
    let backend = lab.runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
    running_pod(&lab, backend.local_addr().unwrap().port());
    lab.runtime.spawn(agent(backend, acceptor(&lab, &["127.0.0.1".to_owned()])));
    let admin = admin(&lab);
    let path = format!("{PODS}/p/log?follow=true");
    lab.runtime.block_on(async {
        for protocol in ["", "binary.k8s.io", "base64.binary.k8s.io"] {
            let (client, chosen) = open(connect(address, &admin).await, &path, protocol).await.unwrap();
            assert_eq!(chosen.as_deref().unwrap_or_default(), protocol);
            let messages: Vec<Message> = client.map(|message| message.unwrap()).collect().await;
            let (last, pieces) = messages.split_last().unwrap();
            assert!(matches!(last, Message::Close(Some(frame)) if u16::from(frame.code) == 1000), "{last:?}");
            let text: Vec<u8> = pieces.iter().flat_map(|piece| decoded(piece, protocol)).collect();
            assert_eq!(String::from_utf8_lossy(&text), "onetwo\n", "{protocol}");
        }
        match open(connect(address, &admin).await, &path, "v5.channel.k8s.io").await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 400),
            other => panic!("{other:?}"),
        }
        let none = format!("{PODS}/none/log");
        match open(connect(address, &admin).await, &none, "").await {
            Err(Error::Http(response)) => assert_eq!(response.status(), 404),
            other => panic!("{other:?}"),
        }
    });
}

fn decoded(piece: &Message, protocol: &str) -> Vec<u8> {
    use base64::Engine as _;
    match piece {
        Message::Binary(bytes) if !protocol.starts_with("base64") => bytes.to_vec(),
        Message::Text(text) if protocol.starts_with("base64") => {
            base64::engine::general_purpose::STANDARD.decode(text.as_str()).unwrap()
        }
        other => panic!("{other:?} in {protocol:?}"),
    }
}

#[test]
fn a_watch_is_a_message_for_each_event() {
    let lab = lab();
    let address = listen(&lab);
    lab.post(PODS, &pod("first"));
    lab.post(PODS, &pod("second"));
    let admin = admin(&lab);
    let mut client = lab.runtime.block_on(async {
        let path = format!("{PODS}?watch=true");
        open(connect(address, &admin).await, &path, "").await.unwrap().0
    });
    let mut next = || match lab.runtime.block_on(client.next()) {
        Some(Ok(Message::Text(text))) => serde_json::from_str::<Value>(text.as_str()).unwrap(),
        other => panic!("{other:?}"),
    };
    for name in ["first", "second"] {
        let event = next();
        assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&"ADDED".into(), &name.into()));
    }
    lab.call("DELETE", &format!("{PODS}/first?gracePeriodSeconds=0"), "application/json", &Value::Null);
    assert_eq!(next()["type"], "DELETED");
    // The server goes, and says so.
    lab.stop.send_replace(true);
    let last = lab.runtime.block_on(client.next());
    assert!(matches!(last, Some(Ok(Message::Close(Some(frame)))) if u16::from(frame.code) == 1000));
}

#[test]
fn a_token_among_the_protocols_is_a_token() {
    use base64::Engine as _;
    let lab = lab();
    lab.post("/api/v1/namespaces/default/serviceaccounts", &json!({"metadata": {"name": "robot"}}));
    let bound = json!({"metadata": {"name": "robot"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]});
    lab.post("/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings", &bound);
    let path = "/api/v1/namespaces/default/serviceaccounts/robot/token";
    let token = lab.post(path, &json!({"spec": {}})).text("/status/token");
    let encoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token);
    let asked = |protocols: &str| {
        let request = Request::get(format!("{PODS}?watch=true"))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header("sec-websocket-protocol", protocols)
            .body(Full::new(Bytes::new()));
        lab.read(lab.runtime.block_on(lab.server.clone().handle(request.unwrap())))
    };
    let bearer = "base64url.bearer.authorization.k8s.io";
    let known = asked(&format!("{bearer}.{encoded}, base64.binary.k8s.io"));
    assert_eq!(known.code, 101, "{known:?}");
    assert_eq!(known.headers["sec-websocket-protocol"], "base64.binary.k8s.io");
    assert_eq!(known.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(asked(&format!("{bearer}.{encoded}")).code, 401);
    assert_eq!(asked(&format!("{bearer}.bm9uZQ, x")).code, 401);
    assert_eq!(asked("x").code, 403);
}
