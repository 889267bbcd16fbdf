//! A container as the runtime's `ContainerConfig`: command, environment, mounts, resources, and the annotations by
//! which the kubelet will know it again.

use crate::kubelet::memory_qos::MemoryQos;
use crate::kubelet::paths::{Paths, container_log};
use crate::kubelet::references::References;
use crate::kubelet::resources::{self, CPU_PERIOD_US};
use crate::kubelet::security::{self, ImageUser};
use crate::kubelet::{env, labels, machine, plan, pod, user_namespaces, volumes};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements, Volume, VolumeDevice, VolumeMount};
use knarr_cri::v1::{
    ContainerConfig, ContainerMetadata, Device, HugepageLimit, ImageSpec, KeyValue, LinuxContainerConfig,
    LinuxContainerResources, Mount, MountPropagation, Signal,
};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

const DEFAULT_TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// What a configuration is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    #[allow(missing_docs)]
    pub pod: &'a Pod,
    #[allow(missing_docs)]
    pub container: &'a Container,
    /// Its restart count.
    pub attempt: u32,
    #[allow(missing_docs)]
    pub paths: &'a Paths,
    /// What claims of the pod are bound to.
    pub references: &'a References,
    /// The image of each image volume as the runtime names it, by the volume's name.
    pub image_volumes: &'a BTreeMap<String, String>,
    /// The runtime can make all mounts below a read-only one read-only too.
    pub recursive_read_only: bool,
    /// Containers without a seccomp profile get the runtime's default one.
    pub seccomp_default: bool,
    /// In order of definition.
    pub environment: &'a [(String, String)],
    /// The image as the runtime names it.
    pub image_ref: &'a str,
    #[allow(missing_docs)]
    pub image_user: &'a ImageUser,
    /// CRI id of the container whose processes an ephemeral one sees.
    pub target: Option<&'a str>,
    /// Bytes.
    pub node_memory: i64,
    /// How memory is protected and throttled; not where that is off.
    pub memory_qos: Option<MemoryQos>,
    /// Where the ids of a pod with a user namespace of its own begin.
    pub first_id: Option<u32>,
    /// Files and mounts are made; false for an imaginary node.
    pub real: bool,
}

/// Builds the configuration; makes the files and sub-path binds that its mounts need.
pub fn container_config(inputs: Inputs<'_>) -> Result<ContainerConfig, String> {
    let container = inputs.container;
    let lookup = |name: &str| inputs.environment.iter().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
    let expand = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| env::expand(text, &lookup)).collect()
    };
    let key_value =
        |(key, value): &(String, String)| KeyValue { key: key.clone(), value: value.clone().into_bytes() };
    let image = container.image.clone().unwrap_or_default();
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: container.name.clone(), attempt: inputs.attempt }),
        image: Some(ImageSpec {
            image: inputs.image_ref.to_string(),
            user_specified_image: image,
            ..Default::default()
        }),
        command: expand(&container.command),
        args: expand(&container.args),
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: inputs.environment.iter().map(key_value).collect(),
        mounts: if inputs.real { mounts(inputs)? } else { Vec::new() },
        devices: if inputs.real { block_devices(inputs)? } else { Vec::new() },
        labels: container_labels(inputs),
        annotations: annotations(inputs),
        log_path: container_log(&container.name, inputs.attempt),
        stdin: container.stdin == Some(true),
        stdin_once: container.stdin_once == Some(true),
        tty: container.tty == Some(true),
        linux: Some(LinuxContainerConfig {
            resources: Some(linux_resources(inputs.pod, container, inputs.node_memory, inputs.memory_qos)),
            security_context: Some(security::container_context(
                inputs.pod,
                container,
                inputs.image_user,
                inputs.target.map(str::to_string),
                inputs.first_id,
                inputs.seccomp_default,
            )),
        }),
        stop_signal: stop_signal(container),
        ..Default::default()
    })
}

fn stop_signal(container: &Container) -> i32 {
    let name = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let signal = name.and_then(|name| Signal::from_str_name(&format!("SIGNAL_{name}")));
    signal.unwrap_or(Signal::RuntimeDefault) as i32
}

fn container_labels(inputs: Inputs<'_>) -> HashMap<String, String> {
    HashMap::from([
        (labels::POD_NAME.to_string(), pod::name(inputs.pod).to_string()),
        (labels::POD_NAMESPACE.to_string(), pod::namespace(inputs.pod).to_string()),
        (labels::POD_UID.to_string(), pod::uid(inputs.pod).to_string()),
        (labels::CONTAINER_NAME.to_string(), inputs.container.name.clone()),
    ])
}

