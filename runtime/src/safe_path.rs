//! Paths inside a root filesystem, which its owner may rearrange while we look.
//!
//! Everything is resolved by the kernel, with the root's descriptor as `/` (openat2, `RESOLVE_IN_ROOT`), and what comes
//! back is a descriptor that is used from then on. A path is never checked and walked again. Magic links (those in
//! `/proc/PID/fd`) would lead out and are refused.

use crate::error::{Context, Error, Kind, Result};
use knarr_sys::error::Call;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// What openat2 may answer when somebody renames things meanwhile; it asks to be called again.
const RETRIES: u32 = 128;

/// As many links as the kernel itself follows.
const MAX_LINKS: u32 = 40;

/// Opens what `path` names with `root` as `/`.
pub(crate) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> knarr_sys::Result<OwnedFd> {
    open_with(root, path, flags, Mode::empty())
}

fn open_with(root: BorrowedFd<'_>, path: &Path, flags: OFlags, mode: Mode) -> knarr_sys::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < RETRIES => tries += 1,
            result => {
                return result
                    .call(|| format!("openat2(<rootfs>, {path:?}, RESOLVE_IN_ROOT|RESOLVE_NO_MAGICLINKS)"));
            }
        }
    }
}

/// A descriptor that only stands for the place, following a symbolic link at the end.
pub(crate) fn find(root: BorrowedFd<'_>, path: &Path) -> knarr_sys::Result<OwnedFd> {
    open(root, path, OFlags::PATH)
}

/// The directory at `path`, made with its parents where missing. A dangling link is followed and its target made.
pub(crate) fn make_directories(root: BorrowedFd<'_>, path: &Path, mode: u32) -> Result<OwnedFd> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match make_directories_once(root, &path, mode)? {
            Made::Place(directory) => return Ok(directory),
            Made::DanglingLink(target) => path = target,
        }
    }
    Err(Error::new(Kind::Os, format!("{path:?}: too many levels of symbolic links")))
}

fn make_directories_once(root: BorrowedFd<'_>, path: &Path, mode: u32) -> Result<Made> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open(root, path, flags) {
        Ok(found) => return Ok(Made::Place(found)),
        Err(error) if error.errno == Errno::NOENT => {}
        Err(error) => return Err(error.into()),
    }
    let names = names(path)?;
    // Nearly always only the last one is missing, so the deepest that exists is looked for from the end.
    let mut existing = names.len();
    let mut here = loop {
        existing = existing.saturating_sub(1);
        match open(root, &absolute(names.get(..existing)), flags) {
            Ok(found) => break found,
            Err(error) if error.errno == Errno::NOENT && existing > 0 => {}
            Err(error) => return Err(error.into()),
        }
    };
    for (index, name) in names.iter().enumerate().skip(existing) {
        match make_directory(here.as_fd(), name, mode)? {
            Made::Place(made) => here = made,
            Made::DanglingLink(target) => {
                let rest: PathBuf = names.iter().skip(index + 1).collect();
                return Ok(Made::DanglingLink(absolute(names.get(..index)).join(target).join(rest)));
            }
        }
    }
    Ok(Made::Place(here))
}

fn absolute(names: Option<&[&OsStr]>) -> PathBuf {
    std::iter::once(OsStr::new("/")).chain(names.unwrap_or_default().iter().copied()).collect()
}

/// What making one thing led to.
enum Made {
    Place(OwnedFd),
    /// The name is taken by a symbolic link to nowhere; this is its text.
    DanglingLink(PathBuf),
}

/// One directory in one that is already open, so nothing in between can be swapped for a link.
fn make_directory(parent: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<Made> {
    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) => {}
        Err(Errno::EXIST) => {
            if let Some(target) = link_text(parent, name) {
                return Ok(Made::DanglingLink(target));
            }
        }
        Err(errno) => return Err(errno).context(|| format!("mkdirat(<rootfs>, {name:?})")),
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty());
    opened.map(Made::Place).context(|| format!("openat(<rootfs>, {name:?})"))
}

fn link_text(parent: BorrowedFd<'_>, name: &OsStr) -> Option<PathBuf> {
    let text = rustix::fs::readlinkat(parent, name, Vec::new()).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(text.into_bytes())))
}

