//! Clients that do not read, do not write, or never end: they cost the server little, and nobody else waits for them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers outside #[test] may panic: that is a failed test

use knarr_tests::bins;
use knarr_tests::eventually::eventually;
use knarr_tests::server::Server;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(40);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WATCHERS: usize = 16;
const ROUNDS: usize = 30;
/// Of one object: all watchers together are sent 16 times 30 times this.
const SIZE: usize = 400 << 10;

/// curl whose output nobody reads: it stops reading when the pipe is full.
struct Deaf(Child);

impl Drop for Deaf {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn send(server: &Server, method: &str, path: &str, object: &Value) -> Value {
    let file = server.file("body.json", &object.to_string());
    let mut curl = server.curl(path);
    curl.args(["-X", method, "-H", "Content-Type: application/json", "--data-binary", &format!("@{file}")]);
    let said = bins::run(&mut curl).ok();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn get(server: &Server, path: &str) -> Value {
    let said = bins::run(&mut server.curl(path)).ok();
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

#[test]
fn watchers_that_never_read_do_not_grow_the_server() {
    let server = Server::start();
    let big =
        |round: usize| json!({"metadata": {"name": "big"}, "data": {"a": round.to_string().repeat(SIZE)}});
    assert_eq!(send(&server, "POST", MAPS, &big(0))["kind"], "ConfigMap");
    let watch = |_| {
        let mut curl = server.curl(&format!("{MAPS}?watch=1&resourceVersion=0"));
        let mut deaf = Deaf(curl.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
        // The watch has begun when something of it has come.
        deaf.0.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
        deaf
    };
    let watchers: Vec<Deaf> = (0..WATCHERS).map(watch).collect();
    let before = server.memory();
    for round in 1..=ROUNDS {
        let digit = round % 10;
        assert_eq!(send(&server, "PUT", &format!("{MAPS}/big"), &big(digit))["kind"], "ConfigMap");
    }
    let grown = server.memory().saturating_sub(before);
    let told = (WATCHERS * ROUNDS * SIZE) as u64;
    // The history that all share, a few batches on their way, and what the sockets hold.
    assert!(grown < told / 3, "{} MiB for {} MiB of events", grown >> 20, told >> 20);
    assert_eq!(get(&server, &format!("{MAPS}/big"))["kind"], "ConfigMap", "others are served");
    drop(watchers);
}

#[test]
fn requests_that_never_end_keep_nobody_waiting() {
    let server = Server::start();
    let address = server.url().trim_start_matches("https://").to_owned();
    // No TLS hello, half of one, and no TLS at all.
    let half = [&b""[..], b"\x16\x03\x01", b"GET / HTTP/1.1\r\n"];
    let open: Vec<TcpStream> = (0..120)
        .map(|index| {
            let mut stream = TcpStream::connect(&address).unwrap();
            // Whoever speaks no TLS may be thrown out at once.
            drop(stream.write_all(half[index % half.len()]));
            stream
        })
        .collect();
    // A body that is announced and does not come.
    let slow: Vec<Deaf> = (0..8)
        .map(|_| {
            let mut curl = server.curl(MAPS);
            curl.args(["-X", "POST", "-H", "Content-Type: application/json", "-H", "Expect:", "-T", "-"]);
            Deaf(curl.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        })
        .collect();
    for round in 0..5 {
        let object = json!({"metadata": {"name": format!("m{round}")}});
        assert_eq!(send(&server, "POST", MAPS, &object)["kind"], "ConfigMap");
    }
    drop((open, slow));
    eventually("the server is well", PATIENCE, || {
        let said = bins::run(&mut server.curl("/readyz")).out;
        if said == "ok" { Ok(()) } else { Err(said) }
    });
}