fn annotations(inputs: Inputs<'_>) -> HashMap<String, String> {
    let container = inputs.container;
    let mut all = HashMap::from([
        (labels::CONTAINER_HASH.to_string(), pod::container_hash(container)),
        (labels::RESTART_COUNT.to_string(), inputs.attempt.to_string()),
        (labels::TERMINATION_MESSAGE_PATH.to_string(), termination_path(container).to_string()),
        (
            labels::TERMINATION_MESSAGE_POLICY.to_string(),
            container.termination_message_policy.clone().unwrap_or_else(|| "File".to_string()),
        ),
    ]);
    let grace = pod::spec(inputs.pod).termination_grace_period_seconds.unwrap_or(30);
    all.insert(labels::TERMINATION_GRACE_PERIOD.to_string(), grace.to_string());
    let pre_stop = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    if let Some(json) = pre_stop.and_then(|hook| serde_json::to_string(hook).ok()) {
        all.insert(labels::PRE_STOP_HANDLER.to_string(), json);
    }
    if let Some(json) = container.ports.as_ref().and_then(|ports| serde_json::to_string(ports).ok()) {
        all.insert(labels::CONTAINER_PORTS.to_string(), json);
    }
    if let Some(request) = plan::wanted(inputs.pod, container).memory_request {
        all.insert(labels::MEMORY_REQUEST.to_string(), request.to_string());
    }
    all
}

fn termination_path(container: &Container) -> &str {
    let path = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    path.unwrap_or(DEFAULT_TERMINATION_MESSAGE_PATH)
}

/// Limits and shares of one container.
pub fn linux_resources(
    pod: &Pod,
    container: &Container,
    node_memory: i64,
    memory_qos: Option<MemoryQos>,
) -> LinuxContainerResources {
    let requirements = container.resources.as_ref();
    LinuxContainerResources {
        cpu_period: CPU_PERIOD_US,
        cpu_quota: resources::container_limit(pod, container, "cpu").map_or(0, resources::cpu_quota),
        cpu_shares: resources::cpu_shares(resources::request(requirements, "cpu").unwrap_or(0)),
        memory_limit_in_bytes: resources::container_limit(pod, container, "memory")
            .map_or(0, |milli| milli / 1000),
        oom_score_adj: resources::oom_score_adj(pod, container, node_memory),
        hugepage_limits: huge_pages(pod, requirements),
        unified: memory_qos.map(|qos| qos.container(requirements)).unwrap_or_default(),
        ..Default::default()
    }
}

/// Those of every size of the machine: none that the container or its pod does not name.
fn huge_pages(pod: &Pod, requirements: Option<&ResourceRequirements>) -> Vec<HugepageLimit> {
    let own = resources::huge_pages(requirements.and_then(|own| own.limits.as_ref()));
    let whole =
        resources::huge_pages(pod::spec(pod).resources.as_ref().and_then(|whole| whole.limits.as_ref()));
    let none = machine::huge_page_sizes().into_iter().map(|size| (resources::page_size(&size), 0));
    let all = none.chain(whole).chain(own).collect::<BTreeMap<_, _>>();
    all.into_iter().map(|(page_size, limit)| HugepageLimit { page_size, limit }).collect()
}

fn mounts(inputs: Inputs<'_>) -> Result<Vec<Mount>, String> {
    let mut list = Vec::new();
    for (index, mount) in inputs.container.volume_mounts.iter().flatten().enumerate() {
        list.push(volume_mount(inputs, index, mount)?);
    }
    let has = |list: &[Mount], path: &str| list.iter().any(|mount| mount.container_path == path);
    if !has(&list, "/etc/hosts") {
        let hosts = inputs.paths.hosts_file(pod::uid(inputs.pod));
        list.push(plain_mount("/etc/hosts", hosts));
    }
    let message_path = termination_path(inputs.container);
    if !has(&list, message_path) {
        let file =
            inputs.paths.termination_message(pod::uid(inputs.pod), &inputs.container.name, inputs.attempt);
        make_message_file(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        list.push(plain_mount(message_path, file));
    }
    Ok(list)
}

fn plain_mount(container_path: &str, host_path: PathBuf) -> Mount {
    Mount {
        container_path: container_path.to_string(),
        host_path: host_path.to_string_lossy().into_owned(),
        ..Default::default()
    }
}

/// Writable by whoever the container runs as.
fn make_message_file(file: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(parent) = file.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(file, b"")?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666))
}

/// The volume of that name.
fn find_volume<'a>(inputs: Inputs<'a>, name: &str) -> Result<&'a Volume, String> {
    let volumes = pod::spec(inputs.pod).volumes.as_deref().unwrap_or_default();
    volumes.iter().find(|volume| volume.name == name).ok_or_else(|| {
        format!("no volume \"{name}\" for the mount of container \"{}\"", inputs.container.name)
    })
}

