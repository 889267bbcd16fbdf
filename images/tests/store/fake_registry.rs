//! A registry that misbehaves as told: it serves one image and asks a script how to answer each request.

use flate2::Compression;
use flate2::write::GzEncoder;
use knarr_images::Digest;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What a client asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the host that a request to a proxy names.
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What it gets.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Sent under this length; fewer bytes are a broken connection.
    pub(crate) length: usize,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), length: body.len(), body }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The connection breaks after so many bytes.
    pub(crate) fn cut(mut self, after: usize) -> Self {
        self.body.truncate(after);
        self
    }
}

type Script = Box<dyn Fn(&Request, Answer) -> Answer + Send + Sync>;

/// One layer of files, as a registry has it.
pub(crate) struct Content {
    pub(crate) layer: Vec<u8>,
    pub(crate) diff_id: String,
    pub(crate) size: Option<u64>,
    pub(crate) digest: Option<String>,
}

impl Content {
    /// Files that do not compress, so that the layer has about this many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        let mut builder = tar::Builder::new(Vec::new());
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(bytes)
        .collect();
        for (name, data) in [("etc/motd", &b"hello\n"[..]), ("noise", &noise)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(data.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, data).unwrap();
        }
        let tar = builder.into_inner().unwrap();
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&tar).unwrap();
        let diff_id = Digest::parse(&sha256(&tar)).unwrap().to_string();
        Self { layer: gzip.finish().unwrap(), diff_id, size: None, digest: None }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

/// Serves `repo:1` until the test ends.
pub(crate) struct FakeRegistry {
    pub(crate) address: String,
    /// Of `repo:1`.
    pub(crate) manifest: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl FakeRegistry {
    /// `script` sees each request with the answer an honest registry would give.
    pub(crate) fn start(
        content: Content,
        script: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let blobs = blobs(&content);
        let manifest = sha256(&blobs["/v2/repo/manifests/1"]);
        let (log, script): (_, Script) = (seen.clone(), Box::new(script));
        let shared = Arc::new((blobs, script, log));
        // The thread ends with the test process; every test has its own port.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                std::thread::spawn(move || serve(&stream.unwrap(), &shared.0, &shared.1, &shared.2));
            }
        });
        Self { address, manifest, seen }
    }

    pub(crate) fn name(&self) -> String {
        format!("{}/repo:1", self.address)
    }

    /// Requests whose path holds this.
    pub(crate) fn requests(&self, part: &str) -> Vec<Request> {
        self.seen.lock().unwrap().iter().filter(|request| request.path.contains(part)).cloned().collect()
    }
}

/// Path to bytes.
fn blobs(content: &Content) -> HashMap<String, Vec<u8>> {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        content.diff_id
    );
    let digest = content.digest.clone().unwrap_or_else(|| sha256(&content.layer));
    let size = content.size.unwrap_or(content.layer.len() as u64);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{size}}}]}}"#,
        sha256(config.as_bytes()),
        config.len()
    );
    HashMap::from([
        (format!("/v2/repo/blobs/{}", sha256(config.as_bytes())), config.into_bytes()),
        (format!("/v2/repo/blobs/{digest}"), content.layer.clone()),
        ("/v2/repo/manifests/1".to_owned(), manifest.into_bytes()),
    ])
}

fn serve(stream: &TcpStream, blobs: &HashMap<String, Vec<u8>>, script: &Script, log: &Mutex<Vec<Request>>) {
    let Some(request) = hear(stream) else { return };
    log.lock().unwrap().push(request.clone());
    let answer = script(&request, honest(&request, blobs));
    let mut head =
        format!("HTTP/1.1 {} X\r\nconnection: close\r\ncontent-length: {}\r\n", answer.status, answer.length);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream;
    // A client that has heard enough hangs up.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| stream.write_all(&answer.body));
}

/// Reads one request; none where the client only looked whether somebody is there.
fn hear(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = reader.by_ref().lines();
    let first = lines.next()?.ok()?;
    let (method, rest) = first.split_once(' ')?;
    let target = rest.split(' ').next()?;
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map(|at| rest[at..].to_owned())?,
        None => target.to_owned(),
    };
    let headers: HashMap<String, String> = lines
        .map_while(|line| line.ok().filter(|line| !line.is_empty()))
        .filter_map(|line| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned())))
        .collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { method: method.to_owned(), path, headers, body })
}

fn honest(request: &Request, blobs: &HashMap<String, Vec<u8>>) -> Answer {
    let Some(bytes) = blobs.get(&request.path) else {
        return Answer::new(404, r#"{"errors":[{"code":"NAME_UNKNOWN","message":"unknown"}]}"#);
    };
    let range = request
        .headers
        .get("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    match range {
        Some(start) => Answer::new(206, &bytes[start..]),
        None => Answer::new(200, &bytes[..]),
    }
}
