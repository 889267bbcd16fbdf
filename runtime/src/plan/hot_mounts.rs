//! `mounts add` and `mounts remove`: mounts in a container that runs, made by a helper that joins its namespaces.
//!
//! The steps are those that made the container's own mounts, so everything that holds for them (places are found beneath
//! the root, sources are opened by the runtime, nothing is visible half-configured) holds for these.

use super::{ExecTarget, Namespaces, Options, Plan, Step, rootfs};
use crate::error::{Error, Result};
use crate::safe_path::clean;
use crate::spec::{Hooks, Mount, NamespaceKind, Spec};
use std::path::{Path, PathBuf};

impl Plan {
    /// Mounts these in the container of `target`, whose configuration is `spec`.
    pub(crate) fn add_mounts(target: &ExecTarget<'_>, spec: &Spec, mounts: &[Mount]) -> Result<Plan> {
        let mut prepared = vec![];
        let given = Spec { mounts: mounts.to_vec(), ..spec.clone() };
        let namespaces = Namespaces {
            uids: target.linux.uid_mappings.clone(),
            gids: target.linux.gid_mappings.clone(),
            ..Namespaces::default()
        };
        // The helper cannot see the host any more: all sources are opened before it is made.
        let command = Options { bundle: target.bundle.clone(), prepare_all: true, ..Options::default() };
        let wanted = rootfs::mounts(&given, &command, &namespaces, &mut prepared)?;
        let mut plan = helper(target, namespaces, !prepared.is_empty(), wanted);
        plan.prepared = prepared;
        Ok(plan)
    }

    /// Takes what is mounted at these places off again.
    pub(crate) fn remove_mounts(target: &ExecTarget<'_>, mounts: &[Mount]) -> Result<Plan> {
        let place = |(index, mount): (usize, &Mount)| match clean(&mount.destination) {
            path if path == Path::new("/") => {
                Err(Error::invalid(format!("mounts[{index}]: the root of the container cannot be unmounted")))
            }
            path => Ok(Step::Unmount(path)),
        };
        // The last one may be on top of those before.
        let wanted = mounts.iter().enumerate().rev().map(place).collect::<Result<_>>()?;
        Ok(helper(target, Namespaces::default(), false, wanted))
    }
}

fn helper(target: &ExecTarget<'_>, namespaces: Namespaces, prepare: bool, wanted: Vec<Step>) -> Plan {
    let mut steps = Vec::new();
    steps.extend(prepare.then_some(Step::PrepareMounts));
    let own_pids = target.has(NamespaceKind::Pid);
    steps.extend(own_pids.then(|| Step::EnterPidNamespace { user: target.enters_user_first() }));
    steps.push(Step::Clone { flags: 0, into_cgroup: false });
    steps.push(Step::AwaitInit);
    steps.push(Step::JoinContainer { flags: target.join_flags() });
    steps.extend(target.has(NamespaceKind::User).then_some(Step::BecomeRoot));
    steps.extend((!target.has(NamespaceKind::Mount)).then_some(Step::EnterRoot));
    steps.push(Step::OpenJoinedRoot);
    steps.extend(wanted);
    steps.push(Step::Finish);
    Plan {
        id: target.id.into(),
        bundle: PathBuf::new(),
        rootfs: PathBuf::new(),
        namespaces,
        cgroups: target.cgroups.clone(),
        resctrl: None,
        prepared: vec![],
        hooks: Hooks::default(),
        steps,
        warnings: vec![],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroups::Cgroups;
    use crate::spec::Linux;

    fn target(linux: &Linux) -> ExecTarget<'_> {
        let cgroups = Cgroups { directories: vec![], unified: true, scope: None };
        ExecTarget { id: "id", linux, cgroups, rootless: false, bundle: "/b".into() }
    }

    fn with_own_mounts() -> Linux {
        serde_json::from_value(serde_json::json!({"namespaces": [{"type": "mount"}]})).unwrap()
    }

    fn mounts(json: serde_json::Value) -> Vec<Mount> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn sources_are_opened_outside_and_mounts_made_inside() {
        let linux = with_own_mounts();
        let list = mounts(
            serde_json::json!([{"destination": "/a", "type": "bind", "source": "x", "options": ["bind"]}]),
        );
        let plan = Plan::add_mounts(&target(&linux), &Spec::default(), &list).unwrap();
        let names: Vec<_> = plan.steps.iter().map(Step::name).collect();
        assert_eq!(
            names,
            [
                "prepare mounts",
                "clone",
                "await init",
                "join container",
                "open joined root",
                "mount",
                "finish"
            ]
        );
        assert_eq!(plan.prepared.len(), 1);
    }

    #[test]
    fn the_last_mount_is_removed_first_and_the_root_never() {
        let linux = Linux::default();
        let list = mounts(serde_json::json!([{"destination": "/a"}, {"destination": "/a/b/"}]));
        let plan = Plan::remove_mounts(&target(&linux), &list).unwrap();
        let places: Vec<_> = plan
            .steps
            .iter()
            .filter_map(|s| if let Step::Unmount(path) = s { path.to_str() } else { None })
            .collect();
        assert_eq!(places, ["/a/b", "/a"]);
        for bad in ["", "/", "/a/.."] {
            let list = mounts(serde_json::json!([{"destination": bad}]));
            assert!(Plan::remove_mounts(&target(&linux), &list).is_err(), "{bad}");
        }
    }
}
