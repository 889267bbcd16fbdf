//! `docker run` options as CRI messages: pure, and strict about what it does not understand.

use crate::args::Run;
use anyhow::{Context, bail};
use knarr_agent::cri::v1::*;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::Path;

/// The container's log below its log directory.
pub(super) const LOG_FILE: &str = "container.log";

/// Labels of ours on a container: the image as the user named it, the command and the ports as `ps` shows them.
pub(super) const IMAGE_LABEL: &str = "io.knarr.run.image";
pub(super) const COMMAND_LABEL: &str = "io.knarr.run.command";
pub(super) const PORTS_LABEL: &str = "io.knarr.run.ports";

/// The labels that the user gave.
pub(super) fn own_labels(all: &HashMap<String, String>) -> BTreeMap<String, String> {
    let own = all.iter().filter(|(name, _)| !name.starts_with("io.knarr.run."));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The cgroup of all stand-alone containers.
pub(super) const CGROUP: &str = "/knarr-run";

/// CFS period in microseconds, as Docker and the kubelet use it.
const CPU_PERIOD: i64 = 100_000;

/// The sandbox that will hold the one container. Its cgroup is `/knarr-run/NAME`.
pub(super) fn sandbox(arguments: &Run, name: &str, log_directory: &Path) -> anyhow::Result<PodSandboxConfig> {
    let network = network_mode(&arguments.network)?;
    if network == NamespaceMode::Node && !arguments.publish.is_empty() {
        bail!("--publish: the container is in the host's network already");
    }
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: name.into(),
            namespace: "knarr-run".into(),
            attempt: 0,
        }),
        hostname: hostname(arguments, name, network),
        log_directory: log_directory.display().to_string(),
        dns_config: Some(host_dns()),
        port_mappings: arguments.publish.iter().map(|port| published(port)).collect::<anyhow::Result<_>>()?,
        labels: [("io.knarr.run".to_owned(), name.to_owned())].into(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("{CGROUP}/{name}"),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(network)),
                privileged: arguments.privileged,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// The container itself.
pub(super) fn container(
    arguments: &Run,
    image_id: &str,
    shown_command: String,
) -> anyhow::Result<ContainerConfig> {
    Ok(ContainerConfig {
        metadata: Some(ContainerMetadata { name: "container".into(), attempt: 0 }),
        image: Some(ImageSpec {
            image: image_id.into(),
            user_specified_image: arguments.image.clone(),
            ..Default::default()
        }),
        command: arguments.entrypoint.iter().cloned().collect(),
        args: arguments.command.clone(),
        working_dir: arguments.workdir.clone().unwrap_or_default(),
        envs: environment(arguments)?,
        mounts: arguments.volume.iter().map(|volume| mount(volume)).collect::<anyhow::Result<_>>()?,
        log_path: LOG_FILE.into(),
        stdin: arguments.interactive,
        stdin_once: arguments.interactive && !arguments.detach,
        tty: arguments.tty,
        labels: labels(arguments, shown_command),
        linux: Some(LinuxContainerConfig {
            resources: Some(resources(arguments)?),
            security_context: Some(security(arguments)?),
        }),
        ..Default::default()
    })
}

fn labels(arguments: &Run, shown_command: String) -> HashMap<String, String> {
    let given = arguments.label.iter().map(|label| label.split_once('=').unwrap_or((label, "")));
    let mut labels: HashMap<String, String> =
        given.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    labels.insert(IMAGE_LABEL.to_owned(), arguments.image.clone());
    labels.insert(COMMAND_LABEL.to_owned(), shown_command);
    labels.insert(PORTS_LABEL.to_owned(), shown_ports(&arguments.publish));
    labels
}

