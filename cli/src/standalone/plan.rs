//! `docker run` options as CRI messages: pure, and strict about what it does not understand.

mod cpuset;
pub(super) mod environment;
mod finer;
pub(super) mod health;
mod inspected;
pub(crate) mod limits;
pub(super) mod mounts;
mod names;
pub(super) mod ports;
mod security;
pub(crate) mod sizes;

pub(super) use names::is_built_in;

use super::restarts;
use crate::args::{CreateOptions, Finer, Limits};
use anyhow::{Context, bail};
use knarr_agent::cri::v1::*;
use knarr_agent::engine::additions::Additions;
use knarr_agent::engine::pod_files::SHM_SIZE_ANNOTATION;
use mounts::Wish;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// The container's log below its log directory.
pub(super) const LOG_FILE: &str = "container.log";

/// Labels of ours on a container: the image as the user named it; command and ports as `ps` shows them; what
/// `inspect` says about how it was asked for.
pub(super) const IMAGE_LABEL: &str = "io.knarr.run.image";
pub(super) const COMMAND_LABEL: &str = "io.knarr.run.command";
pub(super) const PORTS_LABEL: &str = "io.knarr.run.ports";
pub(super) const OPTIONS_LABEL: &str = "io.knarr.run.options";
/// User, entry point and command, in the words of the user or the image.
pub(super) const ASKED_LABEL: &str = "io.knarr.run.asked";
/// Seconds that `stop` waits.
pub(super) const STOP_TIMEOUT_LABEL: &str = "io.knarr.run.stop-timeout";
/// How its health is looked after, where it is.
pub(super) const HEALTH_LABEL: &str = "io.knarr.run.health";
/// It is to go with its end, and nobody waits for that.
pub(super) const AUTO_REMOVE_LABEL: &str = "io.knarr.run.auto-remove";

/// The labels of the user and of the image.
pub(super) fn own_labels(all: &HashMap<String, String>) -> BTreeMap<String, String> {
    let own = all.iter().filter(|(name, _)| !name.starts_with("io.knarr.run."));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The cgroup of all stand-alone containers.
pub(super) const CGROUP: &str = "/knarr-run";

/// What the options come to, before anything is made.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) sandbox: PodSandboxConfig,
    pub(super) container: ContainerConfig,
    pub(super) additions: Additions,
    pub(super) mounts: Vec<Wish>,
}

/// What is known besides the options.
#[derive(Debug)]
pub(super) struct Known<'a> {
    /// Name of the container.
    pub(super) name: &'a str,
    /// The first digits of its id, which are its host name.
    pub(super) short_id: &'a str,
    /// Its host name, where that is another container's.
    pub(super) hostname: Option<&'a str>,
    /// Name of its directory, which is nobody else's.
    pub(super) directory: &'a str,
    pub(super) image_id: &'a str,
    /// The image's own entry point and command.
    pub(super) image: (Vec<String>, Vec<String>),
    /// Whom the image names as its user.
    pub(super) user: String,
    /// Ports that the image exposes, for --publish-all.
    pub(super) exposed: Vec<String>,
    /// The image's labels.
    pub(super) labels: HashMap<String, String>,
    /// What the containers of --volumes-from have mounted.
    pub(super) inherited: Vec<Wish>,
    /// What it says about its health.
    pub(super) health: health::OfImage,
    /// Places that are volumes by the image's own wish.
    pub(super) volumes: Vec<String>,
    pub(super) log_directory: &'a Path,
    /// Nobody waits for its end.
    pub(super) detached: bool,
    /// Containers have IPv6 addresses too.
    pub(super) second_family: bool,
}

