//! The log files of a pod on the node, and the links by which log collectors find them. A container's log is `N.log`;
//! what was rotated away lies beside it as `N.log.YYYYMMDD-HHMMSS`, compressed (`.gz`) except for the newest.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A directory of links, and how the names of one pod's links begin.
pub type Links = (PathBuf, String);

/// The rotated files of `log`, oldest first.
pub fn rotated(log: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = beside(log)?;
    files.retain(|file| file.extension().is_none_or(|extension| extension != OsStr::new("tmp")));
    files.sort();
    Ok(files)
}

/// Whether a rotated file is compressed.
pub fn is_compressed(file: &Path) -> bool {
    file.extension() == Some(OsStr::new("gz"))
}

/// Everything that began as `log`.
fn beside(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)) {
            files.push(path);
        }
    }
    Ok(files)
}

/// Removes one container's log, what was rotated from it, and the link to it.
pub fn remove_one(log: &Path, link: &Path) -> io::Result<()> {
    let mut result = gone(link);
    if log.file_name().is_some() {
        for file in beside(log)?.iter().map(PathBuf::as_path).chain([log]) {
            result = result.and(gone(file));
        }
    }
    result
}

fn gone(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a pod's log directory and the links into it.
pub fn remove(logs: &Path, (directory, prefix): &Links) -> io::Result<()> {
    match std::fs::remove_dir_all(logs) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix.as_str()));
        // Another pod's name may begin the same way; where the link leads tells whose it is.
        if named && std::fs::read_link(&path).is_ok_and(|log| log.starts_with(logs)) {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}
