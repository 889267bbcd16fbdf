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
    /// Sent after the body: what is too large to be held in one piece.
    pub(crate) then: Vec<Arc<Vec<u8>>>,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self { status, headers: Vec::new(), length: body.len(), body, then: Vec::new() }
    }

    /// A body in pieces.
    pub(crate) fn pieces(pieces: Vec<Arc<Vec<u8>>>) -> Self {
        let length = pieces.iter().map(|piece| piece.len()).sum();
        Self { length, then: pieces, ..Self::new(200, "") }
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
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) layer: Vec<u8>,
    /// Left out of the config where it is empty.
    pub(crate) diff_id: String,
    pub(crate) size: Option<u64>,
    pub(crate) digest: Option<String>,
}

impl Content {
    /// Files that do not compress, so that the layer has about this many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(bytes)
        .collect();
        Self::files(&[("etc/motd", &b"hello\n"[..]), ("noise", &noise)])
    }

    /// These files.
    pub(crate) fn files(files: &[(&str, &[u8])]) -> Self {
        let tar = archive(files);
        Self::packed(&tar, gzip(&tar))
    }

    /// An archive, packed somehow.
    pub(crate) fn packed(tar: &[u8], layer: Vec<u8>) -> Self {
        Self { layer, diff_id: sha256(tar), size: None, digest: None }
    }
}

/// An uncompressed archive of files.
pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// One gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
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
        Self::start_all(&[content], script)
    }

    /// The same for an image of several layers, the lowest first.
    pub(crate) fn start_all(
        layers: &[Content],
        script: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let blobs = blobs(layers);
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
fn blobs(layers: &[Content]) -> HashMap<String, Vec<u8>> {
    let quoted = |content: &Content| format!("\"{}\"", content.diff_id);
    let diff_ids: Vec<String> =
        layers.iter().filter(|content| !content.diff_id.is_empty()).map(quoted).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let mut blobs = HashMap::new();
    let mut descriptors = Vec::new();
    for content in layers {
        let digest = content.digest.clone().unwrap_or_else(|| sha256(&content.layer));
        let size = content.size.unwrap_or(content.layer.len() as u64);
        descriptors.push(format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{size}}}"#
        ));
        blobs.insert(format!("/v2/repo/blobs/{digest}"), content.layer.clone());
    }
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
        "layers":[{}]}}"#,
        sha256(config.as_bytes()),
        config.len(),
        descriptors.join(",")
    );
    blobs.insert(format!("/v2/repo/blobs/{}", sha256(config.as_bytes())), config.into_bytes());
    blobs
        .insert(format!("/v2/repo/manifests/{}", sha256(manifest.as_bytes())), manifest.clone().into_bytes());
    blobs.insert("/v2/repo/manifests/1".to_owned(), manifest.into_bytes());
    blobs
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
    let mut pieces = answer.then.iter().map(|piece| &piece[..]);
    // A client that has heard enough hangs up.
    let _ = stream
        .write_all(format!("{head}\r\n").as_bytes())
        .and_then(|()| stream.write_all(&answer.body))
        .and_then(|()| pieces.try_for_each(|piece| stream.write_all(piece)));
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
    let path = request.path.split('?').next().unwrap_or_default();
    let Some(bytes) = blobs.get(path) else {
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
