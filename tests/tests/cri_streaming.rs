//! Exec, attach and port forwarding through the engine's URLs, with a WebSocket client that knows nothing of it.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests: a failed expectation ends the test that made it.

use futures_util::{SinkExt, StreamExt};
use knarr_cri::v1::*;
use knarr_tests::engine::{Engine, PATIENCE, container, file_holds, pod};
use std::collections::HashMap;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const RESULT: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

async fn connect(url: &str, protocol: &str) -> Result<Socket, Error> {
    let mut request = url.replacen("http://", "ws://", 1).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
    Ok(tokio_tungstenite::connect_async(request).await?.0)
}

fn message(channel: u8, data: &[u8]) -> Message {
    Message::binary([&[channel], data].concat())
}

/// What comes until `enough` says so or the other side closes, by channel.
async fn gather(
    stream: &mut (impl futures_util::Stream<Item = Result<Message, Error>> + Unpin),
    enough: impl Fn(&HashMap<u8, Vec<u8>>) -> bool,
) -> HashMap<u8, Vec<u8>> {
    let mut channels: HashMap<u8, Vec<u8>> = HashMap::new();
    while !enough(&channels) {
        match tokio::time::timeout(PATIENCE, stream.next()).await.unwrap() {
            Some(Ok(Message::Binary(bytes))) if !bytes.is_empty() => {
                channels.entry(bytes[0]).or_default().extend(&bytes[1..]);
            }
            Some(Ok(Message::Close(_))) | None => break,
            Some(Ok(_)) => {}
            Some(Err(error)) => panic!("{error}; so far {:?}", channels.keys()),
        }
    }
    channels
}

fn text(channels: &HashMap<u8, Vec<u8>>, channel: u8) -> String {
    String::from_utf8_lossy(channels.get(&channel).map(Vec::as_slice).unwrap_or_default()).into_owned()
}

async fn sleeper(engine: &mut Engine) -> (String, String) {
    let config = pod(engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let id = engine.run(&pod, &config, container("main", &["sleep", "1000"])).await.unwrap();
    (pod, id)
}

async fn exec_url(engine: &mut Engine, container_id: &str, line: &str, tty: bool) -> String {
    let request = ExecRequest {
        container_id: container_id.into(),
        cmd: ["sh", "-c", line].map(str::to_owned).to_vec(),
        tty,
        stdin: true,
        stdout: true,
        stderr: !tty,
    };
    engine.runtime.exec(request).await.unwrap().into_inner().url
}

#[tokio::test]
async fn much_data_goes_through_an_exec_unchanged_and_its_end_is_seen() {
    let mut engine = Engine::start().await;
    let (_, id) = sleeper(&mut engine).await;
    let megabytes = std::env::var("KNARR_STREAM_MB").ok().and_then(|mb| mb.parse().ok()).unwrap_or(16);
    let mut seed = 1_u32;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    })
    .take(megabytes << 20)
    .collect();
    let url = exec_url(&mut engine, &id, "cat; echo over >&2; exit 3", false).await;
    let (mut sink, mut stream) = connect(&url, "v5.channel.k8s.io").await.unwrap().split();
    let sent = data.clone();
    let sender = tokio::spawn(async move {
        for chunk in sent.chunks(32 << 10) {
            sink.send(message(STDIN, chunk)).await.unwrap();
        }
        sink.send(message(CLOSE, &[STDIN])).await.unwrap();
        sink
    });
    let channels = gather(&mut stream, |channels| channels.contains_key(&RESULT)).await;
    drop(sender.await.unwrap());
    assert!(channels[&STDOUT] == data, "{} of {} bytes came back", channels[&STDOUT].len(), data.len());
    assert_eq!(text(&channels, 2), "over\n");
    let result = text(&channels, RESULT);
    assert!(result.contains("NonZeroExitCode") && result.contains("\"3\""), "{result}");
    let again = connect(&url, "v5.channel.k8s.io").await;
    assert!(
        matches!(&again, Err(Error::Http(answer)) if answer.status() == 404),
        "a token works once: {again:?}"
    );
}

