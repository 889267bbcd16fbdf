//! Removes a tree of any depth with few descriptors.
//!
//! `std::fs::remove_dir_all` keeps one descriptor open per level, so a layer of a thousand nested directories could
//! never be removed again. Only for trees that nobody else writes to: the way up is `..`.

use crate::error::{Error, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Removes what is at this path, whatever it is. Nothing there is no error.
pub(crate) fn remove_path(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Err(Error::invalid("cannot remove the root")) };
    let name = path.file_name().unwrap_or_default();
    match rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(parent) => remove_at(&parent, std::os::unix::ffi::OsStrExt::as_bytes(name)),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(Error::path("open", parent, error)),
    }
}

/// The same, beneath a directory.
pub(crate) fn remove_at(parent: impl AsFd, name: &[u8]) -> Result<()> {
    match unlinkat(&parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(failed("unlink", name, error)),
    }
    empty(open_dir(&parent, name)?)?;
    rmdir(parent, name)
}

fn failed(call: &str, name: &[u8], error: Errno) -> Error {
    Error::io(format_args!("{call} {}", String::from_utf8_lossy(name)), error)
}

fn open_dir(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(|error| failed("open", name, error))
}

fn rmdir(parent: impl AsFd, name: &[u8]) -> Result<()> {
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(failed("rmdir", name, error)),
    }
}

/// Empties a directory depth first: `pending` holds, per level, the subdirectories that are still to be emptied.
fn empty(top: OwnedFd) -> Result<()> {
    let mut current = top;
    let mut pending: Vec<Vec<CString>> = vec![unlink_files(&current)?];
    while let Some(level) = pending.last_mut() {
        match level.last() {
            Some(name) => {
                current = open_dir(&current, name.to_bytes())?;
                pending.push(unlink_files(&current)?);
            }
            None => {
                pending.pop();
                let Some(name) = pending.last_mut().and_then(Vec::pop) else { break };
                current = open_dir(&current, b"..")?;
                rmdir(&current, name.to_bytes())?;
            }
        }
    }
    Ok(())
}

/// Unlinks everything that is no directory and answers the directories.
fn unlink_files(dir: &OwnedFd) -> Result<Vec<CString>> {
    let mut directories = Vec::new();
    for entry in Dir::read_from(dir).map_err(|e| failed("readdir", b".", e))? {
        let entry = entry.map_err(|e| failed("readdir", b".", e))?;
        let name = entry.file_name();
        match (name.to_bytes(), entry.file_type()) {
            (b"." | b"..", _) => {}
            (_, FileType::Directory) => directories.push(name.to_owned()),
            (bytes, _) => match unlinkat(dir, bytes, AtFlags::empty()) {
                Err(Errno::ISDIR) => directories.push(name.to_owned()),
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failed("unlink", bytes, error)),
            },
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_what_is_deeper_than_any_descriptor_limit() {
        let dir = tempfile::tempdir().unwrap();
        let root = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        let mut level = rustix::fs::openat(&root, ".", OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..1500 {
            rustix::fs::mkdirat(&level, "d", Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&level, "e", Mode::RWXU).unwrap();
            level = open_dir(&level, b"d").unwrap();
        }
        remove_at(&root, b"d").unwrap();
        remove_at(&root, b"e").unwrap();
        remove_at(&root, b"e").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
