//! Which namespaces are made and which are joined, and whether one clone is enough.

use crate::error::{Error, Result};
use crate::spec::{IdMapping, Linux, NamespaceKind, TimeOffset};
use knarr_sys::namespace::Kind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A namespace that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Join {
    pub(crate) kind: NamespaceKind,
    pub(crate) path: PathBuf,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Namespaces {
    /// To be made.
    pub(crate) new: Vec<NamespaceKind>,
    /// To be joined; user first, as it decides what may be done to the others.
    pub(crate) join: Vec<Join>,
    /// Maps of a new user namespace.
    pub(crate) uids: Vec<IdMapping>,
    /// As above.
    pub(crate) gids: Vec<IdMapping>,
    /// Lines for `/proc/self/timens_offsets`.
    pub(crate) time_offsets: Vec<String>,
}

impl Namespaces {
    pub(crate) fn plan(linux: &Linux) -> Result<Self> {
        let mut plan = Namespaces {
            new: vec![],
            join: vec![],
            uids: linux.uid_mappings.clone(),
            gids: linux.gid_mappings.clone(),
            time_offsets: time_offsets(&linux.time_offsets)?,
        };
        for (index, namespace) in linux.namespaces.iter().enumerate() {
            let wrong = |why: &str| Error::invalid(format!("linux.namespaces[{index}]: {why}"));
            if plan.has(namespace.kind) {
                return Err(wrong(&format!("malformed spec file: duplicated ns {:?}", namespace.kind)));
            }
            if namespace.path.is_empty() {
                plan.new.push(namespace.kind);
            } else if namespace.path.starts_with('/') {
                plan.join.push(Join { kind: namespace.kind, path: namespace.path.clone().into() });
            } else {
                return Err(wrong(&format!("path {:?} is not absolute", namespace.path)));
            }
        }
        plan.join.sort_by_key(|join| join.kind != NamespaceKind::User);
        plan.check()?;
        Ok(plan)
    }

    fn check(&self) -> Result<()> {
        let maps = !self.uids.is_empty() || !self.gids.is_empty();
        if maps && !self.has(NamespaceKind::User) {
            return Err(Error::invalid(
                "linux.uidMappings: user namespace mappings specified, but user namespace isn't enabled in the config",
            ));
        }
        if self.new_user() && (self.uids.is_empty() || self.gids.is_empty()) {
            return Err(Error::invalid(
                "linux.uidMappings: a new user namespace needs uidMappings and gidMappings",
            ));
        }
        if !self.time_offsets.is_empty() && !self.new.contains(&NamespaceKind::Time) {
            return Err(Error::invalid("linux.timeOffsets: need a new time namespace"));
        }
        Ok(())
    }

    pub(crate) fn has(&self, kind: NamespaceKind) -> bool {
        self.new.contains(&kind) || self.join.iter().any(|join| join.kind == kind)
    }

    /// A new user namespace is made.
    pub(crate) fn new_user(&self) -> bool {
        self.new.contains(&NamespaceKind::User)
    }

    /// The container is in a user namespace other than ours.
    pub(crate) fn any_user(&self) -> bool {
        self.has(NamespaceKind::User)
    }

    /// `CLONE_NEW*` for the clone itself. A cgroup namespace is made later, by init: its root is the cgroup of whoever
    /// makes it.
    pub(crate) fn clone_flags(&self) -> u64 {
        let kinds = self.new.iter().filter(|kind| **kind != NamespaceKind::Cgroup);
        kinds.fold(0, |flags, kind| flags | sys_kind(*kind).clone_flag())
    }

    /// One clone cannot do it: namespaces belong to the user namespace they are made in, so a joined one must be
    /// entered before; a new user namespace has no rights over namespaces that exist; and the clocks of a time
    /// namespace can only be set before it has a process.
    pub(crate) fn needs_stage(&self) -> bool {
        let joins_user = self.join.iter().any(|join| join.kind == NamespaceKind::User);
        let time = !self.time_offsets.is_empty();
        joins_user || (self.new_user() && !self.join.is_empty()) || time
    }
}

/// The kernel's view of a kind.
pub(crate) fn sys_kind(kind: NamespaceKind) -> Kind {
    match kind {
        NamespaceKind::Pid => Kind::Pid,
        NamespaceKind::Network => Kind::Network,
        NamespaceKind::Ipc => Kind::Ipc,
        NamespaceKind::Uts => Kind::Uts,
        NamespaceKind::Mount => Kind::Mount,
        NamespaceKind::User => Kind::User,
        NamespaceKind::Cgroup => Kind::Cgroup,
        NamespaceKind::Time => Kind::Time,
    }
}

fn time_offsets(offsets: &BTreeMap<String, TimeOffset>) -> Result<Vec<String>> {
    let line = |(clock, offset): (&String, &TimeOffset)| match clock.as_str() {
        "monotonic" | "boottime" => Ok(format!("{clock} {} {}", offset.secs, offset.nanosecs)),
        _ => Err(Error::invalid(format!("linux.timeOffsets: unknown clock {clock:?}"))),
    };
    offsets.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: serde_json::Value) -> Result<Namespaces> {
        Namespaces::plan(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn one_clone_is_enough_unless_user_or_time_namespaces_are_mixed_with_others() {
        for (json, stage) in [
            (serde_json::json!([{"type": "pid"}, {"type": "network", "path": "/x"}]), false),
            (serde_json::json!([{"type": "user", "path": "/x"}, {"type": "mount"}]), true),
            (serde_json::json!([{"type": "time"}, {"type": "mount"}]), false),
        ] {
            assert_eq!(plan(serde_json::json!({"namespaces": json})).unwrap().needs_stage(), stage, "{json}");
        }
        let maps = serde_json::json!([{"containerID": 0, "hostID": 1, "size": 1}]);
        let user = serde_json::json!({"namespaces": [{"type": "user"}, {"type": "mount"}],
            "uidMappings": maps, "gidMappings": maps});
        assert!(!plan(user).unwrap().needs_stage());
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            serde_json::json!({"namespaces": [{"type": "pid"}, {"type": "pid"}]}),
            serde_json::json!({"namespaces": [{"type": "pid", "path": "x"}]}),
            serde_json::json!({"namespaces": [{"type": "user"}]}),
            serde_json::json!({"uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}),
            serde_json::json!({"namespaces": [{"type": "time"}], "timeOffsets": {"realtime": {"secs": 1}}}),
            serde_json::json!({"timeOffsets": {"monotonic": {"secs": 1}}}),
        ] {
            assert!(plan(json.clone()).is_err(), "{json}");
        }
    }

    #[test]
    fn the_cgroup_namespace_is_not_made_by_the_clone() {
        let plan = plan(serde_json::json!({"namespaces": [{"type": "cgroup"}, {"type": "uts"}]})).unwrap();
        assert_eq!(plan.clone_flags(), Kind::Uts.clone_flag());
    }
}
