//! Stands between an agent and its API server and writes down the method and the path of every request: a relay of
//! HTTP/1.1 that passes on each byte as it is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What has been asked so far: `GET /api/v1/nodes/n?x=y`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Requests(Arc<Mutex<Vec<String>>>);

impl Requests {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, line: &str) {
        let words: Vec<&str> = line.split(' ').take(2).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(words.join(" "));
    }
}

/// Listens on a free port of `address` and passes everything on to `upstream`, for as long as the test runs.
pub(crate) fn start(address: &str, upstream: SocketAddr) -> (u16, Requests) {
    let listener = TcpListener::bind((address, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let requests = Requests::default();
    let noted = requests.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let noted = noted.clone();
            // A connection that breaks is the client's to notice.
            thread::spawn(move || pass(client, upstream, &noted));
        }
    });
    (port, requests)
}

fn pass(client: TcpStream, upstream: SocketAddr, requests: &Requests) -> std::io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        // Either end may close at any time.
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
    let ended = pass_requests(BufReader::new(client), &server, requests);
    server.shutdown(std::net::Shutdown::Both)?;
    ended
}

/// Heads are read line by line, bodies by their length (ours never come in chunks).
fn pass_requests(
    mut client: BufReader<TcpStream>,
    mut server: &TcpStream,
    requests: &Requests,
) -> std::io::Result<()> {
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if client.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if head.is_empty() {
                requests.note(&line);
            }
            let lower = line.to_ascii_lowercase();
            assert!(!lower.starts_with("transfer-encoding:"), "a body in chunks: {head}");
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        server.write_all(head.as_bytes())?;
        std::io::copy(&mut client.by_ref().take(length), &mut server)?;
    }
}
