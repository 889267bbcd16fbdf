//! `/logs/`: the node's log directory, file by file. A path is followed to where it really leads, and only what lies
//! in the directory is shown.

use super::respond::{Body, Refusal, full, text, typed};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use std::io;
use std::path::{Path, PathBuf};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const BLOCK: usize = 64 << 10;
/// Blocks on their way to the client.
const QUEUE: usize = 4;

/// A directory's entries as links, or a file's bytes.
pub(super) async fn answer(root: &Path, parts: &[&str]) -> Result<Response<Body>, Refusal> {
    let root = root.to_path_buf();
    let wanted = parts.iter().fold(root.clone(), |path, part| path.join(part));
    let found = tokio::task::spawn_blocking(move || find(&root, &wanted)).await;
    match found.map_err(Refusal::internal)? {
        Ok(Found::Directory(names)) => {
            Ok(typed(StatusCode::OK, "text/html; charset=utf-8", full(listing(&names))))
        }
        Ok(Found::File(path)) => stream(path).await,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(text(StatusCode::NOT_FOUND, "404 page not found\n"))
        }
        Err(error) => Err(Refusal::new(StatusCode::FORBIDDEN, error.to_string())),
    }
}

enum Found {
    Directory(Vec<String>),
    File(PathBuf),
}

fn find(root: &Path, wanted: &Path) -> io::Result<Found> {
    let (root, path) = (root.canonicalize()?, wanted.canonicalize()?);
    if !path.starts_with(&root) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it leads out of the log directory"));
    }
    if !path.is_dir() {
        return Ok(Found::File(path));
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(Found::Directory(names))
}

fn listing(names: &[String]) -> String {
    let escape = |name: &str| {
        name.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&#34;")
    };
    let lines = names.iter().map(|name| format!("<a href=\"{0}\">{0}</a>\n", escape(name)));
    format!("<pre>\n{}</pre>\n", lines.collect::<String>())
}

async fn stream(path: PathBuf) -> Result<Response<Body>, Refusal> {
    let mut file = tokio::fs::File::open(path).await.map_err(Refusal::internal)?;
    let (sender, blocks) = mpsc::channel::<io::Result<Frame<Bytes>>>(QUEUE);
    tokio::spawn(async move {
        loop {
            let mut block = vec![0; BLOCK];
            // The end is told by the end of the channel; a client that has gone needs nothing more.
            let over = match file.read(&mut block).await {
                Ok(0) => true,
                Ok(count) => {
                    block.truncate(count);
                    sender.send(Ok(Frame::data(block.into()))).await.is_err()
                }
                Err(error) => {
                    // Whether it arrives or not: there is no more to read.
                    let _ = sender.send(Err(error)).await;
                    true
                }
            };
            if over {
                return;
            }
        }
    });
    let body = BodyExt::boxed(StreamBody::new(ReceiverStream::new(blocks)));
    Ok(typed(StatusCode::OK, "text/plain; charset=utf-8", body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_log_directory_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("log");
        std::fs::create_dir_all(root.join("pods")).unwrap();
        std::fs::write(root.join("a<b"), "x").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("out")).unwrap();
        let Ok(Found::Directory(names)) = find(&root, &root) else { panic!("a directory") };
        assert_eq!(names, ["a<b", "out", "pods/"]);
        assert!(listing(&names).contains("<a href=\"a&lt;b\">"));
        assert!(matches!(find(&root, &root.join("a<b")), Ok(Found::File(_))));
        for wanted in ["out", "../..", "pods/../../../etc/passwd"] {
            assert!(find(&root, &root.join(wanted)).is_err(), "{wanted}");
        }
    }
}
