//! Reading a log file that somebody else writes, rotates, compresses and removes.

use flate2::read::MultiGzDecoder;
use rustix::fs::inotify::{CreateFlags, WatchFlags};
use std::io::{self, Read, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

const BLOCK: usize = 32 << 10;

/// A runtime takes milliseconds from the rename to the new file.
const ROTATION_GAP: Duration = Duration::from_secs(1);

/// Decompressed blocks on their way to the reader.
const QUEUE: usize = 4;

/// Where bytes come from.
#[derive(Debug)]
enum Source {
    Plain(File),
    /// What a thread of its own decompresses.
    Compressed(mpsc::Receiver<io::Result<Vec<u8>>>),
}

/// An open log, read line by line.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    source: Source,
    inode: u64,
    buffer: Vec<u8>,
    /// Lines at the beginning that nobody wants.
    skip: u64,
    /// Bytes that are wanted, where it is known how many.
    left: Option<u64>,
    /// The newest of the files that had been rotated before this one was written.
    older_end: PathBuf,
}

impl LogFile {
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path).await?;
        let inode = file.metadata().await?.ino();
        Ok(Self::new(path, Source::Plain(file), inode))
    }

    /// Opens a log that was compressed after its rotation.
    pub(super) async fn open_compressed(path: &Path) -> io::Result<Self> {
        let file = File::open(path).await?;
        let inode = file.metadata().await?.ino();
        let source = Source::Compressed(decompress(file.into_std().await));
        Ok(Self::new(path, source, inode))
    }

    fn new(path: &Path, source: Source, inode: u64) -> Self {
        let (buffer, older_end) = (Vec::new(), PathBuf::new());
        Self { path: path.to_owned(), source, inode, buffer, skip: 0, left: None, older_end }
    }

    /// Says which rotated file came before this one.
    pub(super) fn follows(&mut self, older: PathBuf) {
        self.older_end = older;
    }

    /// Which rotated file came before this one; empty where none did.
    pub(super) fn older_end(&self) -> &Path {
        &self.older_end
    }

    /// Whether `path` leads to this very file.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|found| found.ino() == self.inode)
    }

    /// Opens a log that may be missing for a moment, between the two steps of its rotation.
    pub(super) async fn open_patiently(path: &Path) -> io::Result<Self> {
        let mut watch = Watch::new(path)?;
        let patience = tokio::time::sleep(ROTATION_GAP);
        tokio::pin!(patience);
        loop {
            match Self::open(path).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => tokio::select! {
                    () = watch.changed() => {}
                    () = &mut patience => return Err(error),
                },
                opened => return opened,
            }
        }
    }

    /// Goes to where the last `lines` lines begin; answers how many there are, at most `lines`. What is written after
    /// this call is not read: it would be a line too many.
    pub(super) async fn seek_tail(&mut self, lines: u64) -> io::Result<u64> {
        match &mut self.source {
            Source::Plain(file) => {
                let (found, bytes) = seek_backwards(file, lines).await?;
                self.left = Some(bytes);
                Ok(found)
            }
            Source::Compressed(_) => {
                let path = self.path.clone();
                let count = tokio::task::spawn_blocking(move || count_lines(&path)).await;
                let count = count.map_err(io::Error::other)??;
                self.skip = count.saturating_sub(lines);
                Ok(count.min(lines))
            }
        }
    }

    /// What is written from now on is read too.
    pub(super) fn goes_on(&mut self) {
        self.left = None;
    }

    /// Whole lines that are there now; `false` at the end of the file.
    pub(super) async fn read_lines(&mut self, mut line: impl FnMut(&[u8])) -> io::Result<bool> {
        let before = self.buffer.len();
        match &mut self.source {
            Source::Plain(file) => {
                let room = self
                    .left
                    .and_then(|left| usize::try_from(left).ok())
                    .map_or(BLOCK, |left| left.min(BLOCK));
                self.buffer.resize(before + room, 0);
                let count = file.read(self.buffer.get_mut(before..).unwrap_or_default()).await?;
                self.left = self.left.map(|left| left - count as u64);
                self.buffer.truncate(before + count);
            }
            Source::Compressed(blocks) => {
                if let Some(block) = blocks.recv().await {
                    self.buffer.extend_from_slice(&block?);
                }
            }
        }
        let more = self.buffer.len() > before;
        let whole = self.buffer.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for text in self.buffer.get(..whole).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            if self.skip > 0 {
                self.skip -= 1;
            } else {
                line(text.strip_suffix(b"\n").unwrap_or(text));
            }
        }
        self.buffer.drain(..whole);
        Ok(more)
    }

    /// The path leads to another file now: a rotation has happened, and nothing more comes to this one.
    pub(super) async fn is_rotated(&self) -> bool {
        tokio::fs::metadata(&self.path).await.is_ok_and(|now| now.ino() != self.inode)
    }
}

