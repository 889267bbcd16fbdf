//! Where in the cgroup tree a container goes: below the parent that the kubelet made for the pod.

use super::Input;

/// Relative to each hierarchy's root, `PARENT/CONTAINER_ID`; in a slice, `SLICE:knarr:CONTAINER_ID`.
pub(super) fn path(input: &Input<'_>) -> String {
    super::super::cgroups::cgroups_path(&input.sandbox.cgroup_parent, input.id)
}
