//! Changes of a directory, as the kernel tells them (inotify): when to look again, and which files left meanwhile.
//!
//! Who only looks does not notice a file that is removed and put back between two looks; its pod was to end all the
//! same. An event is `{watch: i32, mask: u32, cookie: u32, length: u32, name: [u8; length]}`, the name filled up with
//! zeros.

use inotify::{EventMask, Inotify, WatchMask};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;

/// Changes come in bursts; they are read together.
const SETTLE: Duration = Duration::from_millis(100);
const HEADER: usize = 16;

/// A watched directory.
#[derive(Debug)]
pub(super) struct Changes {
    /// An inotify descriptor is read like a pipe.
    events: Receiver,
    left: BTreeSet<OsString>,
}

impl Changes {
    pub(super) fn of(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mask = WatchMask::CREATE
            | WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE
            | WatchMask::ATTRIB;
        inotify.watches().add(directory, mask)?;
        Ok(Self { events: Receiver::from_owned_fd_unchecked(inotify.into())?, left: BTreeSet::new() })
    }

    /// Returns a moment after something changed. Nothing is lost where this is given up.
    pub(super) async fn wait(&mut self) -> io::Result<()> {
        self.events.readable().await?;
        tokio::time::sleep(SETTLE).await;
        let mut buffer = [0; 4096];
        loop {
            match self.events.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => self.left.extend(departures(buffer.get(..length).unwrap_or_default())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The names of the files that left the directory since this was asked last. They may be there again.
    pub(super) fn take_left(&mut self) -> BTreeSet<OsString> {
        std::mem::take(&mut self.left)
    }
}

/// The names in those events that tell of a departure.
fn departures(mut events: &[u8]) -> Vec<OsString> {
    let mut found = Vec::new();
    while let Some(header) = events.first_chunk::<HEADER>() {
        let word = |at: usize| {
            header.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
        };
        let (mask, end) = (EventMask::from_bits_retain(word(4)), HEADER.saturating_add(word(12) as usize));
        let name = events.get(HEADER..end).unwrap_or_default();
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        if mask.intersects(EventMask::MOVED_FROM | EventMask::DELETE) {
            found.push(OsStr::from_bytes(name).to_owned());
        }
        events = events.get(end..).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    #[tokio::test]
    async fn files_that_left_are_named_also_if_they_are_there_again() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        for name in ["stays", "moves", "is-removed", "returns", "is-replaced"] {
            fs::write(file(name), "old").unwrap();
        }
        let mut changes = Changes::of(directory.path()).unwrap();
        fs::write(file("stays"), "new").unwrap();
        fs::rename(file("moves"), file("moved")).unwrap();
        fs::remove_file(file("is-removed")).unwrap();
        fs::rename(file("returns"), file("away")).unwrap();
        fs::rename(file("away"), file("returns")).unwrap();
        fs::write(file("new"), "new").unwrap();
        fs::rename(file("new"), file("is-replaced")).unwrap();
        changes.wait().await.unwrap();
        let expected = ["away", "is-removed", "moves", "new", "returns"].map(OsString::from);
        assert_eq!(changes.take_left(), expected.into());
        assert_eq!(changes.take_left(), BTreeSet::new(), "each is told once");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = departures(&bytes);
        }
    }
}
