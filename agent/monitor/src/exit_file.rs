//! How a container ended, on disk until it is forgotten.
//!
//! The file is written before anybody is told, and appears whole (rename), so an engine that was away, or a monitor
//! that dies right after, loses nothing.

use crate::protocol::KEPT;
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// How a container or an exec ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The process' status, or 128 + signal.
    pub code: i32,
    /// The kernel's OOM killer struck in the container's cgroup.
    pub oom_killed: bool,
    /// Nanoseconds since the epoch.
    pub finished_at: i64,
    /// Killed by its own timeout.
    pub timed_out: bool,
}

/// The directory of exit files below a monitor's directory.
pub const EXITS: &str = "exits";

/// Reads a container's exit, if it was recorded.
pub fn read(directory: &Path, container_id: &str) -> io::Result<Option<Exit>> {
    match std::fs::read(path(directory, container_id)?) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Records a container's exit.
pub fn write(directory: &Path, container_id: &str, exit: &Exit) -> io::Result<()> {
    let path = path(directory, container_id)?;
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, serde_json::to_vec(exit).map_err(io::Error::other)?)?;
    std::fs::rename(unfinished, path)
}

/// Removes a container's exit, and the note by which a monitor would adopt it. Either may be absent.
pub fn forget(directory: &Path, container_id: &str) -> io::Result<()> {
    let exit = path(directory, container_id)?;
    let note = directory.join(KEPT).join(exit.file_name().unwrap_or_default());
    for file in [exit, note] {
        match std::fs::remove_file(file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Ids become file names, so an id that could leave the directory is refused.
fn path(directory: &Path, container_id: &str) -> io::Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if container_id.is_empty() || container_id.starts_with('.') || !container_id.chars().all(plain) {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            format!("invalid container id {container_id:?}"),
        ));
    }
    Ok(directory.join(EXITS).join(format!("{container_id}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_kept_until_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join(EXITS)).unwrap();
        let exit =
            Exit { code: 137, oom_killed: true, finished_at: 1_700_000_000_000_000_001, timed_out: false };
        assert_eq!(read(directory.path(), "c1").unwrap(), None);
        write(directory.path(), "c1", &exit).unwrap();
        assert_eq!(read(directory.path(), "c1").unwrap(), Some(exit));
        forget(directory.path(), "c1").unwrap();
        forget(directory.path(), "c1").unwrap();
        assert_eq!(read(directory.path(), "c1").unwrap(), None);
    }

    #[test]
    fn an_id_cannot_leave_the_directory() {
        for id in ["", "../x", "a/b", ".hidden", "nul\0"] {
            assert!(read(Path::new("/nonexistent"), id).is_err(), "{id:?}");
        }
    }
}
