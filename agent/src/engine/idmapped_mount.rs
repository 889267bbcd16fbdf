//! The root file system of a pod with a user namespace: files keep the owners the image gave them on disk, and are seen
//! with the pod's ids.
//!
//! The kernel shows a file system under other ids by an idmapped mount. It cannot do so for an overlay as a whole, but
//! for each read-only directory an overlay is made of. Those mounts are needed only while the overlay is being made: it
//! keeps private copies of them. The writable directory is not mapped (the overlay itself, which works there as the
//! host's root, would have no id in it): what the pod writes has the pod's ids on disk.

use super::failures::Failures;
use super::pod_user::IdMaps;
use anyhow::Context;
use knarr_images::Mount as ImageMount;
use knarr_runtime::spec;
use knarr_sys::{mount, namespace};
use rustix::fs::CWD;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Mounts what an image store hands out at `target`, seen through `user_namespace`, which has `maps`. `scratch` is a directory for the
/// mounts in between. Blocking.
pub(crate) fn mount_at(
    given: &ImageMount,
    target: &Path,
    user_namespace: &Path,
    maps: &IdMaps,
    scratch: &Path,
) -> anyhow::Result<()> {
    let user = namespace::open(user_namespace)?;
    if given.fs_type != "overlay" {
        given.mount_at(target)?;
        return shift(target, &user);
    }
    give_upper(given, maps)?;
    let mut parts = Parts { scratch: scratch.to_owned(), made: Vec::new() };
    let made = parts.overlay(given, &user).and_then(|overlay| Ok(overlay.mount_at(target)?));
    let mut failures = Failures::default();
    failures.note("mounting the root file system", made);
    failures.note("removing the mounts it was made of", parts.remove());
    failures.into_result()
}

/// The writable directory is the root directory that the pod sees, so it belongs to whom the image says, as the pod
/// counts. One that was given away already stays as it is.
fn give_upper(overlay: &ImageMount, maps: &IdMaps) -> anyhow::Result<()> {
    let option = overlay.options.iter().find_map(|option| option.strip_prefix("upperdir="));
    let Some(upper) = option.and_then(|option| split(option).into_iter().next()) else { return Ok(()) };
    let now = std::fs::metadata(&upper).with_context(|| format!("looking at {upper}"))?;
    let given =
        |id: u32, map: &spec::IdMapping| if id < map.size { map.host_id.checked_add(id) } else { None };
    let (uid, gid) = (given(now.uid(), &maps.uids), given(now.gid(), &maps.gids));
    if now.uid() >= maps.uids.host_id && now.gid() >= maps.gids.host_id {
        return Ok(());
    }
    std::os::unix::fs::chown(&upper, uid, gid).with_context(|| format!("changing the owner of {upper}"))
}

/// Puts an idmapped copy of the mount at `target` in its place.
fn shift(target: &Path, user: &File) -> anyhow::Result<()> {
    let tree = mount::clone_tree(CWD, target, false)?;
    mount::set_idmap(&tree, user.as_fd(), false)
        .with_context(|| format!("idmapped mount of {}", target.display()))?;
    ImageMount::unmount(target)?;
    Ok(mount::move_to_path(&tree, target)?)
}

/// The directories of an overlay, each mounted with other ids.
struct Parts {
    scratch: PathBuf,
    made: Vec<PathBuf>,
}

impl Parts {
    fn overlay(&mut self, given: &ImageMount, user: &File) -> anyhow::Result<ImageMount> {
        let mut overlay = given.clone();
        for option in &mut overlay.options {
            if let Some(lowers) = option.strip_prefix("lowerdir=") {
                let shifted: Vec<String> =
                    split(lowers).iter().map(|lower| self.add(lower, user)).collect::<anyhow::Result<_>>()?;
                *option = format!("lowerdir={}", shifted.join(":"));
            }
        }
        Ok(overlay)
    }

    fn add(&mut self, directory: &str, user: &File) -> anyhow::Result<String> {
        let place = self.scratch.join(self.made.len().to_string());
        std::fs::create_dir_all(&place)?;
        let tree = mount::clone_tree(CWD, directory, false)?;
        mount::set_idmap(&tree, user.as_fd(), false)
            .with_context(|| format!("idmapped mount of {directory}: its file system does not support it"))?;
        mount::move_to_path(&tree, &place)?;
        self.made.push(place.clone());
        Ok(place.to_string_lossy().into_owned())
    }

    fn remove(&self) -> anyhow::Result<()> {
        let mut failures = Failures::default();
        for place in &self.made {
            failures.note("unmounting", ImageMount::unmount(place));
            failures.note("removing", std::fs::remove_dir(place));
        }
        failures.into_result()?;
        match std::fs::remove_dir(&self.scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Paths separated by `:`; a backslash makes the next character an ordinary one.
fn split(list: &str) -> Vec<String> {
    let mut paths = vec![String::new()];
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        match (character, paths.last_mut()) {
            (':', _) => paths.push(String::new()),
            ('\\', Some(path)) => path.extend(characters.next()),
            (_, Some(path)) => path.push(character),
            (_, None) => {}
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_where_the_separator_is_one() {
        assert_eq!(split("/a:/b"), ["/a", "/b"]);
        assert_eq!(split(r"/a\:b:/c\\d"), ["/a:b", r"/c\d"]);
    }
}
