//! Where files of the host are in a container, for criu: it knows mounts by the places where they are, a configuration by
//! names, which links of the image may lead elsewhere.
//!
//! A dump looks where each mount is, and that its source is what is there: a container that moved its links about must not
//! get one mount with the rights of another. A restore makes the places, those on other mounts too.

use crate::error::{Context, Error, Result};
use crate::mounts::{MountPlan, Source, options};
use crate::plan::Step;
use crate::plan::rootfs::inside;
use crate::safe_path;
use crate::spec::{Mount, Spec};
use knarr_sys::mount;
use rustix::fs::{CWD, Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A file or directory of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    /// The place, without links.
    pub(crate) inside: PathBuf,
    pub(crate) outside: PathBuf,
}

/// Those of a running container, whose root the host has at `rootfs`.
pub(crate) fn of_running(pid: i32, spec: &Spec, rootfs: &Path, bundle: &Path) -> Result<Vec<Bound>> {
    let root = open_root(Path::new(&format!("/proc/{pid}/root")))?;
    let binds = spec.mounts.iter().filter(|mount| is_bind(mount));
    let bound = |mount: &Mount| {
        let named = inside(&mount.destination, rootfs);
        let outside = bundle.join(&mount.source);
        Ok(Bound { inside: seen(root.as_fd(), &named, &outside)?, outside })
    };
    binds.map(bound).collect()
}

fn is_bind(mount: &Mount) -> bool {
    mount.fs_type == "bind" || options::parse(&mount.options).bind
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).context(|| format!("open {}", path.display()))
}

/// Where a mount is that the configuration names so.
fn seen(root: BorrowedFd<'_>, named: &Path, source: &Path) -> Result<PathBuf> {
    // Nothing there any more: criu will say what it makes of it.
    let Ok(found) = safe_path::find(root, named) else { return Ok(named.into()) };
    let place = real(root, found.as_fd())?;
    if place == named || is_same(found.as_fd(), source) {
        return Ok(place);
    }
    Err(Error::invalid(format!(
        "{}: links lead to {}, which is not its mount",
        named.display(),
        place.display()
    )))
}

fn is_same(found: BorrowedFd<'_>, source: &Path) -> bool {
    let key = |stat: rustix::fs::Stat| (stat.st_dev, stat.st_ino);
    let (inside, outside) = (rustix::fs::fstat(found), rustix::fs::stat(source));
    matches!((inside, outside), (Ok(inside), Ok(outside)) if key(inside) == key(outside))
}

/// The path of what was found below a root, as seen from there.
fn real(root: BorrowedFd<'_>, found: BorrowedFd<'_>) -> Result<PathBuf> {
    let path = |fd: BorrowedFd<'_>| {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        std::fs::read_link(&link).context(|| format!("readlink {link}"))
    };
    let (top, place) = (path(root)?, path(found)?);
    let below = place.strip_prefix(&top);
    below
        .map(|below| Path::new("/").join(below))
        .map_err(|_| Error::invalid(format!("{} is not below {}", place.display(), top.display())))
}

/// Makes the places that the image does not have, each with the binds before it mounted, for it may lie on one. They stay
/// mounted. What is on a tmpfs comes out of the images.
pub(crate) fn make(root: &Path, steps: &[Step]) -> Result<Vec<Bound>> {
    let root = open_root(root)?;
    let mounts: Vec<&MountPlan> =
        steps.iter().filter_map(|step| if let Step::Mount(m) = step { Some(m) } else { None }).collect();
    let mut all = Vec::new();
    for planned in &mounts {
        let made = if is_in_memory(&mounts, &planned.destination) {
            planned.destination.clone()
        } else {
            make_one(root.as_fd(), planned)?
        };
        if let Source::Bind { path, .. } = &planned.source {
            all.push(Bound { inside: made, outside: path.clone() });
        }
    }
    Ok(all)
}

fn is_in_memory(mounts: &[&MountPlan], path: &Path) -> bool {
    let below = |place: &Path| path != place && path.starts_with(place);
    mounts.iter().any(|planned| {
        matches!(&planned.source, Source::New { fs_type, .. } if fs_type == "tmpfs")
            && below(&planned.destination)
    })
}

fn make_one(root: BorrowedFd<'_>, planned: &MountPlan) -> Result<PathBuf> {
    let destination = &planned.destination;
    let (path, recursive) = match &planned.source {
        Source::Cgroup => return Ok(destination.clone()),
        Source::New { .. } => {
            safe_path::make_directories(root, destination, 0o755)?;
            return Ok(destination.clone());
        }
        Source::Bind { path, recursive, .. } => (path, *recursive),
    };
    let made = match path.exists() && !path.is_dir() {
        true => safe_path::make_file(root, destination, 0o755)?,
        false => safe_path::make_directories(root, destination, 0o755)?,
    };
    let place = real(root, made.as_fd())?;
    mount::move_to_fd(mount::clone_tree(CWD, path, recursive)?, &made)?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_place_is_found_through_links_only_where_its_source_is() {
        let root = tempfile::tempdir().unwrap();
        for name in ["real/conf", "other"] {
            std::fs::create_dir_all(root.path().join(name)).unwrap();
        }
        symlink("/real/conf", root.path().join("conf")).unwrap();
        symlink("real", root.path().join("way")).unwrap();
        let fd = open_root(root.path()).unwrap();
        let place = |named: &str, source: &str| {
            seen(fd.as_fd(), Path::new(named), &root.path().join(source)).map_err(|error| error.to_string())
        };
        assert_eq!(place("/conf", "real/conf"), Ok("/real/conf".into()));
        assert_eq!(place("/way/conf", "real/conf"), Ok("/real/conf".into()));
        assert_eq!(place("/other", "real/conf"), Ok("/other".into()), "its source may have been replaced");
        assert_eq!(place("/gone", "other"), Ok("/gone".into()));
        assert_eq!(
            place("/conf", "other"),
            Err("/conf: links lead to /real/conf, which is not its mount".to_owned())
        );
    }
}
