//! Everything known about one container, for `ps`, `inspect` and their like.

use super::displayed_ports::displayed;
use super::health::Health;
use super::network::{self, End};
use super::networks::{Known, endpoint};
use super::plan::ports::of_bindings;
use super::restarts::{self, History};
use super::{Standalone, is_left_over, places, plan, run, shared, volumes};
use crate::filter::labelled;
use crate::settings::Settings;
use anyhow::Context;
use jiff::Timestamp;
use knarr_agent::cri::RuntimeService;
use knarr_agent::cri::v1::{
    ContainerState, ContainerStatus, ContainerStatusRequest, LinuxContainerResources,
};
use knarr_agent::engine::additions::INIT;
use knarr_images::ImageStore;
use serde_json::{Value, json};
use std::path::Path;

/// What CRI says of a container whose process could not be made.
const NOT_STARTED: i32 = 128;

/// One container.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) name: String,
    pub(crate) status: ContainerStatus,
    /// Of its pod.
    pub(crate) sandbox_id: String,
    pub(crate) paused: bool,
    /// Its networks, the first of which it was made with.
    pub(crate) ends: Vec<End>,
    /// How it was asked for, in the words of `docker inspect`'s HostConfig.
    pub(crate) options: Value,
    /// Its `config.json`.
    spec: Value,
    pid: i64,
    history: History,
    /// None without a check.
    pub(crate) health: Option<Health>,
}

