//! One mount of `config.json`, first as a decision, then as an act.
//!
//! A mount is made detached, gets its attributes there and only then is moved onto a descriptor of its place, which
//! `safe_path` found inside the root: no half-configured mount is ever visible and no link can lead it out.

pub(crate) mod act;
pub(crate) mod cgroup;
pub(crate) mod copy_up;
mod locked;
pub(crate) mod long_options;
pub(crate) mod options;
mod proc_guard;
pub(crate) mod source;

use serde::Serialize;
use std::path::PathBuf;

/// What is to be mounted, decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct MountPlan {
    /// Clean, absolute, inside the container.
    pub(crate) destination: PathBuf,
    /// Where the mount comes from.
    pub(crate) source: Source,
    /// The source of a bind mount by its path inside the container, where it lies there: links lead nowhere else.
    pub(crate) source_inside: Option<PathBuf>,
    /// Attributes of this mount alone.
    pub(crate) attributes: Attributes,
    /// Of a bind mount: attributes that its options clear by name.
    pub(crate) cleared: u64,
    /// Of a bind mount: what its source has cannot be taken off, the container has a user namespace.
    pub(crate) locked: bool,
    /// Attributes of this mount and all below it (`rro`, ...).
    pub(crate) recursive_attributes: Attributes,
    /// `MS_*` propagation values, each applied to this mount alone or with all below it, in order.
    pub(crate) propagation: Vec<Propagation>,
    /// A tmpfs starts with a copy of what it covers.
    pub(crate) tmpcopyup: bool,
    /// Read-only once everything in it has been made.
    pub(crate) read_only_later: bool,
    /// Index among the trees the runtime prepares before the clone, where init itself may not open the source.
    pub(crate) prepared: Option<usize>,
}

/// `MOUNT_ATTR_*` to set and to clear.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Attributes {
    /// Bits to set.
    pub(crate) set: u64,
    /// Bits to clear.
    pub(crate) clear: u64,
}

impl MountPlan {
    /// The map that only the runtime can give, of a tree that only init can open: it lies in the root.
    pub(crate) fn mapped_later(&self) -> Option<&IdMap> {
        match (&self.source, self.prepared) {
            (Source::Bind { idmap, .. }, None) => idmap.as_ref(),
            _ => None,
        }
    }
}

impl Attributes {
    /// Nothing to change.
    pub(crate) fn is_empty(self) -> bool {
        self == Attributes::default()
    }
}

/// A change of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub(crate) flag: u64,
    /// Also for all mounts below.
    pub(crate) recursive: bool,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) enum Source {
    /// A file or directory of the host.
    Bind {
        /// Absolute.
        path: PathBuf,
        /// With the mounts below it.
        recursive: bool,
        /// Ids are mapped through a user namespace.
        idmap: Option<IdMap>,
    },
    /// A new file system.
    New {
        /// As in `/proc/filesystems`.
        fs_type: String,
        /// The `source` column of `/proc/mounts`.
        source: String,
        /// Options of the file system itself, separated by commas.
        data: String,
        /// SELinux label of everything in it; empty for none.
        label: String,
    },
    /// The container's view of its cgroups.
    Cgroup,
}

/// The id maps of an idmapped mount.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct IdMap {
    /// Empty together with `gids`: those of the container's own user namespace.
    pub(crate) uids: Vec<crate::spec::IdMapping>,
    /// As above.
    pub(crate) gids: Vec<crate::spec::IdMapping>,
    /// Also for the mounts below.
    pub(crate) recursive: bool,
}
