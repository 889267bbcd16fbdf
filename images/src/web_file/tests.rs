//! Servers of files as they are, and as an attacker's may be.

use super::*;
use crate::error::ErrorKind;
use crate::options::Options;
use crate::registry::proxy::Proxies;
use crate::registry::retry::Patience;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_millis(300);
/// Each test shortens the one that it wants to run out.
const PATIENCE: Patience = Patience {
    attempts: 2,
    pause: Duration::from_millis(1),
    longest_pause: Duration::from_millis(1),
    connect: LONG,
    head: LONG,
    idle: LONG,
    window: LONG,
    slowest: 1000,
};

/// Answers every connection with what `answer` makes of the request's head, and takes the heads down.
fn serve(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let (told, answer) = (heads.clone(), Arc::new(answer));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, told, answer) = (stream.unwrap(), told.clone(), answer.clone());
            std::thread::spawn(move || {
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|count| count > 0) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                told.lock().unwrap().push(head.clone());
                answer(&head, &mut stream);
            });
        }
    });
    (address, heads)
}

/// One answer for each connection.
fn say(stream: &mut TcpStream, text: &str) {
    // A client that has had enough is no concern of the server's.
    let _ = stream.write_all(text.replacen("\r\n", "\r\nConnection: close\r\n", 1).as_bytes());
}

async fn fetched(wanted: &Wanted, patience: Patience) -> Result<(WebFile, tempfile::TempDir)> {
    let dir = tempfile::tempdir().unwrap();
    let parts = Parts::open(&dir.path().join("images"), Options::default()).unwrap();
    let transport = Arc::new(Transport::new(patience, Proxies::default()));
    fetch(&parts, &transport, wanted).await.map(|file| (file, dir))
}

#[test]
fn the_host_is_asked() {
    let base = |url: &str| server_of(&Wanted::new(url)).map(|(endpoint, _)| endpoint.base).ok();
    assert_eq!(base("http://h:8080/a/b.tar?x").as_deref(), Some("http://h:8080"));
    assert_eq!(base("https://h/a b").as_deref(), Some("https://h:443"));
    assert!(base("http://").is_none() && base("/a/b").is_none());
    let wanted = Wanted::new("https://me:p%40ss@h/a@b");
    let (endpoint, target) = server_of(&wanted).unwrap();
    assert_eq!((target.as_str(), wanted.shown().as_str()), ("https://h/a@b", "https://h/a@b"));
    assert_eq!(endpoint.headers, [("Authorization".to_owned(), "Basic bWU6cEBzcw==".to_owned())]);
}

#[test]
fn escapes_there_and_back() {
    assert_eq!(escaped("http://h/a b/\u{e9}|%20?q={x}"), "http://h/a%20b/%C3%A9%7C%20?q=%7Bx%7D");
    assert_eq!(percent_decode("a%20b%C3%A9%2"), "a b\u{e9}%2".as_bytes());
    assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT".to_owned()), Some(784_111_777));
    assert_eq!(seconds("yesterday".to_owned()), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_what_the_server_told() {
    let (address, heads) = serve(|head, stream| {
        let body = if head.starts_with("HEAD") { "" } else { "content" };
        let tags = "ETag: W/\"one\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
        say(stream, &format!("HTTP/1.1 200 OK\r\n{tags}\r\nContent-Length: 7\r\n\r\n{body}"));
    });
    let wanted = Wanted::new(&format!("http://{address}/f"));
    let (file, _dir) = fetched(&wanted, PATIENCE).await.unwrap();
    assert_eq!(file.digest, Digest::of(b"content"));
    assert_eq!((file.tag.as_deref(), file.modified), (Some("\"one\""), Some(784_111_777)));
    assert_eq!(std::fs::read(file.file.path()).unwrap(), b"content");
    let transport = Arc::new(Transport::new(PATIENCE, Proxies::default()));
    assert_eq!(tag(&transport, &wanted).await, file.tag);
    assert!(heads.lock().unwrap()[1].starts_with("HEAD /f HTTP/1.1\r\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_stay_with_the_host() {
    let (other, told) = serve(|_, stream| say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx"));
    let to = format!("HTTP/1.1 302 Found\r\nLocation: http://{other}/y\r\nContent-Length: 0\r\n\r\n");
    let (address, first) = serve(move |_, stream| say(stream, &to));
    let secret = Some("Bearer secret".to_owned());
    let wanted = Wanted { authorization: secret, ..Wanted::new(&format!("http://{address}/x")) };
    fetched(&wanted, PATIENCE).await.unwrap();
    assert!(first.lock().unwrap()[0].contains("authorization: Bearer secret\r\n"));
    assert!(!told.lock().unwrap()[0].contains("secret"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_breaks_begins_again() {
    let count = Mutex::new(0);
    let (address, _) = serve(move |_, stream| {
        let mut count = count.lock().unwrap();
        *count += 1;
        let sent = if *count == 1 { "ha" } else { "whole" };
        say(stream, &format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{sent}"));
    });
    let (file, _dir) = fetched(&Wanted::new(&format!("http://{address}/f")), PATIENCE).await.unwrap();
    assert_eq!(std::fs::read(file.file.path()).unwrap(), b"whole");
}

/// What a fetch fails with.
async fn error_of(
    change: impl FnOnce(&mut Wanted),
    patience: Patience,
    answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static,
) -> Error {
    let (address, _) = serve(answer);
    let mut wanted = Wanted::new(&format!("http://{address}/f"));
    change(&mut wanted);
    let error = fetched(&wanted, patience).await.map(drop).unwrap_err();
    assert!(error.to_string().starts_with(&format!("http://{address}/f: ")), "{error}");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_cannot_ask_for_more() {
    let missing = error_of(
        |_| (),
        PATIENCE,
        |_, stream| {
            say(stream, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        },
    );
    let missing = missing.await;
    assert!(missing.to_string().ends_with(": invalid response status 404"), "{missing}");
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    let endless = error_of(
        |wanted| wanted.limit = 100_000,
        PATIENCE,
        |_, stream| {
            say(stream, "HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 1024]).is_ok() {}
        },
    );
    assert!(endless.await.to_string().ends_with("larger than 100000 bytes"));
    let circle = error_of(
        |_| (),
        PATIENCE,
        |_, stream| {
            say(stream, "HTTP/1.1 302 Found\r\nLocation: /f\r\nContent-Length: 0\r\n\r\n");
        },
    );
    assert!(circle.await.to_string().contains("too many redirects"));
    let file = error_of(
        |_| (),
        PATIENCE,
        |_, stream| {
            say(stream, "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n");
        },
    );
    assert!(file.await.to_string().contains("invalid URL \"file:///etc/passwd\""));
    let silent = error_of(
        |_| (),
        Patience { head: SHORT, ..PATIENCE },
        |_, stream| {
            let _ = stream.read(&mut [0; 64]);
        },
    );
    assert!(silent.await.to_string().contains("no response within"));
    let stalling = error_of(
        |_| (),
        Patience { idle: SHORT, ..PATIENCE },
        |_, stream| {
            say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
            let _ = stream.read(&mut [0; 64]);
        },
    );
    assert!(stalling.await.to_string().contains("no data within"));
}
