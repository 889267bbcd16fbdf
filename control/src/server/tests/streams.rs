//! What is passed on to a node: refused where there is nobody to talk to, byte by byte where there is.

use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

#[test]
fn a_pod_without_a_node_has_no_log() {
    let lab = lab();
    lab.post(PODS, &pod("p"));
    assert_eq!(
        lab.get(&format!("{PODS}/p/log")).refusal(),
        (400, "pod p does not have a host assigned".into())
    );
    assert_eq!(lab.get(&format!("{PODS}/none/log")).code, 404);
    let refused = lab.get(&format!("{PODS}/p/log?container=x")).refusal();
    assert_eq!(refused, (400, "container x is not valid for pod p".into()));
    let mut two = pod("two");
    two["spec"]["containers"] = json!([{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]);
    lab.post(PODS, &two);
    let refused = lab.get(&format!("{PODS}/two/log")).refusal();
    assert_eq!(refused, (400, "a container name must be specified for pod two, choose one of: [a b]".into()));
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
    lab.post(PODS, &pod("p"));
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    assert_eq!(lab.patch(&format!("{PODS}/p/status"), "merge", &status).code, 200);
    let echoed = lab.get(&format!("{PODS}/p:{port}/proxy/some/path?a=b%20c"));
    let text = echoed.body.as_str().unwrap();
    assert!(text.starts_with("GET /some/path?a=b%20c HTTP/1.1\r\n"), "{text}");
    assert!(text.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{text}");
}
