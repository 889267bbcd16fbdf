//! Where events are written down, for there is no daemon that could tell them: an append-only file with a bound.
//!
//! ```text
//! DATA_DIR/events/log      one JSON document a line; the newest at the end
//! DATA_DIR/events/log.1    what was in it before it was full
//! DATA_DIR/events/lock     held by who writes, and shared by who opens both
//! ```
//!
//! Whoever does something writes its event in one piece, once it is done. Nothing is synced: after a power cut the last
//! events may be missing. A line that cannot be read is none.

use super::event::{Event, Kind};
use crate::settings::Settings;
use anyhow::Context;
use rustix::fs::inotify;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{DirBuilder, File};
use std::io::{BufRead, BufReader, ErrorKind, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Bytes of one file; there are two at most.
const LIMIT: u64 = 1 << 20;

/// The journal of one data directory.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    directory: PathBuf,
    limit: u64,
}

impl Journal {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self { directory: settings.node.data_dir.join("events"), limit: LIMIT }
    }

    /// Writes one down. What happened has happened, also where it cannot be written down.
    pub(crate) fn note(&self, event: &Event) {
        let locked = self.open_lock().and_then(|lock| lock.lock().context("lock the events").map(|()| lock));
        if let Err(error) = locked.and_then(|_lock| self.append(event)) {
            tracing::warn!("an event was not written down: {error:#}");
        }
    }

    /// The same for an image.
    pub(crate) fn image(&self, action: &str, id: &str, name: &str) {
        let name = [("name".to_owned(), name.to_owned())];
        self.note(&Event::now(Kind::Image, action, id, BTreeMap::from(name)));
    }

    /// The same for a volume.
    pub(crate) fn volume(&self, action: &str, name: &str) {
        let driver = [("driver".to_owned(), "local".to_owned())];
        self.note(&Event::now(Kind::Volume, action, name, BTreeMap::from(driver)));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn open_lock(&self) -> anyhow::Result<File> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.with_context(|| format!("mkdir {}", self.directory.display()))?;
        let path = self.path("lock");
        let opened = File::options().create(true).truncate(false).write(true).open(&path);
        opened.with_context(|| format!("open {}", path.display()))
    }

    /// Writes events down unless somebody has done so: who comes first makes the file. Answers whether it was us.
    pub(crate) fn once(&self, marker: &Path, events: &[Event]) -> anyhow::Result<bool> {
        let lock = self.open_lock()?;
        // Whoever finds the file can rely on what it stands for.
        lock.lock().context("lock the events")?;
        match File::create_new(marker) {
            Ok(_) => events.iter().try_for_each(|event| self.append(event)).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).with_context(|| format!("create {}", marker.display())),
        }
    }

    /// The caller holds the lock.
    fn append(&self, event: &Event) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let path = self.path("log");
        let opened = File::options().create(true).append(true).open(&path);
        let mut log = opened.with_context(|| format!("open {}", path.display()))?;
        if log.metadata()?.len() >= self.limit {
            std::fs::rename(&path, self.path("log.1")).context("put the events aside")?;
            log = File::options().create(true).append(true).open(&path)?;
        }
        log.write_all(&line).with_context(|| format!("write {}", path.display()))
    }

    /// Reads from the beginning, or only what comes from now on.
    pub(crate) fn read(&self, from_now: bool) -> anyhow::Result<Reader> {
        let lock = self.open_lock()?;
        lock.lock_shared().context("lock the events")?;
        let open = |name: &str| match File::open(self.path(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("open {}", self.path(name).display())),
        };
        let mut files: Vec<File> = open("log.1")?.into_iter().chain(open("log")?).collect();
        if from_now {
            files.drain(..files.len().saturating_sub(1));
            files.iter_mut().try_for_each(|file| file.seek(SeekFrom::End(0)).map(drop))?;
        }
        let files = files.into_iter().map(BufReader::new).collect();
        Ok(Reader { journal: self.clone(), files, partial: Vec::new() })
    }

    /// Becomes readable with every change.
    pub(super) fn watch(&self) -> anyhow::Result<OwnedFd> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = inotify::init(flags).context("inotify_init1")?;
        let changes =
            inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&watch, &self.directory, changes)
            .with_context(|| format!("watch {}", self.directory.display()))?;
        Ok(watch)
    }
}

