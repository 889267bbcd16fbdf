//! Backups: all objects as of one revision, taken while the server runs, in a file that any store can be filled from.
//!
//! The file is lines of JSON: a header with the revision; the cluster's keys and certificates, without which no token
//! and no kubeconfig would be worth anything after a restore; the objects; and an end with the digest of what the
//! server sent, by which a file that was cut off is told from a whole one. It holds every secret of the cluster: it is
//! readable by its owner only.

use crate::server::{Answer, stream_of};
use crate::store::{Embedded, Entry, Revision, Store};
use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::AsyncBufReadExt as _;
use knarr_api::Status;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FORMAT: u64 = 1;
/// A restored store goes on this far after the backup: whoever has seen later revisions of the lost state is told to
/// list again, and none is given twice.
const LEAP: Revision = 1_000_000_000;
/// Pieces of the answer, bytes.
const CHUNK: usize = 64 << 10;

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Number of objects.
    pub objects: u64,
    /// The revision that they were taken at.
    pub revision: u64,
}

/// The answer to `GET /backup`: header, objects, end.
pub(crate) fn stream(store: &dyn Store) -> Result<Answer, Status> {
    let (revision, entries) = store.snapshot().map_err(Status::internal)?;
    let header = format!("{}\n", json!({"knarrBackup": FORMAT, "revision": revision}));
    let mut lines = Lines { entries: entries.into_iter(), digest: Sha256::new(), count: 0, ended: false };
    lines.digest.update(&header);
    Ok(stream_of("application/x-ndjson", std::iter::once(Bytes::from(header)).chain(lines)))
}

/// The lines after the header, in pieces.
struct Lines {
    entries: std::vec::IntoIter<Arc<Entry>>,
    digest: Sha256,
    count: u64,
    ended: bool,
}