/// The plan for one container. Its cgroup is `/knarr-run/DIRECTORY`.
pub(super) fn plan(options: &CreateOptions, known: &Known<'_>) -> anyhow::Result<Plan> {
    let (policy, policy_name) = restarts::parse(&options.restart)?;
    let driver = log_driver(options)?;
    if options.rm && policy != restarts::Policy::No {
        bail!("conflicting options: cannot specify both --restart and --rm");
    }
    let network = names::network_mode(&options.network);
    names::check(options)?;
    let ports = published(options, known, network)?;
    let wishes = mounts::with_inherited(mounts::wishes(options)?, known.inherited.clone());
    let mounts = mounts::with_volumes(wishes, &known.volumes);
    let namespaces = names::namespaces(options, network)?;
    let sandbox = PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: known.name.into(),
            uid: known.directory.into(),
            namespace: "knarr-run".into(),
            attempt: 0,
        }),
        hostname: names::hostname(options, known.hostname.unwrap_or(known.short_id), network),
        log_directory: known.log_directory.display().to_string(),
        dns_config: Some(names::dns(options)),
        port_mappings: ports.clone(),
        labels: [("io.knarr.run".to_owned(), known.name.to_owned())].into(),
        annotations: shm_size(options)?,
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: format!("{}/{}", cgroup_parent(options), known.directory),
            sysctls: names::sysctls(options, network)?,
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces.clone()),
                privileged: options.privileged,
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let (command, args) = command(options)?;
    let shown = match command.is_empty() {
        true => [&known.image.0[..], if args.is_empty() { &known.image.1 } else { &args }].concat(),
        false => [&command[..], &args].concat(),
    };
    let container = ContainerConfig {
        metadata: Some(ContainerMetadata { name: "container".into(), attempt: 0 }),
        image: Some(ImageSpec {
            image: known.image_id.into(),
            user_specified_image: options.image.clone(),
            ..Default::default()
        }),
        labels: labels(
            options,
            known,
            &shown_command(&shown),
            inspected::host_config(options, &ports, (policy, &policy_name)),
        )?,
        command,
        args,
        working_dir: options.workdir.clone().unwrap_or_default(),
        envs: names::with_hostname(options, environment::environment(&options.env_file, &options.env)?),
        devices: security::devices(options)?,
        log_path: if driver == "none" { String::new() } else { LOG_FILE.to_owned() },
        stdin: options.interactive,
        stdin_once: options.interactive && !known.detached,
        tty: options.tty,
        stop_signal: security::stop_signal(options)? as i32,
        linux: Some(LinuxContainerConfig {
            resources: Some(limits::resources(&options.limits, options.oom_score_adj)?),
            security_context: Some(security::context(options, namespaces, &known.user)?),
        }),
        ..Default::default()
    };
    let additions = additions(options, &mounts)?;
    Ok(Plan { sandbox, container, additions, mounts })
}

/// As Docker shows a command: what has spaces is quoted.
fn shown_command(words: &[String]) -> String {
    let (program, arguments) = words.split_first().map_or(("", &[][..]), |(first, rest)| (first, rest));
    let shown = arguments.iter().map(|word| match word.contains(' ') {
        true => format!("'{word}'"),
        false => word.clone(),
    });
    [program.to_owned()].into_iter().chain(shown).collect::<Vec<_>>().join(" ")
}

/// Entry point and arguments as CRI takes them. An entry point of the user's drops the image's command; an empty one
/// drops the image's entry point too.
fn command(options: &CreateOptions) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    Ok(match options.entrypoint.as_deref() {
        None => (Vec::new(), options.command.clone()),
        Some("") if options.command.is_empty() => bail!("no command specified"),
        Some("") => (options.command.clone(), Vec::new()),
        Some(entrypoint) => (vec![entrypoint.to_owned()], options.command.clone()),
    })
}

fn labels(
    options: &CreateOptions,
    known: &Known<'_>,
    shown_command: &str,
    inspected: Value,
) -> anyhow::Result<HashMap<String, String>> {
    // An image may say anything about itself, and nothing in our words.
    let mut labels: HashMap<String, String> = own_labels(&known.labels).into_iter().collect();
    for text in environment::lines_of(&options.label_file, "label-file")?.iter().chain(&options.label) {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            bail!("invalid argument {text:?} for \"-l, --label\" flag: invalid label '{text}': empty name");
        }
        labels.insert(name.to_owned(), value.to_owned());
    }
    labels.insert(IMAGE_LABEL.to_owned(), options.image.clone());
    labels.insert(COMMAND_LABEL.to_owned(), shown_command.to_owned());
    let ports = ports::of_bindings(&inspected["PortBindings"]);
    labels.insert(PORTS_LABEL.to_owned(), ports::shown(&ports));
    labels.insert(OPTIONS_LABEL.to_owned(), inspected.to_string());
    labels.insert(ASKED_LABEL.to_owned(), inspected::config(options, known).to_string());
    if let Some(check) = health::document(&options.health, &known.health)? {
        labels.insert(HEALTH_LABEL.to_owned(), check.to_string());
    }
    if let Some(seconds) = options.stop_timeout {
        labels.insert(STOP_TIMEOUT_LABEL.to_owned(), seconds.to_string());
    }
    if options.rm && known.detached {
        labels.insert(AUTO_REMOVE_LABEL.to_owned(), "true".to_owned());
    }
    Ok(labels)
}