/// `0.0.0.0:8080->80/tcp, ...`
fn shown_ports(published_ports: &[String]) -> String {
    let shown = published_ports.iter().filter_map(|text| published(text).ok()).map(|port| {
        let ip = if port.host_ip.is_empty() { "0.0.0.0" } else { &port.host_ip };
        let protocol = match port.protocol() {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        format!("{ip}:{}->{}/{protocol}", port.host_port, port.container_port)
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn network_mode(name: &str) -> anyhow::Result<NamespaceMode> {
    match name {
        "bridge" => Ok(NamespaceMode::Pod),
        "none" => Ok(NamespaceMode::Container),
        "host" => Ok(NamespaceMode::Node),
        other => bail!("--network {other}: not known; bridge, host or none"),
    }
}

fn namespaces(network: NamespaceMode) -> NamespaceOption {
    NamespaceOption { network: network as i32, pid: NamespaceMode::Container as i32, ..Default::default() }
}

/// A container in the host's network keeps the host's name, which CRI expresses by an empty one.
fn hostname(arguments: &Run, name: &str, network: NamespaceMode) -> String {
    match (&arguments.hostname, network) {
        (Some(hostname), _) => hostname.clone(),
        (None, NamespaceMode::Node) => String::new(),
        (None, _) => name.chars().take(63).collect(),
    }
}

/// The host's name servers, without those that only the host can reach.
fn host_dns() -> DnsConfig {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => {
                dns.servers.extend(words.next().filter(|server| reachable(server)).map(str::to_owned))
            }
            Some("search") => dns.searches = words.map(str::to_owned).collect(),
            Some("options") => dns.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    dns
}

fn reachable(server: &str) -> bool {
    server.parse::<IpAddr>().is_ok_and(|ip| !ip.is_loopback())
}

/// `[IP:]HOST:CONTAINER[/PROTOCOL]`
fn published(text: &str) -> anyhow::Result<PortMapping> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => bail!("--publish {text}: {other} is no protocol; tcp, udp or sctp"),
    };
    let mut fields = ports.rsplitn(3, ':');
    let container = fields.next().unwrap_or_default();
    let host =
        fields.next().with_context(|| format!("--publish {text}: not of the form [IP:]HOST:CONTAINER"))?;
    let host_ip = fields.next().unwrap_or_default();
    if !host_ip.is_empty() {
        host_ip.parse::<IpAddr>().with_context(|| format!("--publish {text}: {host_ip} is no address"))?;
    }
    Ok(PortMapping {
        protocol: protocol as i32,
        container_port: port(container).with_context(|| format!("--publish {text}"))?,
        host_port: port(host).with_context(|| format!("--publish {text}"))?,
        host_ip: host_ip.into(),
    })
}

fn port(text: &str) -> anyhow::Result<i32> {
    match text.parse::<u16>() {
        Ok(port) if port > 0 => Ok(port.into()),
        _ => bail!("{text:?} is no port"),
    }
}

/// `NAME=VALUE`, or `NAME` with this process' own value; a NAME that is not set here is left out, as Docker does.
fn environment(arguments: &Run) -> anyhow::Result<Vec<KeyValue>> {
    let mut variables = Vec::new();
    let files = arguments.env_file.iter().map(|file| env_file(file)).collect::<anyhow::Result<Vec<_>>>()?;
    for text in files.iter().flatten().chain(&arguments.env) {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text.as_str(), std::env::var(text).ok()),
        };
        if key.is_empty() {
            bail!("--env {text}: the name is empty");
        }
        variables.extend(value.map(|value| KeyValue { key: key.into(), value: value.into_bytes() }));
    }
    Ok(variables)
}

/// Lines of an environment file: comments and empty lines aside, values taken as they are.
fn env_file(file: &Path) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("--env-file {}", file.display()))?;
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(str::to_owned).collect())
}

/// `SOURCE:TARGET[:OPTIONS]`; the source is a path of this machine (relative to here), made if it is missing.
fn mount(text: &str) -> anyhow::Result<Mount> {
    let mut fields = text.split(':');
    let (Some(source), Some(target)) = (fields.next(), fields.next()) else {
        bail!("--volume {text}: not of the form SOURCE:TARGET[:ro]");
    };
    if !target.starts_with('/') {
        bail!("--volume {text}: the target must be absolute");
    }
    let source = std::path::absolute(source)?;
    if !source.exists() {
        std::fs::create_dir_all(&source)
            .with_context(|| format!("--volume {text}: mkdir {}", source.display()))?;
    }
    let mut mount = Mount {
        host_path: source.display().to_string(),
        container_path: target.into(),
        ..Default::default()
    };
    for option in fields.flat_map(|options| options.split(',')) {
        match option {
            "ro" => mount.readonly = true,
            "rw" | "" => {}
            "rshared" | "shared" => mount.propagation = MountPropagation::PropagationBidirectional as i32,
            "rslave" | "slave" => mount.propagation = MountPropagation::PropagationHostToContainer as i32,
            "rprivate" | "private" => {}
            other => bail!("--volume {text}: option {other} is not known"),
        }
    }
    Ok(mount)
}

