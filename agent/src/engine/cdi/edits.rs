//! What a CDI file changes in a container's `config.json`.

use crate::engine::spec::devices;
use knarr_cri::Status;
use knarr_runtime::spec::{Device, DeviceRule, Hook, Hooks, Mount, Spec};
use serde::Deserialize;

/// Changes to one container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerEdits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<BindMount>,
    hooks: Vec<NamedHook>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeviceNode {
    path: String,
    /// The node on the host; the same path where empty.
    host_path: String,
    /// Letters of `rwm`; all where empty.
    permissions: String,
    file_mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BindMount {
    host_path: String,
    container_path: String,
    options: Vec<String>,
    #[serde(rename = "type")]
    fs_type: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NamedHook {
    hook_name: String,
    path: String,
    args: Vec<String>,
    env: Vec<String>,
    timeout: Option<i64>,
}

impl ContainerEdits {
    /// Changes `spec`; devices are looked up on the host.
    pub(super) fn apply(&self, spec: &mut Spec) -> Result<(), Status> {
        if let Some(process) = spec.process.as_mut() {
            process.env.extend(self.env.iter().cloned());
            for gid in self.additional_gids.iter().filter(|&&gid| gid != 0) {
                if !process.user.additional_gids.contains(gid) {
                    process.user.additional_gids.push(*gid);
                }
            }
        }
        for node in &self.device_nodes {
            node.apply(spec)?;
        }
        spec.mounts.extend(self.mounts.iter().map(BindMount::to_oci));
        self.hooks.iter().try_for_each(|hook| hook.apply(spec))
    }
}

impl DeviceNode {
    fn apply(&self, spec: &mut Spec) -> Result<(), Status> {
        let wanted = knarr_cri::v1::Device {
            container_path: self.path.clone(),
            host_path: if self.host_path.is_empty() { self.path.clone() } else { self.host_path.clone() },
            permissions: self.permissions.clone(),
        };
        let found = devices::resolve(&wanted).map_err(|error| {
            Status::failed_precondition(format!("CDI device node {:?}: {error}", self.path))
        })?;
        let Some(linux) = spec.linux.as_mut() else { return Ok(()) };
        for (device, access) in found.devices {
            let rule = DeviceRule {
                allow: true,
                kind: device.kind.clone(),
                major: Some(device.major),
                minor: Some(device.minor),
                access,
            };
            linux.resources.get_or_insert_default().devices.push(rule);
            linux.devices.retain(|known| known.path != device.path);
            linux.devices.push(Device {
                file_mode: self.file_mode.or(device.file_mode),
                uid: self.uid.or(device.uid),
                gid: self.gid.or(device.gid),
                ..device
            });
        }
        Ok(())
    }
}

impl BindMount {
    fn to_oci(&self) -> Mount {
        let fs_type = if self.fs_type.is_empty() { "bind" } else { &self.fs_type };
        let mut options = self.options.clone();
        if fs_type == "bind" && !options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind")) {
            options.push("rbind".into());
        }
        Mount {
            destination: self.container_path.clone(),
            source: self.host_path.clone(),
            fs_type: fs_type.into(),
            options,
            ..Mount::default()
        }
    }
}

impl NamedHook {
    fn apply(&self, spec: &mut Spec) -> Result<(), Status> {
        let hook = Hook {
            path: self.path.clone(),
            args: self.args.clone(),
            env: (!self.env.is_empty()).then(|| self.env.clone()),
            timeout: self.timeout,
        };
        let hooks: &mut Hooks = spec.hooks.get_or_insert_default();
        match self.hook_name.as_str() {
            "prestart" => hooks.prestart.push(hook),
            "createRuntime" => hooks.create_runtime.push(hook),
            "createContainer" => hooks.create_container.push(hook),
            "startContainer" => hooks.start_container.push(hook),
            "poststart" => hooks.poststart.push(hook),
            "poststop" => hooks.poststop.push(hook),
            name => return Err(Status::failed_precondition(format!("CDI hook {name:?} is unknown"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn edits(value: serde_json::Value) -> ContainerEdits {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_device_is_made_and_may_be_opened() {
        let mut spec =
            Spec { process: Some(Default::default()), linux: Some(Default::default()), ..Spec::default() };
        let edits = edits(json!({
            "env": ["GPU=0"],
            "deviceNodes": [{"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw", "uid": 7}],
            "mounts": [{"hostPath": "/lib/gpu", "containerPath": "/gpu", "options": ["ro"]}],
            "hooks": [{"hookName": "createContainer", "path": "/bin/true"}],
            "additionalGids": [44, 0],
        }));
        edits.apply(&mut spec).unwrap();
        let linux = spec.linux.unwrap();
        assert_eq!((linux.devices[0].path.as_str(), linux.devices[0].uid), ("/dev/gpu0", Some(7)));
        let rules = linux.resources.unwrap().devices;
        assert_eq!((rules[0].major, rules[0].minor, rules[0].access.as_str()), (Some(1), Some(3), "rw"));
        assert_eq!(spec.mounts[0].options, ["ro", "rbind"]);
        assert_eq!(spec.hooks.unwrap().create_container.len(), 1);
        assert_eq!(spec.process.unwrap().user.additional_gids, [44]);
    }

    #[test]
    fn a_missing_node_or_an_unknown_hook_is_an_error() {
        let mut spec = Spec { linux: Some(Default::default()), ..Spec::default() };
        let missing = edits(json!({"deviceNodes": [{"path": "/dev/no-such-device"}]}));
        assert!(missing.apply(&mut spec).unwrap_err().message().contains("/dev/no-such-device"));
        let unknown = edits(json!({"hooks": [{"hookName": "never", "path": "/x"}]}));
        assert!(unknown.apply(&mut spec).unwrap_err().message().contains("never"));
    }
}