impl Facts {
    /// None where there is no container (yet), or one that is about to go.
    pub(crate) async fn of(place: &Standalone) -> anyhow::Result<Option<Self>> {
        let Some(container) = place.container().await? else { return Ok(None) };
        if is_left_over(&container) {
            return Ok(None);
        }
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: true };
        let answer = place.engine.container_status(request).await?;
        let status = answer.status.context("container status")?;
        let info: Value = serde_json::from_str(answer.info.get("info").map_or("{}", String::as_str))?;
        let running = status.state() == ContainerState::ContainerRunning;
        let health = match status.labels.contains_key(plan::HEALTH_LABEL) {
            true => Health::read(place.data_dir())?,
            false => None,
        };
        let options = status.labels.get(plan::OPTIONS_LABEL).map_or("{}", String::as_str);
        let mut options: Value = serde_json::from_str(options).unwrap_or_default();
        if let Some(policy) = restarts::changed(place.data_dir()) {
            options["RestartPolicy"] = policy;
        }
        let resources = status.resources.as_ref().and_then(|resources| resources.linux.as_ref());
        resources.into_iter().for_each(|resources| limits(&mut options, resources));
        limits_beside(&mut options, &info["runtimeSpec"]["linux"]["resources"]);
        Ok(Some(Self {
            name: place.name().to_owned(),
            sandbox_id: container.pod_sandbox_id.clone(),
            paused: running && place.engine.is_paused(&container.id).await?,
            ends: match mode(&options) {
                "host" | "none" => Vec::new(),
                mode if shared::target(mode).is_some() => Vec::new(),
                _ => network::of(&place.settings, &place.place, &container.pod_sandbox_id)?,
            },
            options,
            spec: info["runtimeSpec"].clone(),
            pid: if running { info["pid"].as_i64().unwrap_or(0) } else { 0 },
            status,
            history: History::read(place.data_dir())?,
            health,
        }))
    }

    /// The same where there must be one.
    pub(crate) async fn expect(place: &Standalone) -> anyhow::Result<Self> {
        Self::of(place).await?.ok_or_else(|| places::no_such(place.name()))
    }

    /// `NAME[=VALUE]`.
    pub(crate) fn is_labelled(&self, wanted: &str) -> bool {
        labelled(|name| self.status.labels.get(name).map(String::as_str), wanted)
    }

    /// A label of ours.
    pub(crate) fn label(&self, key: &str) -> &str {
        self.status.labels.get(key).map_or("", String::as_str)
    }

    /// The image as the user named it.
    pub(crate) fn image(&self) -> &str {
        match self.label(plan::IMAGE_LABEL) {
            "" => &self.status.image_ref,
            name => name,
        }
    }

    /// Bytes that it wrote and that no volume holds.
    pub(crate) fn written(&self, store: &ImageStore) -> u64 {
        store.snapshot_usage(&self.status.id).map_or(0, |(bytes, _)| bytes)
    }

    /// It has ended, and is about to be started again.
    fn restarting(&self) -> bool {
        self.history.waiting && self.status.state() == ContainerState::ContainerExited
    }

    /// Docker's word for its state.
    pub(crate) fn state(&self) -> &'static str {
        match self.status.state() {
            _ if self.restarting() => "restarting",
            ContainerState::ContainerCreated => "created",
            ContainerState::ContainerRunning if self.paused => "paused",
            ContainerState::ContainerRunning => "running",
            // It could not be started.
            ContainerState::ContainerExited if self.status.started_at == 0 => "created",
            ContainerState::ContainerExited => "exited",
            ContainerState::ContainerUnknown => "dead",
        }
    }

    /// That of one that could not be started says why.
    fn exit_code(&self) -> i32 {
        match (self.status.exit_code, run::failure_code(&self.status.message)) {
            (NOT_STARTED, code @ (126 | 127)) if self.status.started_at == 0 => code.into(),
            (code, _) => code,
        }
    }

    /// Its first process; 0 where none runs.
    pub(crate) fn pid(&self) -> i64 {
        self.pid
    }

    /// The network that it was made with.
    pub(crate) fn network(&self) -> &str {
        mode(&self.options)
    }

    /// It has this network.
    pub(crate) fn is_on(&self, network: &str) -> bool {
        match network {
            "host" | "none" => self.network() == network,
            _ => self.ends.iter().any(|end| end.network() == network),
        }
    }

    /// Names of its networks.
    pub(crate) fn networks(&self) -> Vec<&str> {
        match self.network() {
            only @ ("host" | "none") => vec![only],
            _ => self.ends.iter().map(End::network).collect(),
        }
    }

    /// Its open ports and where they are published, as `ps` shows them.
    pub(crate) fn ports(&self) -> String {
        displayed(&of_bindings(&self.options["PortBindings"]), &self.exposed())
    }

    /// The ports that it says it has, where it has a network in which somebody could ask there.
    fn exposed(&self) -> Value {
        let asked: Value = serde_json::from_str(self.label(plan::ASKED_LABEL)).unwrap_or_default();
        if self.ends.is_empty() { Value::Null } else { asked["ExposedPorts"].clone() }
    }

    /// `NetworkSettings` of `docker inspect`.
    fn network_settings(&self, settings: &Settings) -> Value {
        let mut networks = json!({});
        for end in &self.ends {
            networks[end.network()] = endpoint::of(settings, &self.name, &self.status.id, end);
        }
        if let Some(known @ Known::BuiltIn("host" | "none", _)) = Known::named(self.network()) {
            networks[self.network()] = endpoint::empty(&known.id(settings));
        }
        let first = self.ends.first().map(|end| networks[end.network()].clone());
        let mut document = endpoint::shared(&first.unwrap_or_else(|| endpoint::empty("")));
        let connected = self.ends.iter().any(|end| end.held.is_some());
        document["SandboxID"] = json!(if connected { self.status.id.as_str() } else { "" });
        document["Ports"] = self.options["PortBindings"].clone();
        for name in self.exposed().as_object().into_iter().flatten().map(|(name, _)| name) {
            if connected && document["Ports"][name].is_null() {
                document["Ports"][name] = Value::Null;
            }
        }
        document["Networks"] = networks;
        document
    }

    /// What the runtime mounts there.
    pub(crate) fn mount_at(&self, target: &str) -> Option<&Value> {
        self.spec["mounts"].as_array()?.iter().find(|mount| mount["destination"] == target)
    }

    /// The file of this machine that it has there.
    fn source_of(&self, target: &str) -> &str {
        self.mount_at(target).and_then(|mount| mount["source"].as_str()).unwrap_or_default()
    }

    /// Places where the runtime mounted something: what it made for that is not the container's doing.
    pub(crate) fn mount_points(&self) -> Vec<std::path::PathBuf> {
        let mounts = self.spec["mounts"].as_array();
        let places = mounts.into_iter().flatten().filter_map(|mount| mount["destination"].as_str());
        places.map(Into::into).collect()
    }

    /// The object of `docker inspect`, as far as both know a thing.
    pub(crate) fn document(&self, settings: &Settings, log_file: &Path) -> Value {
        let (status, process) = (&self.status, &self.spec["process"]);
        let words = process["args"].as_array().cloned().unwrap_or_default();
        let words = &words[if words.starts_with(&INIT.map(Value::from)) { INIT.len() } else { 0 }..];
        let (path, args) =
            words.split_first().map_or((Value::Null, &[][..]), |(first, rest)| (first.clone(), rest));
        let running = status.state() == ContainerState::ContainerRunning;
        let mut document = json!({
            "Id": status.id,
            "Created": time(status.created_at),
            "Path": path,
            "Args": args,
            "State": {
                "Status": self.state(), "Running": running, "Paused": self.paused, "Restarting": self.restarting(),
                "OOMKilled": status.reason == "OOMKilled", "Dead": false, "Pid": self.pid,
                "ExitCode": self.exit_code(), "Error": status.message,
                "StartedAt": time(status.started_at), "FinishedAt": time(status.finished_at),
            },
            "Image": status.image_id,
            "LogPath": log_file,
            "ResolvConfPath": self.source_of("/etc/resolv.conf"),
            "HostnamePath": self.source_of("/etc/hostname"),
            "HostsPath": self.source_of("/etc/hosts"),
            "Platform": "linux",
            "Driver": "overlay",
            "ProcessLabel": "", "MountLabel": "", "AppArmorProfile": process["apparmorProfile"].as_str().unwrap_or(""),
            "ExecIDs": Value::Null,
            "Name": format!("/{}", self.name),
            "RestartCount": self.history.count,
            "HostConfig": self.options,
            "Mounts": self.mounts(settings),
            "Config": {
                "Hostname": self.env("HOSTNAME"), "User": self.user(), "Tty": process["terminal"].as_bool().unwrap_or(false),
                "Env": process["env"], "Cmd": words, "Image": self.image(), "WorkingDir": process["cwd"],
                "Labels": plan::own_labels(&status.labels),
                "StopSignal": status.stop_signal().as_str_name().trim_start_matches("SIGNAL_"),
            },
            "NetworkSettings": self.network_settings(settings),
        });
        // A container of before this was kept has what runs.
        if let Ok(Value::Object(asked)) = serde_json::from_str(self.label(plan::ASKED_LABEL)) {
            asked.into_iter().for_each(|(key, value)| document["Config"][key] = value);
        }
        // As Docker does it: there without a check is nothing at all.
        if let Some(health) = &self.health {
            document["State"]["Health"] = json!(health);
        }
        if let Ok(check) = serde_json::from_str::<Value>(self.label(plan::HEALTH_LABEL)) {
            document["Config"]["Healthcheck"] = check["Healthcheck"].clone();
        }
        document
    }

    /// What the user and the image wanted mounted.
    fn mounts(&self, settings: &Settings) -> Vec<Value> {
        let mounts = self.status.mounts.iter().filter(|mount| !plan::is_own(&mount.container_path));
        let shown = mounts.map(|mount| {
            let mode = if mount.readonly { "ro" } else { "" };
            let mut shown = json!({
                "Type": "bind", "Source": mount.host_path, "Destination": mount.container_path,
                "Mode": mode, "RW": !mount.readonly, "Propagation": "rprivate",
            });
            if let Some(image) = &mount.image {
                shown["Type"] = json!("image");
                shown["Source"] = json!(image.image);
                shown["Propagation"] = json!("");
            } else if let Some(volume) = volumes::name_of(settings, Path::new(&mount.host_path)) {
                shown["Type"] = json!("volume");
                shown["Name"] = json!(volume);
                shown["Driver"] = json!("local");
                shown["Propagation"] = json!("");
            }
            shown
        });
        shown.collect()
    }

    /// Its environment.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.spec["process"]["env"].as_array();
        all.into_iter().flatten().filter_map(|pair| pair.as_str()?.split_once('='))
    }

    pub(crate) fn env(&self, name: &str) -> String {
        let mut values = self.variables();
        values.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).unwrap_or_default()
    }

    fn user(&self) -> String {
        let user = &self.spec["process"]["user"];
        format!("{}:{}", user["uid"].as_u64().unwrap_or(0), user["gid"].as_u64().unwrap_or(0))
    }
}