/// Reads backwards from the end to where the last `lines` lines begin: how many there are, and of how many bytes.
async fn seek_backwards(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let end = file.metadata().await?.len();
    let mut position = end;
    let mut block = vec![0; BLOCK];
    // The line before the tail ends at the end of line number `lines` + 1 from behind.
    let mut ends = 0;
    while position > 0 {
        let length = usize::try_from(position).unwrap_or(BLOCK).min(BLOCK);
        position -= length as u64;
        file.seek(SeekFrom::Start(position)).await?;
        let block = block.get_mut(..length).unwrap_or_default();
        file.read_exact(block).await?;
        let mut line_ends = block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        if let Some((offset, _)) = line_ends.find(|_| {
            ends += 1;
            ends > lines
        }) {
            position += offset as u64 + 1;
            break;
        }
    }
    file.seek(SeekFrom::Start(position)).await?;
    Ok((ends.min(lines), end - position))
}

fn count_lines(path: &Path) -> io::Result<u64> {
    let mut decoder = MultiGzDecoder::new(std::fs::File::open(path)?);
    let mut block = vec![0; BLOCK];
    let mut lines = 0;
    loop {
        match decoder.read(&mut block)? {
            0 => return Ok(lines),
            count => lines += block[..count].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

/// Decompresses as fast as the reader takes it; ends when the reader has gone.
fn decompress(file: std::fs::File) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, blocks) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let mut decoder = MultiGzDecoder::new(file);
        loop {
            let mut block = vec![0; BLOCK];
            let read = decoder.read(&mut block);
            let over = !matches!(read, Ok(1..));
            let told = match read {
                Ok(0) => return,
                Ok(count) => {
                    block.truncate(count);
                    sender.blocking_send(Ok(block))
                }
                Err(error) => sender.blocking_send(Err(error)),
            };
            if over || told.is_err() {
                return;
            }
        }
    });
    blocks
}

/// Tells when something happens in a log's directory.
#[derive(Debug)]
pub(super) struct Watch {
    events: pipe::Receiver,
}

impl Watch {
    pub(super) fn new(log: &Path) -> io::Result<Self> {
        let inotify = rustix::fs::inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let directory = log.parent().unwrap_or(Path::new("/"));
        let what = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        rustix::fs::inotify::add_watch(&inotify, directory, what)?;
        // An inotify descriptor is read like a pipe.
        Ok(Self { events: pipe::Receiver::from_owned_fd_unchecked(inotify)? })
    }

    /// Resolves when something has happened since the last call; safe to cancel.
    pub(super) async fn changed(&mut self) {
        let mut events = [0; 4096];
        // Only that something happened counts. On an error the caller's own timer goes on.
        if self.events.read(&mut events).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn tail(text: &str, lines: u64) -> String {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(&path, text).unwrap();
        let mut log = LogFile::open(&path).await.unwrap();
        log.seek_tail(lines).await.unwrap();
        let mut shown = Vec::new();
        while log.read_lines(|line| shown.push(String::from_utf8(line.to_vec()).unwrap())).await.unwrap() {}
        shown.join(" ")
    }

    #[tokio::test]
    async fn a_tail_ends_where_it_was_looked_for_unless_it_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        for (follows, expected) in [(false, "b"), (true, "b c")] {
            std::fs::write(&path, "a\nb\n").unwrap();
            let mut log = LogFile::open(&path).await.unwrap();
            assert_eq!(log.seek_tail(1).await.unwrap(), 1);
            if follows {
                log.goes_on();
            }
            std::fs::write(&path, "a\nb\nc\n").unwrap();
            let mut shown = Vec::new();
            while log.read_lines(|line| shown.push(String::from_utf8(line.to_vec()).unwrap())).await.unwrap()
            {
            }
            assert_eq!(shown.join(" "), expected);
        }
    }

    #[tokio::test]
    async fn the_tail_begins_at_a_line() {
        assert_eq!(tail("a\nb\nc\n", 2).await, "b c");
        assert_eq!(tail("a\nb\nc\n", 0).await, "");
        assert_eq!(tail("a\nb\nc\n", 3).await, "a b c");
        assert_eq!(tail("a\nb\nc\n", 99).await, "a b c");
        assert_eq!(tail("", 5).await, "");
        let long: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(tail(&long, 1).await, "line 19999");
        assert_eq!(tail(&long, 10_000).await.split(' ').nth(1), Some("10000"));
    }

    #[tokio::test]
    async fn a_rotation_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        std::fs::write(&path, "a\n").unwrap();
        let log = LogFile::open(&path).await.unwrap();
        let mut watch = Watch::new(&path).unwrap();
        assert!(!log.is_rotated().await);
        std::fs::rename(&path, directory.path().join("0.log.old")).unwrap();
        std::fs::write(&path, "b\n").unwrap();
        watch.changed().await;
        assert!(log.is_rotated().await);
    }
}
