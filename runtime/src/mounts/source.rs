//! The detached tree behind a mount: cloned from a path of the host, or made by a file system.

use super::{IdMap, Source};
use crate::error::{Context, Result};
use crate::id_map;
use knarr_sys::error::Call;
use knarr_sys::mount::{FsContext, clone_tree, set_idmap};
use rustix::fs::{CWD, XattrFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// A copy of the tree at a path of the host.
pub(crate) fn bind(path: &Path, recursive: bool) -> Result<OwnedFd> {
    Ok(clone_tree(CWD, path, recursive)?)
}

/// What only the runtime, which has all privileges over the host's file systems, can open. `container` is a user
/// namespace with the container's maps.
pub(crate) fn prepare(source: &Source, container: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let Source::Bind { path, recursive, idmap } = source else {
        return Err(crate::error::Error::invalid("only a bind mount can be prepared"));
    };
    let tree = bind(path, *recursive)?;
    if let Some(map) = idmap {
        map_ids(tree.as_fd(), map, container)
            .context(|| format!("failed to set MOUNT_ATTR_IDMAP on {}", path.display()))?;
    }
    Ok(tree)
}

/// Maps the ids of a detached tree.
pub(crate) fn map_ids(tree: BorrowedFd<'_>, map: &IdMap, container: Option<BorrowedFd<'_>>) -> Result<()> {
    match (own_namespace(map)?, container) {
        (Some(own), _) => Ok(set_idmap(tree, own.as_fd(), map.recursive)?),
        (None, Some(container)) => Ok(set_idmap(tree, container, map.recursive)?),
        (None, None) => Err(crate::error::Error::invalid("idmap mounts need a mapping or a user namespace")),
    }
}

fn own_namespace(map: &IdMap) -> Result<Option<OwnedFd>> {
    if map.uids.is_empty() && map.gids.is_empty() {
        return Ok(None);
    }
    id_map::namespace_with(&map.uids, &map.gids).map(Some)
}

/// A new instance of a file system, detached.
pub(crate) fn new(fs_type: &str, source: &str, data: &str, attributes: u64) -> knarr_sys::Result<OwnedFd> {
    new_labelled(fs_type, source, data, attributes, "")
}

/// The same with a SELinux label for everything in it. A label may hold commas, so it is not one of the options.
pub(crate) fn new_labelled(
    fs_type: &str,
    source: &str,
    data: &str,
    attributes: u64,
    label: &str,
) -> knarr_sys::Result<OwnedFd> {
    let context = FsContext::open(fs_type)?;
    if !source.is_empty() {
        context.set("source", source)?;
    }
    context.set_options(data)?;
    if label.is_empty() {
        return context.create(attributes);
    }
    // A message queue takes no such option: its root gets the label instead.
    let queue = fs_type == "mqueue";
    if !queue {
        context.set("context", label)?;
    }
    let tree = context.create(attributes)?;
    if queue {
        let root = format!("/proc/self/fd/{}", tree.as_raw_fd());
        rustix::fs::setxattr(&root, "security.selinux", label.as_bytes(), XattrFlags::empty())
            .call(|| format!("setxattr(<mqueue>, \"security.selinux\", {label:?})"))?;
    }
    Ok(tree)
}