/// Raw block volumes, as devices.
fn block_devices(inputs: Inputs<'_>) -> Result<Vec<Device>, String> {
    let device = |wanted: &VolumeDevice| {
        let volume = find_volume(inputs, &wanted.name)?;
        let source = volumes::source(inputs.pod, volume, inputs.references)?;
        if !source.is_device() {
            return Err(volumes::mismatch(&wanted.name, "Filesystem", "volumeDevices"));
        }
        let place = volumes::directory(inputs.paths, inputs.pod, volume, &source);
        let read_only = volumes::is_read_only(inputs.pod, volume, inputs.references);
        Ok(Device {
            container_path: wanted.device_path.clone(),
            host_path: place.to_string_lossy().into_owned(),
            permissions: if read_only { "r" } else { "mrw" }.to_owned(),
        })
    };
    inputs.container.volume_devices.iter().flatten().map(device).collect()
}

fn volume_mount(inputs: Inputs<'_>, index: usize, mount: &VolumeMount) -> Result<Mount, String> {
    let volume = find_volume(inputs, &mount.name)?;
    let source = volumes::source(inputs.pod, volume, inputs.references)?;
    if source.is_device() {
        return Err(volumes::mismatch(&mount.name, "Block", "volumeMounts"));
    }
    let directory = volumes::directory(inputs.paths, inputs.pod, volume, &source);
    let sub_path = sub_path(inputs, mount)?;
    let readonly =
        mount.read_only == Some(true) || volumes::is_read_only(inputs.pod, volume, inputs.references);
    let mut result = Mount {
        container_path: if mount.mount_path.starts_with('/') {
            mount.mount_path.clone()
        } else {
            format!("/{}", mount.mount_path)
        },
        readonly,
        recursive_read_only: recursive_read_only(inputs, mount, readonly)?,
        propagation: propagation(mount),
        ..Default::default()
    };
    if let Some(image) = &volume.image {
        let given = image.reference.clone().unwrap_or_default();
        let reference = inputs.image_volumes.get(&volume.name).cloned().unwrap_or(given);
        result.image = Some(ImageSpec { image: reference, ..Default::default() });
        result.image_sub_path = sub_path.unwrap_or_default();
        result.readonly = true;
        return Ok(result);
    }
    let host_path = match sub_path {
        None => directory,
        Some(sub_path) => {
            let uid = pod::uid(inputs.pod);
            let target = inputs.paths.sub_path(uid, &volume.name, &inputs.container.name, index);
            volumes::bind_sub_path(&directory, &sub_path, &target).map_err(|error| {
                format!(
                    "failed to prepare subPath for volumeMount \"{}\" of container \"{}\": {error}",
                    mount.name, inputs.container.name
                )
            })?;
            target
        }
    };
    result.host_path = host_path.to_string_lossy().into_owned();
    // What the pod's root owns in a volume belongs to the host's root on disk, as for every other pod.
    result.uid_mappings = inputs.first_id.map(user_namespaces::mappings).unwrap_or_default();
    result.gid_mappings = result.uid_mappings.clone();
    Ok(result)
}

/// Refused where the runtime cannot do it and the pod insists.
fn recursive_read_only(inputs: Inputs<'_>, mount: &VolumeMount, readonly: bool) -> Result<bool, String> {
    match mount.recursive_read_only.as_deref() {
        Some("Enabled") if !inputs.recursive_read_only => Err(format!(
            "failed to resolve recursive read-only mode: volume \"{}\" requested recursive read-only mode, but it is not supported by the runtime",
            mount.name
        )),
        Some("Enabled" | "IfPossible") => Ok(readonly && inputs.recursive_read_only),
        _ => Ok(false),
    }
}

fn sub_path(inputs: Inputs<'_>, mount: &VolumeMount) -> Result<Option<String>, String> {
    if let Some(expression) = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty()) {
        let lookup =
            |name: &str| inputs.environment.iter().find(|(key, _)| key == name).map(|(_, v)| v.as_str());
        let expanded = env::expand(expression, &lookup);
        if let Some((_, rest)) = expanded.split_once("$(") {
            let missing = rest.split(')').next().unwrap_or(expression);
            return Err(format!("missing value for {missing}"));
        }
        return Ok(Some(expanded));
    }
    Ok(mount.sub_path.clone().filter(|path| !path.is_empty()))
}

fn propagation(mount: &VolumeMount) -> i32 {
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => MountPropagation::PropagationBidirectional,
        _ => MountPropagation::PropagationPrivate,
    };
    propagation as i32
}
