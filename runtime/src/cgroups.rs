//! Control groups: where a container's are, what is written to them, and how they are frozen, read and removed.
//!
//! `layout` finds out what this host has (version 1, version 2, or both side by side), `v1` and `v2` turn limits into
//! plain lists of files and values, and `control` carries such lists out. Only with `--systemd-cgroup` a daemon is asked.

pub(crate) mod control;
pub(crate) mod device_filter;
pub(crate) mod devices;
pub(crate) mod layout;
pub(crate) mod path;
pub(crate) mod stats;
pub(crate) mod v1;
pub(crate) mod v2;

use crate::systemd::Scope;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The cgroups of one container, as kept in its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cgroups {
    /// One directory, or one per version 1 hierarchy.
    pub(crate) directories: Vec<Directory>,
    /// Version 2 alone.
    pub(crate) unified: bool,
    /// systemd made it and is asked to end it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<Scope>,
}

/// One cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Directory {
    /// Version 1 controllers, or the name of a hierarchy without any (`name=systemd`); empty for version 2, which may
    /// also stand beside version 1.
    pub(crate) controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub(crate) mount: PathBuf,
    /// The cgroup itself, absolute on the host.
    pub(crate) path: PathBuf,
}

impl Cgroups {
    /// The version 2 directory, alone or beside version 1. A process is cloned into it, never moved.
    pub(crate) fn version_2(&self) -> Option<&Directory> {
        self.directories.iter().find(|directory| directory.controllers.is_empty())
    }

    /// The directory where a version 1 controller is, or the only one.
    pub(crate) fn directory(&self, controller: &str) -> Option<&PathBuf> {
        let found =
            self.directories.iter().find(|d| self.unified || d.controllers.iter().any(|c| c == controller));
        found.map(|directory| &directory.path)
    }
}

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Write {
    /// The version 1 controller; empty for version 2.
    pub(crate) controller: String,
    /// File name in the cgroup.
    pub(crate) file: String,
    /// What is written.
    pub(crate) value: String,
}

impl Write {
    /// A write for a version 1 controller.
    pub(crate) fn new(controller: &str, file: impl Into<String>, value: impl ToString) -> Self {
        Write { controller: controller.into(), file: file.into(), value: value.to_string() }
    }
}

/// What a container sees of its cgroups.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) enum View {
    /// One tree.
    V2 {
        /// The container's cgroup on the host.
        path: PathBuf,
        /// Where the host has the tree, if that is what is shown.
        host: Option<PathBuf>,
    },
    /// A directory per hierarchy.
    V1 {
        /// In the order of the host.
        hierarchies: Vec<ViewHierarchy>,
        /// There is a cgroup namespace.
        namespaced: bool,
    },
}

/// One version 1 hierarchy, as seen inside.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ViewHierarchy {
    /// Name below `/sys/fs/cgroup`.
    pub(crate) directory: String,
    /// Options to mount it by.
    pub(crate) mount_options: String,
    /// The container's cgroup on the host.
    pub(crate) path: PathBuf,
    /// Controllers that share it and get a link.
    pub(crate) links: Vec<String>,
}

/// The view of these cgroups.
pub(crate) fn view(cgroups: &Cgroups, namespaced: bool, own_users: bool) -> View {
    if let (true, Some(only)) = (cgroups.unified, cgroups.directories.first()) {
        let host = (!namespaced && !own_users).then(|| only.mount.clone());
        return View::V2 { path: only.path.clone(), host };
    }
    // The version 2 tree of a hybrid host has nothing to show.
    let version_1 = cgroups.directories.iter().filter(|directory| !directory.controllers.is_empty());
    let hierarchies = version_1.map(view_of).collect();
    View::V1 { hierarchies, namespaced }
}

fn view_of(directory: &Directory) -> ViewHierarchy {
    let name =
        directory.mount.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let links =
        directory.controllers.iter().filter(|c| !c.starts_with("name=") && **c != name).cloned().collect();
    // A hierarchy without controllers is mounted by its name and needs `none`.
    let named = directory.controllers.iter().any(|c| c.starts_with("name="));
    let options = directory.controllers.join(",");
    let mount_options = if named { format!("none,{options}") } else { options };
    ViewHierarchy { directory: name, mount_options, path: directory.path.clone(), links }
}