impl Iterator for Lines {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut piece = Vec::new();
        while piece.len() < CHUNK {
            let Some(entry) = self.entries.next() else {
                self.ended = true;
                break;
            };
            self.count += 1;
            let key = Value::from(&*entry.key);
            piece.extend_from_slice(
                format!(r#"{{"key":{key},"revision":{},"value":"#, entry.revision).as_bytes(),
            );
            piece.extend_from_slice(&entry.value);
            piece.extend_from_slice(b"}\n");
        }
        self.digest.update(&piece);
        if self.ended {
            let end = json!({"end": self.count, "sha256": hex(&self.digest.clone().finalize())});
            piece.extend_from_slice(format!("{end}\n").as_bytes());
        }
        Some(piece.into())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a backup of the cluster that `client` may administer; `data_dir` is its server's. The file appears when it
/// is whole and on the disk.
pub async fn save(client: &kube::Client, data_dir: &Path, to: &Path) -> anyhow::Result<Summary> {
    let partial = beside(to, "partial");
    let saved = save_to(client, data_dir, &partial).await;
    let summary = match saved {
        Ok(summary) => summary,
        Err(error) => {
            // What matters is why it failed.
            let _ = std::fs::remove_file(&partial);
            return Err(error);
        }
    };
    std::fs::rename(&partial, to).with_context(|| format!("rename to {}", to.display()))?;
    sync_directory(to)?;
    Ok(summary)
}

async fn save_to(client: &kube::Client, data_dir: &Path, partial: &Path) -> anyhow::Result<Summary> {
    let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(partial);
    let mut out = BufWriter::new(file.with_context(|| format!("create {}", partial.display()))?);
    for line in key_files(&data_dir.join("pki"))? {
        writeln!(out, "{line}")?;
    }
    let request = http::Request::get("/backup").body(Vec::new())?;
    let answer = client.request_stream(request).await.context("ask the server for a backup")?;
    let mut lines = std::pin::pin!(answer);
    let mut reader = Reader::default();
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await? > 0 {
        reader.take(&line)?;
        out.write_all(&line)?;
        line.clear();
    }
    let summary = reader.finish()?;
    out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    Ok(summary)
}

/// One line for each file of the cluster's keys.
fn key_files(directory: &Path) -> anyhow::Result<Vec<Value>> {
    let mut lines = Vec::new();
    let files = std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    for file in files {
        let file = file?;
        let content = std::fs::read(file.path())?;
        lines.push(json!({"file": file.file_name().to_string_lossy(), "content": STANDARD.encode(content)}));
    }
    Ok(lines)
}

/// Reads the lines of a backup in order, and knows at the end whether it was whole.
#[derive(Default)]
struct Reader {
    digest: Sha256,
    revision: Option<Revision>,
    objects: u64,
    ended: bool,
}

/// What one line holds.
enum Line {
    Header,
    Key(String, String),
    Object(Entry),
    End,
}

impl Reader {
    fn take(&mut self, line: &[u8]) -> anyhow::Result<Line> {
        ensure!(!self.ended, "the backup goes on after its end");
        let value: Value = serde_json::from_slice(line).context("a line of the backup is no JSON")?;
        if let (Some(name), Some(content)) = (value["file"].as_str(), value["content"].as_str()) {
            let harmless = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
            ensure!(harmless, "the backup names a file {name:?}");
            return Ok(Line::Key(name.to_owned(), String::from_utf8(STANDARD.decode(content)?)?));
        }
        if let Some(end) = value["end"].as_u64() {
            let digest = hex(&std::mem::take(&mut self.digest).finalize());
            ensure!(end == self.objects, "the backup has {} objects of {end}", self.objects);
            ensure!(value["sha256"] == digest, "the backup was changed: its digest is {digest}");
            self.ended = true;
            return Ok(Line::End);
        }
        self.digest.update(line);
        if let Some(format) = value["knarrBackup"].as_u64() {
            ensure!(format == FORMAT, "the backup has format {format}, this version reads {FORMAT}");
            self.revision = value["revision"].as_u64();
            return Ok(Line::Header);
        }
        let (Some(key), Some(revision)) = (value["key"].as_str(), value["revision"].as_u64()) else {
            bail!("a line of the backup is neither header nor object nor end");
        };
        ensure!(
            self.revision.is_some_and(|newest| revision <= newest),
            "{key}: revision {revision} is too new"
        );
        self.objects += 1;
        let bytes = value["value"].to_string();
        Ok(Line::Object(Entry::new(key.into(), revision, bytes.into())))
    }

    fn finish(self) -> anyhow::Result<Summary> {
        ensure!(self.ended, "the backup is cut off");
        Ok(Summary { objects: self.objects, revision: self.revision.context("the backup has no header")? })
    }
}

/// Fills `data_dir` from a backup. Nothing may be there but what `replace` allows to be put aside
/// (`store.redb.before-restore`, `pki.before-restore`). No server may use the directory.
pub fn restore(from: &Path, data_dir: &Path, replace: bool) -> anyhow::Result<Summary> {
    let (store, pki) = (data_dir.join("store.redb"), data_dir.join("pki"));
    for place in [&store, &pki] {
        ensure!(replace || !place.exists(), "{} exists: --force puts it aside", place.display());
    }
    let fresh = (beside(&store, "restoring"), beside(&pki, "restoring"));
    discard(&fresh.0)?;
    discard(&fresh.1)?;
    std::fs::create_dir_all(&fresh.1).with_context(|| format!("create {}", fresh.1.display()))?;
    let summary = fill(from, &fresh.0, &fresh.1)?;
    for (new, place) in [(&fresh.0, &store), (&fresh.1, &pki)] {
        if place.exists() {
            let aside = beside(place, "before-restore");
            discard(&aside)?;
            std::fs::rename(place, &aside)?;
        }
        std::fs::rename(new, place).with_context(|| format!("rename to {}", place.display()))?;
    }
    sync_directory(&store)?;
    Ok(summary)
}

fn fill(from: &Path, store: &Path, pki: &Path) -> anyhow::Result<Summary> {
    let open = || File::open(from).with_context(|| format!("open {}", from.display()));
    let each = |visit: &mut dyn FnMut(Line) -> anyhow::Result<()>| -> anyhow::Result<Summary> {
        let mut reader = Reader::default();
        let mut input = BufReader::new(open()?);
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line)? > 0 {
            visit(reader.take(&line)?)?;
            line.clear();
        }
        reader.finish()
    };
    // Once to see that it is whole, once to use it.
    let summary = each(&mut |line| match line {
        Line::Key(name, content) => crate::pki::write_private(&pki.join(name), &content),
        _ => Ok(()),
    })?;
    let mut entries = Vec::new();
    each(&mut |line| {
        if let Line::Object(entry) = line {
            entries.push(Ok(entry));
        }
        Ok(())
    })?;
    Embedded::fill(store, entries.into_iter(), summary.revision + LEAP)?;
    Ok(summary)
}

/// The path with a further end.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{end}"));
    path.with_file_name(name)
}

fn discard(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn sync_directory(file: &Path) -> anyhow::Result<()> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty());
    Ok(File::open(directory.unwrap_or(Path::new(".")))?.sync_all()?)
}

#[cfg(test)]
mod tests;