fn resources(arguments: &Run) -> anyhow::Result<LinuxContainerResources> {
    let mut resources = LinuxContainerResources::default();
    if let Some(memory) = &arguments.memory {
        resources.memory_limit_in_bytes = bytes(memory).with_context(|| format!("--memory {memory}"))?;
    }
    if let Some(cpus) = arguments.cpus {
        if !(0.01..=4096.0).contains(&cpus) {
            bail!("--cpus {cpus}: from 0.01 to the number of CPUs");
        }
        resources.cpu_period = CPU_PERIOD;
        resources.cpu_quota = (cpus * CPU_PERIOD as f64) as i64;
    }
    if let Some(limit) = arguments.pids_limit {
        resources.unified.insert("pids.max".into(), if limit < 0 { "max".into() } else { limit.to_string() });
    }
    Ok(resources)
}

/// `512m`, `2g`, ...: powers of 1024, as Docker reads them.
fn bytes(text: &str) -> anyhow::Result<i64> {
    let lower = text.to_ascii_lowercase();
    let number = lower.trim_end_matches('b').trim_end_matches(['k', 'm', 'g', 't']);
    let shift = match lower[number.len()..].trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => bail!("not a size"),
    };
    let value: i64 = number.parse().context("not a size")?;
    value.checked_mul(1 << shift).filter(|bytes| *bytes > 0).context("out of range")
}

fn security(arguments: &Run) -> anyhow::Result<LinuxContainerSecurityContext> {
    let network = network_mode(&arguments.network)?;
    let mut context = LinuxContainerSecurityContext {
        capabilities: Some(Capability {
            add_capabilities: arguments.cap_add.clone(),
            drop_capabilities: arguments.cap_drop.clone(),
            ..Default::default()
        }),
        privileged: arguments.privileged,
        namespace_options: Some(namespaces(network)),
        readonly_rootfs: arguments.read_only,
        seccomp: Some(SecurityProfile {
            profile_type: security_profile::ProfileType::RuntimeDefault as i32,
            ..Default::default()
        }),
        ..Default::default()
    };
    if let Some(user) = &arguments.user {
        set_user(&mut context, user)?;
    }
    Ok(context)
}

fn set_user(context: &mut LinuxContainerSecurityContext, user: &str) -> anyhow::Result<()> {
    let (name, group) = user.split_once(':').map_or((user, None), |(name, group)| (name, Some(group)));
    match name.parse::<u32>() {
        Ok(uid) => context.run_as_user = Some(Int64Value { value: uid.into() }),
        Err(_) if name.is_empty() => bail!("--user {user}: the name is empty"),
        Err(_) => context.run_as_username = name.into(),
    }
    match group.map(|group| (group, group.parse::<u32>())) {
        None => {}
        Some((_, Ok(gid))) => context.run_as_group = Some(Int64Value { value: gid.into() }),
        // A group's name is looked up in the container, together with the user.
        Some((group, Err(_))) if !group.is_empty() => {
            context.run_as_user = None;
            context.run_as_username = user.into();
        }
        Some(_) => bail!("--user {user}: the group is empty"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_read_like_docker() {
        let mapping = published("127.0.0.1:8080:80/udp").unwrap();
        assert_eq!((mapping.host_port, mapping.container_port), (8080, 80));
        assert_eq!((mapping.host_ip.as_str(), mapping.protocol), ("127.0.0.1", Protocol::Udp as i32));
        for wrong in ["80", "80:http", "0:80", "80:80/icmp", "nowhere:80:80"] {
            assert!(published(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_read_like_docker() {
        for (text, expected) in [("512", 512), ("1k", 1024), ("2M", 2 << 20), ("3gb", 3 << 30)] {
            assert_eq!(bytes(text).unwrap(), expected, "{text}");
        }
        for wrong in ["", "m", "-1m", "1x", "9999999999t"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_user_is_a_number_or_a_name() {
        let mut context = LinuxContainerSecurityContext::default();
        set_user(&mut context, "1000:100").unwrap();
        assert_eq!(context.run_as_user.unwrap().value, 1000);
        assert_eq!(context.run_as_group.unwrap().value, 100);
        set_user(&mut context, "nobody").unwrap();
        assert_eq!(context.run_as_username, "nobody");
        assert!(set_user(&mut context, ":1").is_err());
        let mut context = LinuxContainerSecurityContext::default();
        set_user(&mut context, "0:audio").unwrap();
        assert_eq!((context.run_as_user, context.run_as_username.as_str()), (None, "0:audio"));
    }

    #[test]
    fn ports_are_shown_like_docker() {
        let shown = shown_ports(&["8080:80".into(), "127.0.0.1:53:53/udp".into()]);
        assert_eq!(shown, "0.0.0.0:8080->80/tcp, 127.0.0.1:53->53/udp");
    }
}
