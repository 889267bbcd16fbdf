//! The log files of a pod on the node, and the links by which log collectors find them.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// A directory of links, and how the names of one pod's links begin.
pub type Links = (PathBuf, String);

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