/// What is to be told to the engine of /dev/shm: its size. None is as much as anybody has.
fn shm_size(options: &CreateOptions) -> anyhow::Result<HashMap<String, String>> {
    match options.shm_size.as_deref() {
        None | Some("0") => Ok(HashMap::new()),
        Some(text) => {
            let size = sizes::named("shm-size", text)?.to_string();
            Ok([(SHM_SIZE_ANNOTATION.to_owned(), size)].into())
        }
    }
}

/// The ports that lead to it, with a free one of the host where none is named.
fn published(
    options: &CreateOptions,
    known: &Known<'_>,
    network: NamespaceMode,
) -> anyhow::Result<Vec<PortMapping>> {
    let mut ports = ports::all(&options.publish)?;
    if options.publish_all {
        ports.extend(ports::all(&known.exposed)?);
    }
    if network != NamespaceMode::Pod {
        // There is nothing of its own to publish from; who asks for that is told by whoever asked us.
        ports.clear();
    }
    ports::choose_free(&mut ports)?;
    ports::for_families(ports, known.second_family)
}

fn additions(options: &CreateOptions, mounts: &[Wish]) -> anyhow::Result<Additions> {
    let beside = limits_beside(&options.limits)?;
    let limits = options.ulimit.iter().map(|text| limits::ulimit(text)).collect::<anyhow::Result<_>>()?;
    let tmpfs = mounts.iter().filter_map(|wish| match wish {
        Wish::Memory { target, options } => Some((target.clone(), options.clone())),
        _ => None,
    });
    let mut additions = Additions {
        tmpfs: tmpfs.collect(),
        limits,
        groups: options.group_add.clone(),
        swappiness: limits::swappiness(options.memory_swappiness)?,
        init: options.init,
        bare_system_paths: options.security_opt.iter().any(|option| option == "systempaths=unconfined"),
        ..beside
    };
    finer::add(options, &mut additions)?;
    Ok(additions)
}

/// All limits that CRI has no words for, of a container that is there.
pub(super) fn further_limits(limits: &Limits, finer: &Finer) -> anyhow::Result<Additions> {
    let mut additions = limits_beside(limits)?;
    finer::limit(finer, &mut additions)?;
    Ok(additions)
}

fn limits_beside(limits: &Limits) -> anyhow::Result<Additions> {
    let reservation = limits.memory_reservation.as_deref();
    Ok(Additions {
        pids: limits.pids_limit.map(|limit| if limit <= 0 { -1 } else { limit }),
        memory_reservation: reservation.map(|text| sizes::named("memory-reservation", text)).transpose()?,
        ..Additions::default()
    })
}

/// Docker's, of the drivers that are files.
const LOG_OPTIONS: [&str; 8] =
    ["max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];

/// Logs are files here, or nothing.
fn log_driver(options: &CreateOptions) -> anyhow::Result<&str> {
    let names = options.log_opt.iter().map(|text| text.split_once('=').unwrap_or((text, "")));
    for (name, value) in names {
        if !LOG_OPTIONS.contains(&name) {
            bail!("unknown log opt '{name}' for json-file log driver");
        }
        if name == "max-size" && value != "-1" {
            sizes::bytes(value).context("failed to initialize logging driver")?;
        }
    }
    match options.log_driver.as_deref() {
        None | Some("") => Ok("json-file"),
        Some(known @ ("json-file" | "local" | "none")) => Ok(known),
        Some(other) => bail!(
            "error looking up logging plugin {other}: plugin \"{other}\" not found: logs are files here \
             (json-file, local), or nothing (none)"
        ),
    }
}

/// The cgroup that a container's own is made in.
fn cgroup_parent(options: &CreateOptions) -> String {
    match options.finer.cgroup_parent.as_deref().map(|path| path.trim_matches('/')) {
        None | Some("") => CGROUP.to_owned(),
        Some(path) => format!("/{path}"),
    }
}

/// Where a container's own file of names goes.
const HOSTS: &str = "/etc/hosts";

/// A container's own `/etc/hosts`.
pub(super) fn hosts_mount(file: &Path) -> Mount {
    bind(file.to_owned(), HOSTS)
}

/// What is mounted there is made for each container, unless the user puts something there.
pub(super) fn is_own(target: &str) -> bool {
    target == HOSTS
}

pub(super) fn bind(source: PathBuf, target: &str) -> Mount {
    Mount { host_path: source.display().to_string(), container_path: target.into(), ..Default::default() }
}

#[cfg(test)]
mod tests;