#[tokio::test]
async fn a_terminal_has_the_size_of_the_clients() {
    let mut engine = Engine::start().await;
    let (_, id) = sleeper(&mut engine).await;
    let url =
        exec_url(&mut engine, &id, "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done", true)
            .await;
    let mut socket = connect(&url, "v4.channel.k8s.io").await.unwrap();
    gather(&mut socket, |channels| text(channels, STDOUT).contains("ready")).await;
    for (width, height) in [(101, 33), (80, 24)] {
        let size = format!("{{\"Width\":{width},\"Height\":{height}}}");
        socket.send(message(RESIZE, size.as_bytes())).await.unwrap();
        let wanted = format!("{height} {width}");
        gather(&mut socket, |channels| text(channels, STDOUT).contains(&wanted)).await;
    }
}

#[tokio::test]
async fn who_attaches_first_hears_what_was_said_before() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let mut talker = container("talker", &["sh", "-c", "echo before; cat; echo after"]);
    (talker.stdin, talker.stdin_once) = (true, true);
    let id = engine.run(&pod, &config, talker).await.unwrap();
    file_holds(engine.status(&id).await.unwrap().log_path.as_ref(), "before");
    let request =
        AttachRequest { container_id: id.clone(), stdin: true, stdout: true, stderr: true, tty: false };
    let url = engine.runtime.attach(request).await.unwrap().into_inner().url;
    let mut socket = connect(&url, "v5.channel.k8s.io").await.unwrap();
    socket.send(message(STDIN, b"between\n")).await.unwrap();
    socket.send(message(CLOSE, &[STDIN])).await.unwrap();
    let channels = gather(&mut socket, |channels| channels.contains_key(&RESULT)).await;
    assert_eq!(text(&channels, STDOUT), "before\nbetween\nafter\n");
    assert_eq!(engine.ended(&id).await.exit_code, 0);
}

#[tokio::test]
async fn ports_named_beforehand_are_channels_and_none_waits_for_another() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let pod = engine.run_pod(&config).await.unwrap();
    let echo =
        "nc -ll -p 81 -e cat & until grep -q ':0051 ' /proc/net/tcp*; do sleep 0.05; done; echo up; wait";
    // It listens, and so the kernel takes connections for it, but it takes none itself.
    let deaf = "nc -l -p 82 & until grep -q ':0052 ' /proc/net/tcp*; do sleep 0.05; done; kill -STOP $!; echo up; wait";
    for (name, line) in [("echo", echo), ("deaf", deaf)] {
        let id = engine.run(&pod, &config, container(name, &["sh", "-c", line])).await.unwrap();
        file_holds(engine.status(&id).await.unwrap().log_path.as_ref(), "up");
    }
    let request = PortForwardRequest { pod_sandbox_id: pod, port: vec![82, 81, 9] };
    let url = engine.runtime.port_forward(request).await.unwrap().into_inner().url;
    let (mut sink, mut stream) = connect(&url, "v4.channel.k8s.io").await.unwrap().split();
    let sender = tokio::spawn(async move {
        // Far more than the server behind the first port will ever take.
        for _ in 0..512 {
            sink.send(message(0, &[0; 64 << 10])).await.unwrap();
        }
        sink.send(message(2, b"echo this")).await.unwrap();
        sink
    });
    let echoed = |channels: &HashMap<u8, Vec<u8>>| {
        text(channels, 2).ends_with("echo this") && text(channels, 1).len() > 2
    };
    let channels = gather(&mut stream, echoed).await;
    drop(sender.await.unwrap());
    for (channel, port) in [(0, 82_u16), (1, 82), (2, 81), (3, 81), (4, 9), (5, 9)] {
        assert_eq!(channels[&channel][..2], port.to_le_bytes(), "channel {channel} begins with its port");
    }
    assert!(text(&channels, 1).contains("does not take what is sent"), "{:?}", text(&channels, 1));
    assert!(
        text(&channels, 5).contains("failed to connect to localhost:9 inside the pod"),
        "{:?}",
        text(&channels, 5)
    );
}
