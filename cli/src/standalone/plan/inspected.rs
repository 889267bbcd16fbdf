//! What `inspect` says of how a container was asked for: `HostConfig`, and what of `Config` is not the program's as it runs.
//! Docker's members, those that are never anything here too: templates name them.

use super::{Known, limits, log_driver, ports, sizes};
use crate::args::CreateOptions;
use crate::standalone::restarts;
use knarr_agent::cri::v1::PortMapping;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Bytes of /dev/shm where nobody says.
const SHM_SIZE: i64 = 64 << 20;

/// The words of the user or the image, and how the streams were wanted.
pub(super) fn config(options: &CreateOptions, known: &Known<'_>) -> Value {
    let (entrypoint, command) = match options.entrypoint.as_deref() {
        None => (known.image.0.clone(), &known.image.1[..]),
        Some("") => (Vec::new(), &[][..]),
        Some(entrypoint) => (vec![entrypoint.to_owned()], &[][..]),
    };
    let command = if options.command.is_empty() { command } else { &options.command };
    let joined = !known.detached;
    let mut document = json!({
        "User": options.user.as_deref().unwrap_or(&known.user),
        "Entrypoint": or_null(&entrypoint),
        "Cmd": or_null(command),
        "Domainname": options.finer.domainname.as_deref().unwrap_or_default(),
        "AttachStdin": options.interactive && joined,
        "AttachStdout": joined,
        "AttachStderr": joined,
        "OpenStdin": options.interactive,
        "StdinOnce": options.interactive && joined,
        "OnBuild": Value::Null,
        "Volumes": set(&known.volumes),
    });
    if let Some(signal) = &options.stop_signal {
        document["StopSignal"] = json!(signal);
    }
    if options.health.no_healthcheck {
        document["Healthcheck"] = json!({"Test": ["NONE"]});
    }
    if let ports @ Value::Object(_) = set(&known.exposed) {
        document["ExposedPorts"] = ports;
    }
    document
}

/// Null where there is none.
fn or_null<T: serde::Serialize>(all: &[T]) -> Value {
    if all.is_empty() { Value::Null } else { json!(all) }
}

/// As Docker writes a set: members without values.
fn set(names: &[String]) -> Value {
    let members: Map<String, Value> = names.iter().map(|name| (name.clone(), json!({}))).collect();
    if members.is_empty() { Value::Null } else { Value::Object(members) }
}

/// `NAME=VALUE` as an object.
fn pairs(texts: &[String]) -> Value {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), json!(value))
    };
    Value::Object(texts.iter().map(pair).collect())
}

/// `HostConfig`, as far as it was asked for.
pub(super) fn host_config(
    options: &CreateOptions,
    ports: &[PortMapping],
    (policy, policy_name): (restarts::Policy, &str),
) -> Value {
    let mut document = json!({
        "Binds": or_null(&options.volume),
        "ContainerIDFile": options.cidfile.as_ref().map(|file| file.display().to_string()).unwrap_or_default(),
        "NetworkMode": options.network,
        "PortBindings": ports::bindings(ports),
        "PublishAllPorts": options.publish_all,
        "LogConfig": {"Type": log_driver(options).unwrap_or_default(), "Config": pairs(&options.log_opt)},
        "RestartPolicy": restarts::document(policy, policy_name),
        "Init": options.init,
        "AutoRemove": options.rm,
        "VolumeDriver": options.finer.volume_driver.as_deref().unwrap_or_default(),
        "VolumesFrom": or_null(&options.volumes_from),
        "Links": or_null(&options.networking.link),
        "Dns": options.dns,
        "DnsOptions": options.dns_option,
        "DnsSearch": options.dns_search,
        "ExtraHosts": or_null(&options.add_host),
        "Runtime": options.runtime.as_deref().unwrap_or("knarr-runtime"),
        "ConsoleSize": [0, 0],
        "Isolation": "",
    });
    for more in [isolation(options), resources(options)] {
        more.into_iter().for_each(|(name, value)| document[name] = value);
    }
    if !options.tmpfs.is_empty() {
        let places = options.tmpfs.iter().map(|text| text.split_once(':').unwrap_or((text, "")));
        document["Tmpfs"] = json!(places.collect::<BTreeMap<_, _>>());
    }
    document
}

