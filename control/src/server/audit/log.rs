//! The file of the audit log: one thread appends the lines; a file that has grown long enough is renamed, and the
//! renamed ones are removed when there are too many or they are too old.

use jiff::{SignedDuration, Timestamp};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Events that wait for the disk before requests do.
const WAITING: usize = 4096;

/// When a log file is put aside. Zero means never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rotation {
    /// Size at which the file is renamed, megabytes.
    pub max_size: u64,
    /// How many renamed ones are kept.
    pub max_backups: usize,
    /// How long they are kept, days.
    pub max_age: i64,
}

/// The way to the writer; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Log {
    lines: mpsc::Sender<String>,
}

impl Log {
    pub(super) fn open(path: &Path, rotation: Rotation) -> anyhow::Result<Self> {
        let (lines, receiver) = mpsc::channel(WAITING);
        let mut sink = Sink::open(path, rotation)?;
        std::thread::Builder::new().name("audit-log".into()).spawn(move || sink.run(receiver))?;
        Ok(Self { lines })
    }

    /// Hands an event over; waits while too many are on their way.
    pub(super) async fn write(&self, line: String) {
        // The writer ends only with this sender.
        let _ = self.lines.send(line).await;
    }

    /// The same where nobody can wait: an event that finds no room is told of in the server's own log.
    pub(super) fn write_now(&self, line: String) {
        if let Err(error) = self.lines.try_send(line) {
            tracing::error!("audit event lost: {error}");
        }
    }
}

struct Sink {
    path: PathBuf,
    rotation: Rotation,
    /// Absent for the standard output.
    file: Option<File>,
    written: u64,
}

impl Sink {
    fn open(path: &Path, rotation: Rotation) -> anyhow::Result<Self> {
        let mut sink = Self { path: path.to_owned(), rotation, file: None, written: 0 };
        if path != Path::new("-") {
            if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
                std::fs::create_dir_all(directory)?;
            }
            sink.reopen()?;
        }
        Ok(sink)
    }

    fn reopen(&mut self) -> std::io::Result<()> {
        // Bodies are in it: secrets too, if the policy says so.
        let file = File::options().create(true).append(true).mode(0o600).open(&self.path)?;
        self.written = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn run(&mut self, mut lines: mpsc::Receiver<String>) {
        while let Some(mut line) = lines.blocking_recv() {
            line.push('\n');
            if let Err(error) = self.append(&line) {
                tracing::error!(path = %self.path.display(), "audit event lost: {error}");
            }
        }
    }

    fn append(&mut self, line: &str) -> std::io::Result<()> {
        let length = line.len() as u64;
        let limit = self.rotation.max_size << 20;
        if limit > 0 && self.file.is_some() && self.written > 0 && self.written + length > limit {
            self.rotate()?;
        }
        match &mut self.file {
            Some(file) => file.write_all(line.as_bytes())?,
            None => std::io::stdout().lock().write_all(line.as_bytes())?,
        }
        self.written += length;
        Ok(())
    }

    /// `audit.log` becomes `audit-2026-11-21T10-11-12.345.log`.
    fn rotate(&mut self) -> std::io::Result<()> {
        let time = Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S%.3f").to_string();
        let (stem, end) = self.name();
        std::fs::rename(&self.path, self.path.with_file_name(format!("{stem}-{time}{end}")))?;
        self.reopen()?;
        self.clean()
    }

    /// The name's part before its end, and the end with its point.
    fn name(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let end = text(self.path.extension());
        let end = if end.is_empty() { end } else { format!(".{end}") };
        (text(self.path.file_stem()), end)
    }

    fn clean(&self) -> std::io::Result<()> {
        let (stem, end) = self.name();
        let directory = self.path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let mut old: Vec<(PathBuf, Timestamp)> = Vec::new();
        for file in std::fs::read_dir(directory.unwrap_or(Path::new(".")))? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let time = name.strip_prefix(&format!("{stem}-")).and_then(|name| name.strip_suffix(&end));
            let time = time
                .and_then(|time| Timestamp::strptime("%Y-%m-%dT%H-%M-%S%.f%z", format!("{time}+0000")).ok());
            if let Some(time) = time {
                old.push((file.path(), time));
            }
        }
        old.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        let age = SignedDuration::from_hours(24 * self.rotation.max_age);
        for (number, (path, time)) in old.into_iter().enumerate() {
            let too_many = self.rotation.max_backups > 0 && number >= self.rotation.max_backups;
            let too_old = !age.is_zero() && Timestamp::now().duration_since(time) > age;
            if too_many || too_old {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_put_aside_and_few_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/audit.log");
        let rotation = Rotation { max_size: 1, max_backups: 2, max_age: 0 };
        let mut sink = Sink::open(&path, rotation).unwrap();
        let line = format!("{}\n", "x".repeat(600_000));
        let count = || std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        for _ in 0..8 {
            let before = count();
            sink.append(&line).unwrap();
            assert!(count() <= before.max(2) + 1);
        }
        assert!(count() <= 3, "the log and two older ones");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 600_001);
    }
}
