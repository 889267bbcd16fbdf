//! Answers in protobuf, as clients in Go ask for them.

use super::*;
use crate::protobuf::decode;

const ACCEPT: &str = "application/vnd.kubernetes.protobuf,application/json";

fn ask(lab: &Lab, method: &str, path: &str) -> (http::response::Parts, Bytes) {
    let request = Request::builder().method(method).uri(path).header("accept", ACCEPT);
    let mut request = request.body(Full::new(Bytes::new())).unwrap();
    request.extensions_mut().insert(TransportUser(User::server()));
    let (parts, body) = lab.runtime.block_on(lab.server.clone().handle(request)).into_parts();
    (parts, lab.runtime.block_on(body.collect()).unwrap().to_bytes())
}

#[test]
fn objects_lists_and_failures_come_as_messages() {
    let lab = lab();
    lab.config_map("m", "x");
    let (parts, body) = ask(&lab, "GET", &format!("{CONFIG_MAPS}/m"));
    assert_eq!(parts.headers["content-type"], "application/vnd.kubernetes.protobuf");
    assert_eq!(decode(&body).unwrap(), lab.get(&format!("{CONFIG_MAPS}/m")).body);

    let (parts, body) = ask(&lab, "GET", CONFIG_MAPS);
    assert_eq!(parts.headers["content-type"], "application/vnd.kubernetes.protobuf");
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(text.starts_with("k8s\0") && text.contains("ConfigMapList"), "{text}");

    let (parts, body) = ask(&lab, "GET", &format!("{CONFIG_MAPS}/none"));
    let status = decode(&body).unwrap();
    assert_eq!((parts.status.as_u16(), &status["reason"]), (404, &json!("NotFound")));
    let (_, body) = ask(&lab, "DELETE", &format!("{CONFIG_MAPS}/m"));
    assert_eq!(decode(&body).unwrap()["status"], "Success");
}

#[test]
fn a_watch_is_a_stream_of_messages_with_their_lengths() {
    let lab = lab();
    lab.config_map("a", "1");
    lab.config_map("b", "2");
    let path =
        format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&timeoutSeconds=1");
    let (parts, body) = ask(&lab, "GET", &format!("{path}&resourceVersionMatch=NotOlderThan"));
    assert_eq!(parts.headers["content-type"], "application/vnd.kubernetes.protobuf;stream=watch");
    let (mut rest, mut seen) = (&body[..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (event, after) = after.split_at(u32::from_be_bytes(*length) as usize);
        // Field 1 is the type, field 2 holds the object in its own envelope.
        let kind = String::from_utf8_lossy(&event[2..2 + usize::from(event[1])]).into_owned();
        let start = event.windows(4).position(|window| window == b"k8s\0").unwrap();
        seen.push((kind, decode(&event[start..]).unwrap()["metadata"].clone()));
        rest = after;
    }
    let kinds: Vec<&str> = seen.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["ADDED", "ADDED", "BOOKMARK"]);
    assert_eq!((&seen[0].1["name"], &seen[1].1["name"]), (&json!("a"), &json!("b")));
    assert_eq!(seen[2].1["annotations"]["k8s.io/initial-events-end"], "true");
}

#[test]
fn kinds_without_messages_come_as_json() {
    let lab = lab();
    for row in crate::registry::custom::rows(&super::custom::definition("None", 1)) {
        lab.server.table.insert(row);
    }
    let things = "/apis/example.com/v1/namespaces/default/things";
    let (parts, _) = ask(&lab, "GET", things);
    assert_eq!(
        (parts.status, &parts.headers["content-type"]),
        (http::StatusCode::OK, &"application/json".parse().unwrap())
    );
    let only = lab.send_for("application/vnd.kubernetes.protobuf", "GET", things, "", vec![]);
    assert_eq!(lab.read(only).code, 406);
    let (parts, _) = ask(&lab, "GET", "/version");
    assert_eq!(parts.headers["content-type"], "application/json");
}