/// What it shares, and what it may do.
fn isolation(options: &CreateOptions) -> Map<String, Value> {
    let finer = &options.finer;
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    object(json!({
        "PidMode": given(&options.pid),
        "IpcMode": options.ipc.as_deref().unwrap_or("private"),
        "UTSMode": given(&finer.uts),
        "UsernsMode": given(&finer.userns),
        "CgroupnsMode": finer.cgroupns.as_deref().unwrap_or("private"),
        "Cgroup": "",
        "CgroupParent": given(&finer.cgroup_parent),
        "CapAdd": or_null(&capabilities(&options.cap_add)),
        "CapDrop": or_null(&capabilities(&options.cap_drop)),
        "GroupAdd": or_null(&options.group_add),
        "Privileged": options.privileged,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": or_null(&options.security_opt),
        "Devices": options.device.iter().map(|text| device(text)).collect::<Vec<_>>(),
        "DeviceCgroupRules": or_null(&finer.device_cgroup_rule),
        "DeviceRequests": Value::Null,
    }))
}

/// How much it may use.
fn resources(options: &CreateOptions) -> Map<String, Value> {
    let (finer, share) = (&options.finer, &options.limits.share);
    let bytes = |text: &Option<String>| text.as_deref().and_then(|text| sizes::bytes(text).ok());
    let ulimits = options.ulimit.iter().filter_map(|text| limits::ulimit(text).ok());
    let ulimits = ulimits.map(|(name, soft, hard)| {
        // Docker's numbers have a sign: no limit is -1.
        json!({"Name": name, "Soft": soft.cast_signed(), "Hard": hard.cast_signed()})
    });
    object(json!({
        "Memory": bytes(&share.memory).unwrap_or(0),
        "CpuPeriod": share.cpu_period.unwrap_or(0),
        "NanoCpus": options.limits.cpus.map_or(0, |cpus| (cpus * 1e9) as i64),
        "PidsLimit": options.limits.pids_limit,
        "ShmSize": bytes(&options.shm_size).unwrap_or(SHM_SIZE),
        "OomScoreAdj": options.oom_score_adj.unwrap_or(0),
        "OomKillDisable": finer.oom_kill_disable,
        "Ulimits": ulimits.collect::<Vec<_>>(),
        "BlkioWeightDevice": valued(&finer.blkio_weight_device, "Weight"),
        "BlkioDeviceReadBps": valued(&finer.device_read_bps, "Rate"),
        "BlkioDeviceWriteBps": valued(&finer.device_write_bps, "Rate"),
        "BlkioDeviceReadIOps": valued(&finer.device_read_iops, "Rate"),
        "BlkioDeviceWriteIOps": valued(&finer.device_write_iops, "Rate"),
        "CpuRealtimePeriod": finer.cpu_rt_period.unwrap_or(0),
        "CpuRealtimeRuntime": finer.cpu_rt_runtime.unwrap_or(0),
        "KernelMemory": 0,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }))
}

/// `SOURCE[:TARGET][:MODE]`.
fn device(text: &str) -> Value {
    let parts: Vec<&str> = text.split(':').collect();
    let is_mode = |part: &&&str| !part.starts_with('/');
    let source = parts.first().copied().unwrap_or_default();
    let target = parts.get(1).filter(|part| part.starts_with('/')).copied().unwrap_or(source);
    let mode = parts.iter().skip(1).rfind(is_mode).copied().unwrap_or("rwm");
    json!({"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": mode})
}

/// `DEVICE:VALUE`, each.
fn valued(texts: &[String], name: &str) -> Vec<Value> {
    let pairs = texts.iter().filter_map(|text| text.split_once(':'));
    pairs.map(|(path, value)| json!({"Path": path, name: sizes::bytes(value).unwrap_or(0)})).collect()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// In their full names.
fn capabilities(given: &[String]) -> Vec<String> {
    let full = |name: &String| match name.to_ascii_uppercase() {
        name if name == "ALL" || name.starts_with("CAP_") => name,
        name => format!("CAP_{name}"),
    };
    given.iter().map(full).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_told_in_dockers_members() {
        let options = CreateOptions {
            tmpfs: vec!["/a:size=1m".into(), "/b".into()],
            device: vec!["/dev/null:/dev/x:r".into(), "/dev/zero".into()],
            ulimit: vec!["core=-1".into()],
            shm_size: Some("1m".into()),
            ..CreateOptions::default()
        };
        let document = host_config(&options, &[], (restarts::Policy::No, "no"));
        assert_eq!(document["Tmpfs"], json!({"/a": "size=1m", "/b": ""}));
        assert_eq!(document["Devices"][0]["CgroupPermissions"], "r");
        assert_eq!(document["Devices"][1]["PathInContainer"], "/dev/zero");
        assert_eq!(document["Ulimits"], json!([{"Name": "core", "Soft": -1, "Hard": -1}]));
        assert_eq!((&document["ShmSize"], &document["CapAdd"]), (&json!(1 << 20), &Value::Null));
    }
}
