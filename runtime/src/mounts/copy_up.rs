//! `tmpcopyup`: a fresh tmpfs starts with a copy of the directory it covers (files, directories, links; owners, modes).

use crate::error::{Context, Error, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use std::ffi::CStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// An image can nest directories as deep as it likes; our stack is not that deep.
const MAX_DEPTH: u32 = 256;

/// Copies the contents of one open directory into another.
pub(crate) fn directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::invalid("directories are nested too deeply"));
    }
    for entry in rustix::fs::Dir::read_from(from).context(|| "getdents")? {
        let entry = entry.context(|| "getdents")?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth).context(|| format!("{name:?}"))?;
        }
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<()> {
    let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).context(|| "fstatat")?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700)).context(|| "mkdirat")?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = rustix::fs::openat(from, name, flags, Mode::empty()).context(|| "openat")?;
            let target = rustix::fs::openat(to, name, flags, Mode::empty()).context(|| "openat")?;
            directory(source.as_fd(), target.as_fd(), depth + 1)?;
        }
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(from, name, Vec::new()).context(|| "readlinkat")?;
            rustix::fs::symlinkat(&text, to, name).context(|| "symlinkat")?;
        }
        FileType::RegularFile => copy_file(from, to, name)?,
        kind => {
            let mode = Mode::from_raw_mode(stat.st_mode);
            rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev).context(|| "mknodat")?;
        }
    }
    keep_owner(to, name, &stat)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mut source =
        std::fs::File::from(rustix::fs::openat(from, name, read, Mode::empty()).context(|| "openat")?);
    let target = rustix::fs::openat(to, name, write, Mode::from_raw_mode(0o600)).context(|| "openat")?;
    let mut target = std::fs::File::from(target);
    let mut buffer = [0_u8; 65536];
    loop {
        match source.read(&mut buffer).context(|| "read")? {
            0 => return Ok(()),
            length => target.write_all(buffer.get(..length).unwrap_or_default()).context(|| "write")?,
        }
    }
}

/// Owner first: changing it clears the set-id bits of the mode.
fn keep_owner(to: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).context(|| "fchownat")?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Ok(());
    }
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    rustix::fs::chmodat(to, name, mode, AtFlags::empty()).context(|| "fchmodat")
}