/// The limits as they are now, which may have been updated.
fn limits(options: &mut Value, now: &LinuxContainerResources) {
    options["Memory"] = json!(now.memory_limit_in_bytes);
    options["MemorySwap"] = json!(now.memory_swap_limit_in_bytes);
    options["CpuShares"] = json!(now.cpu_shares);
    options["CpusetCpus"] = json!(now.cpuset_cpus);
    options["CpusetMems"] = json!(now.cpuset_mems);
    // --cpus is one number in Docker's words, and no quota. It is a quota of a period that few name themselves.
    let named = options["CpuPeriod"] == plan::limits::CPU_PERIOD;
    let asked = options["NanoCpus"].as_i64().is_some_and(|cpus| cpus > 0) && now.cpu_period > 0;
    let by_number = asked || (now.cpu_quota > 0 && now.cpu_period == plan::limits::CPU_PERIOD && !named);
    let (period, quota) = if by_number { (0, 0) } else { (now.cpu_period, now.cpu_quota) };
    if by_number {
        options["NanoCpus"] = json!(now.cpu_quota.saturating_mul(1_000_000_000) / now.cpu_period);
    }
    options["CpuPeriod"] = json!(period);
    options["CpuQuota"] = json!(quota);
}

/// The same of those that CRI has no words for.
fn limits_beside(options: &mut Value, now: &Value) {
    let pids = &now["pids"]["limit"];
    options["PidsLimit"] = if pids.is_null() { options["PidsLimit"].clone() } else { pids.clone() };
    options["MemoryReservation"] = json!(now["memory"]["reservation"].as_i64().unwrap_or(0));
    options["MemorySwappiness"] = now["memory"]["swappiness"].clone();
    options["BlkioWeight"] = json!(now["blockIO"]["weight"].as_u64().unwrap_or(0));
}

fn mode(options: &Value) -> &str {
    match options["NetworkMode"].as_str() {
        None | Some("default") => "bridge",
        Some(name) => name,
    }
}

/// Docker writes the year 1 for what has not happened.
fn time(nanoseconds: i64) -> String {
    match nanoseconds {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        _ => Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default().to_string(),
    }
}
