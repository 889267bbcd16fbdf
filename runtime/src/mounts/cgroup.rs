//! `type: cgroup`: what a container sees at `/sys/fs/cgroup`.
//!
//! Version 2 is one mount. Version 1 is a tmpfs with one directory per hierarchy (and a link per controller where
//! several share one). With a cgroup namespace each is mounted afresh and shows the container's cgroup as its root;
//! without one, the container's own directory is bound there on version 1, and on version 2 in a user namespace, so the
//! rest of the tree stays out of reach. Elsewhere version 2 without a cgroup namespace shows the host's tree, as runc
//! does, but by a bind: the kernel takes a new mount in the initial cgroup namespace for new options of the whole host
//! (`nsdelegate` would be lost), and waits for a grace period of 10 ms to apply them.

use super::act::{Site, changes};
use super::{MountPlan, source};
use crate::cgroups::View;
use crate::error::{Context, Result};
use crate::safe_path;
use knarr_sys::mount::{self, attr};
use rustix::fs::Mode;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Mounts the view.
pub(crate) fn apply(plan: &MountPlan, site: &mut Site<'_>) -> Result<()> {
    let target = safe_path::make_directories(site.root, &plan.destination, 0o755)?;
    super::proc_guard::check(site.root, &plan.destination, &target, || Ok(false))?;
    let tree = match site.cgroups {
        View::V2 { host: Some(host), .. } => source::bind(host, false)?,
        View::V2 { path, host: None } => unified(plan, path)?,
        View::V1 { hierarchies, namespaced } => return version_1(plan, &target, hierarchies, *namespaced),
    };
    mount::set_attributes(&tree, changes(plan.attributes), false)?;
    Ok(mount::move_to_fd(&tree, &target)?)
}

/// A user namespace without a cgroup namespace may not mount cgroup2: it gets its own directory bound.
fn unified(plan: &MountPlan, own: &Path) -> Result<OwnedFd> {
    match source::new("cgroup2", "cgroup", "", plan.attributes.set) {
        Ok(tree) => Ok(tree),
        Err(error) if matches!(error.errno, Errno::PERM | Errno::BUSY) => source::bind(own, false),
        Err(error) => Err(error.into()),
    }
}

fn version_1(
    plan: &MountPlan,
    target: &OwnedFd,
    hierarchies: &[crate::cgroups::ViewHierarchy],
    namespaced: bool,
) -> Result<()> {
    let writable = plan.attributes.set & !attr::RDONLY;
    let top = source::new("tmpfs", "tmpfs", "mode=755", writable)?;
    mount::move_to_fd(&top, target)?;
    for hierarchy in hierarchies {
        let name = hierarchy.directory.as_str();
        rustix::fs::mkdirat(&top, name, Mode::from_raw_mode(0o755))
            .context(|| format!("mkdirat({name:?})"))?;
        let tree = if namespaced {
            source::new("cgroup", "cgroup", &hierarchy.mount_options, plan.attributes.set)?
        } else {
            source::bind(&hierarchy.path, false)?
        };
        mount::set_attributes(&tree, changes(plan.attributes), false)?;
        mount::move_into(&tree, &top, name)?;
        for link in &hierarchy.links {
            rustix::fs::symlinkat(name, &top, link.as_str()).context(|| format!("symlinkat({link:?})"))?;
        }
    }
    if plan.attributes.set & attr::RDONLY != 0 {
        mount::set_attributes(&top, changes(plan.attributes), false)?;
    }
    Ok(())
}