/// A place in the journal.
#[derive(Debug)]
pub(crate) struct Reader {
    journal: Journal,
    /// The first is being read.
    files: VecDeque<BufReader<File>>,
    /// The beginning of a line that is being written.
    partial: Vec<u8>,
}

impl Reader {
    /// The next event; none where there is none yet.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Event>> {
        loop {
            if let Some(file) = self.files.front_mut() {
                file.read_until(b'\n', &mut self.partial).context("read the events")?;
                if self.partial.ends_with(b"\n") {
                    let line = std::mem::take(&mut self.partial);
                    match serde_json::from_slice(&line) {
                        Ok(event) => return Ok(Some(event)),
                        Err(_) => continue,
                    }
                }
            }
            if !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// To the next file, when this one is read and gets no more, or on where more came; false where there is nothing.
    fn go_on(&mut self) -> anyhow::Result<bool> {
        if self.files.len() >= 2 {
            self.files.pop_front();
            self.partial.clear();
            return Ok(true);
        }
        let lock = self.journal.open_lock()?;
        lock.lock_shared().context("lock the events")?;
        let Ok(newest) = File::open(self.journal.path("log")) else { return Ok(false) };
        let there = newest.metadata()?;
        let here = self.files.front().map(|file| file.get_ref().metadata()).transpose()?;
        if here.is_some_and(|here| (here.dev(), here.ino()) == (there.dev(), there.ino())) {
            return Ok(self.position()? < there.len());
        }
        // What came to this one before it was put aside is read first.
        self.files.push_back(BufReader::new(newest));
        Ok(true)
    }

    fn position(&mut self) -> anyhow::Result<u64> {
        self.files.front_mut().map_or(Ok(0), |file| Ok(file.stream_position()?))
    }
}

/// Forgets what a watch has seen, so that it becomes readable with the next change.
pub(super) fn drain(watch: &OwnedFd) {
    let mut buffer = [0u8; 4096];
    while rustix::io::read(watch, &mut buffer).is_ok_and(|count| count > 0) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(directory: &Path, limit: u64) -> Journal {
        Journal { directory: directory.join("events"), limit }
    }

    fn names(reader: &mut Reader) -> Vec<String> {
        std::iter::from_fn(|| reader.next().unwrap()).map(|event| event.actor.id).collect()
    }

    #[test]
    fn what_is_written_is_read_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let journal = journal(directory.path(), LIMIT);
        assert_eq!(names(&mut journal.read(false).unwrap()), [""; 0]);
        journal.volume("create", "a");
        let (mut all, mut new) = (journal.read(false).unwrap(), journal.read(true).unwrap());
        assert_eq!((names(&mut all), names(&mut new)), (vec!["a".to_owned()], vec![]));
        journal.volume("destroy", "b");
        assert_eq!((names(&mut all), names(&mut new)), (vec!["b".to_owned()], vec!["b".to_owned()]));
    }

    #[test]
    fn a_full_file_is_put_aside_and_readers_go_on() {
        let directory = tempfile::tempdir().unwrap();
        let journal = journal(directory.path(), 1000);
        let mut reader = journal.read(true).unwrap();
        let mut seen = Vec::new();
        for number in 0..50 {
            journal.volume("create", &number.to_string());
            if number % 3 == 0 {
                seen.extend(names(&mut reader));
            }
        }
        seen.extend(names(&mut reader));
        assert_eq!(seen, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
        let size = |name: &str| std::fs::metadata(journal.path(name)).unwrap().len();
        assert!(size("log") < 1300 && size("log.1") < 1300);
        let kept = names(&mut journal.read(false).unwrap());
        assert!(kept.len() < 20 && kept.last().unwrap() == "49", "{kept:?}");
    }

    #[test]
    fn a_broken_line_is_none_and_half_a_line_waits() {
        let directory = tempfile::tempdir().unwrap();
        let journal = journal(directory.path(), LIMIT);
        journal.volume("create", "a");
        let log = journal.path("log");
        let whole = std::fs::read(&log).unwrap();
        std::fs::write(&log, [b"nonsense\n", &whole[..20]].concat()).unwrap();
        let mut reader = journal.read(false).unwrap();
        assert_eq!(names(&mut reader), [""; 0]);
        File::options().append(true).open(&log).unwrap().write_all(&whole[20..]).unwrap();
        assert_eq!(names(&mut reader), ["a"]);
    }
}