/// The file at `path`, made (empty) with its parents where missing; whatever is there already will do. A dangling link
/// is followed and its target made: images link `/etc/resolv.conf` to places that only exist at run time.
pub(crate) fn make_file(root: BorrowedFd<'_>, path: &Path, mode: u32) -> Result<OwnedFd> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match find(root, &path) {
            Ok(found) => return Ok(found),
            Err(error) if error.errno == Errno::NOENT => {}
            Err(error) => return Err(error.into()),
        }
        let (parent, name) = make_parent(root, &path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(mode)) {
            Ok(_) => {}
            Err(Errno::EXIST) => {
                if let Some(target) = link_text(parent.as_fd(), &name) {
                    path = path.parent().unwrap_or(Path::new("/")).join(target);
                }
            }
            Err(errno) => {
                return Err(errno).context(|| format!("openat(<rootfs>, {path:?}, O_CREAT|O_EXCL)"));
            }
        }
    }
    Err(Error::new(Kind::Os, format!("{path:?}: too many levels of symbolic links")))
}

/// The directory that holds `path`, made where missing, and the last name.
pub(crate) fn make_parent(root: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, std::ffi::OsString)> {
    let parts = names(path)?;
    let Some((last, parents)) = parts.split_last() else {
        return Err(Error::invalid(format!("path {path:?} has no last component")));
    };
    Ok((make_directories(root, &absolute(Some(parents)), 0o755)?, (*last).to_os_string()))
}

/// The plain names of a path; `..` beyond the root stays at the root, as in the kernel.
fn names(path: &Path) -> Result<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir => {}
            Component::Prefix(_) => return Err(Error::invalid(format!("path {path:?} has a prefix"))),
        }
    }
    Ok(names)
}

/// A path without `.`, `..` and doubled slashes, absolute.
pub(crate) fn clean(path: &str) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            _ => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let dir = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        (dir, fd)
    }

    #[test]
    fn clean_stays_below_the_root() {
        for (given, expected) in [("", "/"), ("a/../b//c/.", "/b/c"), ("/../../x", "/x"), ("/a/./b/..", "/a")]
        {
            assert_eq!(clean(given), Path::new(expected), "{given:?}");
        }
    }

    #[test]
    fn links_lead_to_places_inside() {
        let (dir, fd) = root();
        symlink("/", dir.path().join("abs")).unwrap();
        symlink("../../../../..", dir.path().join("up")).unwrap();
        for path in ["abs/made", "up/made2"] {
            make_directories(fd.as_fd(), Path::new(path), 0o755).unwrap();
        }
        assert!(dir.path().join("made").is_dir());
        assert!(dir.path().join("made2").is_dir());
        assert!(!Path::new("/made").exists());
    }

    #[test]
    fn files_are_made_with_their_parents_and_found_again() {
        let (dir, fd) = root();
        make_file(fd.as_fd(), Path::new("/a/b/c"), 0o644).unwrap();
        std::fs::write(dir.path().join("a/b/c"), "x").unwrap();
        make_file(fd.as_fd(), Path::new("/a/b/c"), 0o644).unwrap();
        assert_eq!(std::fs::read(dir.path().join("a/b/c")).unwrap(), b"x");
    }

    #[test]
    fn the_target_of_a_dangling_link_is_made_inside() {
        let (dir, fd) = root();
        symlink("/outside/target", dir.path().join("file")).unwrap();
        symlink("../../../outside/dir", dir.path().join("dir")).unwrap();
        make_file(fd.as_fd(), Path::new("/file"), 0o644).unwrap();
        make_directories(fd.as_fd(), Path::new("/dir/sub"), 0o755).unwrap();
        assert!(dir.path().join("outside/target").is_file());
        assert!(dir.path().join("outside/dir/sub").is_dir());
        assert!(!Path::new("/outside").exists());
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let (dir, fd) = root();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert!(make_file(fd.as_fd(), Path::new("/a"), 0o644).is_err());
        assert!(make_directories(fd.as_fd(), Path::new("/a/x"), 0o755).is_err());
    }

    #[test]
    fn magic_links_are_refused() {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let error = find(root.as_fd(), Path::new("/proc/self/exe")).unwrap_err();
        assert_eq!(error.errno, Errno::LOOP);
    }
}
