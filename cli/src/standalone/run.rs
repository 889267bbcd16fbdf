//! `knarr run` and `create`: one container, from image to exit status, with no daemon.
//!
//! In the foreground the exit status is the container's own; 125 says that knarr failed, 126 that the command
//! could not be invoked, 127 that it was not found (docker run's numbers).

use super::attach::{Manner, Outcome, join};
use super::facts::Facts;
use super::networks::membership::{self, Membership};
use super::networks::{names, wanted};
use super::plan::health::OfImage;
use super::plan::{self, Known, Plan};
use super::{Standalone, helper, hosts, places, publish, recipe, shared, terminal, volumes};
use crate::args::{CreateOptions, Run};
use crate::events::{Journal, familiar};
use crate::settings::Settings;
use crate::{image, output};
use anyhow::{Context, bail};
use knarr_agent::config::EngineConfig;
use knarr_agent::cri::RuntimeService;
use knarr_agent::cri::v1::{CreateContainerRequest, PortMapping, RunPodSandboxRequest, StatusRequest};
use knarr_agent::engine::network::cidr::Cidr;
use knarr_images::{Digest, Image, ImageStore, Reference};
use std::io::Write;
use std::process::ExitCode;

/// How often a port may be taken from under us.
const CLAIMS: usize = 3;

/// Runs the container; errors of ours end with 125 to 127.
pub(crate) async fn run(settings: Settings, mut arguments: Box<Run>) -> anyhow::Result<ExitCode> {
    arguments.options.tell_words();
    let CreateOptions { interactive, tty, .. } = arguments.options;
    terminal::check(interactive && tty && !arguments.detach)?;
    Ok(or_complain(started(&settings, arguments).await))
}

/// Makes the container and prints its id.
pub(crate) async fn create(settings: Settings, mut options: Box<CreateOptions>) -> anyhow::Result<ExitCode> {
    options.tell_words();
    Ok(only_made(&settings, options).await.unwrap_or_else(|error| {
        let text = output::describe(&error);
        output::complain(&format!("knarr: {text}"));
        // As Docker has it: 125 for what cannot be meant, and 1 for what cannot be had.
        let volumes = ["empty section between colons", "invalid empty volume spec"];
        let no_sense =
            text.starts_with("invalid argument") || volumes.iter().any(|words| text.contains(words));
        ExitCode::from(if no_sense { 125 } else { 1 })
    }))
}

/// The host's network has all its ports open; whoever names some is told that.
fn warn(options: &CreateOptions) {
    let published = options.publish_all || !options.publish.is_empty();
    if published && options.networks.last().is_some_and(|name| name == "host") {
        output::complain("WARNING: Published ports are discarded when using host network mode");
    }
}

/// Its ports are claimed when it is started, as Docker does it.
async fn only_made(settings: &Settings, mut options: Box<CreateOptions>) -> anyhow::Result<ExitCode> {
    warn(&options);
    shared::by_id(settings, &mut options).await?;
    publish::settle(settings, &mut options.publish).await?;
    let (place, created) = made(settings, &options, true).await?;
    place.disconnect().await?;
    output::line(&created.container_id);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn or_complain(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        let text = output::describe(&error);
        output::complain(&format!("knarr: {text}"));
        ExitCode::from(failure_code(&text))
    })
}

/// Docker's exit status for a container that could not be started.
pub(super) fn failure_code(text: &str) -> u8 {
    let start_failed = text.contains("unable to start container process") || text.contains("exec:");
    match start_failed {
        true if text.contains("no such file or directory") || text.contains("executable file not found") => {
            127
        }
        true if text.contains("permission denied") || text.contains("is a directory") => 126,
        _ => 125,
    }
}

async fn started(settings: &Settings, mut arguments: Box<Run>) -> anyhow::Result<ExitCode> {
    let manner = Manner::new(&arguments.terminal, arguments.options.interactive)?
        .only(&arguments.options.attach, arguments.detach)?;
    warn(&arguments.options);
    shared::by_id(settings, &mut arguments.options).await?;
    publish::settle(settings, &mut arguments.options.publish).await?;
    let (place, created) = made(settings, &arguments.options, arguments.detach).await?;
    let ended = match arguments.detach {
        true => begin(&place, &created).await.map(|()| {
            output::line(&created.container_id);
            Outcome::Detached
        }),
        false => join(&place, &created, &manner, true).await,
    };
    let keep = match &ended {
        Ok(Outcome::Detached) => true,
        Ok(Outcome::Ended(_)) => !arguments.options.rm,
        // As Docker does, one that could not be started is kept to be looked at.
        Err(_) => !arguments.options.rm,
    };
    if !keep {
        place.remove(settings, true).await.context("remove the container")?;
    } else if !matches!(ended, Ok(Outcome::Detached)) {
        place.rest().await?;
    }
    Ok(ended?.code())
}

/// Sandbox and container ids of a created container.
pub(super) struct Created {
    pub(super) sandbox_id: String,
    pub(super) container_id: String,
    pub(super) tty: bool,
}

/// Starts a container that nobody watches.
async fn begin(place: &Standalone, created: &Created) -> anyhow::Result<()> {
    place.begin(&created.container_id).await
}

/// Makes a container, or nothing. It is ours alone until it is started.
async fn made(
    settings: &Settings,
    options: &CreateOptions,
    detached: bool,
) -> anyhow::Result<(Standalone, Created)> {
    if let Some(file) = options.cidfile.as_ref().filter(|file| file.exists()) {
        bail!(
            "container ID file found, make sure the other container isn't running or delete {}",
            file.display()
        );
    }
    let store = image::open(settings)?;
    let image = image_of(&store, &Journal::of(settings), options).await?;
    store.verify(&image, &options.image)?;
    let memberships = wanted::memberships(settings, options)?;
    hosts::check_links(settings, &memberships).await?;
    let name = match options.name.as_ref().filter(|name| !name.is_empty()) {
        Some(name) => name.trim_start_matches('/').to_owned(),
        None => places::random()?,
    };
    let (place, lock) = places::reserve(settings, &name).await?;
    if memberships != [Membership::of(None)] {
        membership::keep(&place.data_dir(settings), &memberships)?;
    }
    let helper = helper(settings, &place, "ended")?;
    let id = Digest::of(places::random()?.as_bytes()).hex().to_owned();
    let change = |engine: &mut EngineConfig| {
        engine.volatile = options.rm;
        engine.container_id = Some(id.clone());
        // Whoever stays with a container to remove it needs no helper.
        engine.on_exit = if options.rm && !detached { Vec::new() } else { helper };
    };
    let place = Standalone::open_with(settings, place, lock, change).await?;
    let mut made = make(settings, &place, options, (&store, &image), detached).await;
    for _ in 0..CLAIMS {
        let Some(error) = made.as_ref().err().filter(|error| publish::is_clash(error)) else { break };
        tracing::debug!("{error:#}");
        // Whose port it was may have ended; where we chose the port ourselves, we choose another one.
        if !publish::release_ended(settings, &place.place.directory).await? && !chooses_ports(options) {
            break;
        }
        made = make(settings, &place, options, (&store, &image), detached).await;
    }
    let created = match made {
        Ok(created) => created,
        Err(error) => {
            place.remove(settings, true).await.context("remove the container")?;
            return Err(error);
        }
    };
    place.tell("create", &[]).await;
    if let Some(file) = &options.cidfile {
        let mut file = std::fs::File::create_new(file).with_context(|| format!("{}", file.display()))?;
        file.write_all(created.container_id.as_bytes())?;
    }
    Ok((place, created))
}

/// Fails, in Docker's words, for what can name no image.
fn check_reference(name: &str) -> anyhow::Result<()> {
    let Err(error) = Reference::parse(name) else { return Ok(()) };
    if !error.to_string().contains("must be lowercase") {
        bail!("invalid reference format");
    }
    let path = name.rsplit_once(':').map_or(name, |(path, _)| path);
    let library = if path.contains('/') { "" } else { "library/" };
    bail!("invalid reference format: repository name ({library}{path}) must be lowercase")
}

async fn image_of(store: &ImageStore, journal: &Journal, options: &CreateOptions) -> anyhow::Result<Image> {
    let found = store.find(&options.image)?;
    if found.is_none() {
        check_reference(&options.image)?;
    }
    let wanted = options.platform.as_deref();
    let other = match (&found, wanted) {
        (Some(image), Some(wanted)) if !image::is_for(store, image, wanted)? => Some(format!(
            "image with reference {} was found but does not provide the specified platform ({wanted})",
            image.id
        )),
        _ => None,
    };
    match (options.pull.as_str(), found) {
        ("never", Some(_)) if other.is_some() => bail!(other.unwrap_or_default()),
        ("missing", Some(_)) if other.is_some() => {
            let pulled =
                image::pull(store, journal, &options.image, options.platform.clone(), options.quiet).await;
            pulled.context(other.unwrap_or_default())
        }
        ("missing", Some(image)) | ("never", Some(image)) => Ok(image),
        ("never", None) => bail!("No such image: {}", options.image),
        (policy, _) => {
            if policy == "missing" && !options.quiet {
                output::complain(&format!("Unable to find image '{}' locally", familiar(&options.image)));
            }
            image::pull(store, journal, &options.image, options.platform.clone(), options.quiet).await
        }
    }
}

async fn make(
    settings: &Settings,
    place: &Standalone,
    options: &CreateOptions,
    (store, image): (&ImageStore, &Image),
    detached: bool,
) -> anyhow::Result<Created> {
    let config = store.config(image)?.config().clone().unwrap_or_default();
    let inspected = store.inspect(image)?;
    let raw = &inspected.config["config"];
    let logs = place.log_file();
    let log_directory = logs.parent().context("log directory")?;
    let network = shared::network_of(settings, &options.network).await?;
    let hostname = match &network {
        Some(other) => Some(Facts::expect(other).await?.env("HOSTNAME")),
        None => None,
    };
    let id = place.config.engine.container_id.clone().unwrap_or_default();
    let known = Known {
        name: place.name(),
        short_id: id.get(..12).unwrap_or_default(),
        hostname: hostname.as_deref(),
        directory: &place.place.directory,
        image_id: &image.id,
        image: (config.entrypoint().clone().unwrap_or_default(), config.cmd().clone().unwrap_or_default()),
        user: config.user().clone().unwrap_or_default(),
        exposed: exposed(config.exposed_ports().clone().unwrap_or_default(), &options.expose),
        inherited: volumes::of_others(settings, &options.volumes_from).await?,
        volumes: config.volumes().clone().unwrap_or_default(),
        labels: config.labels().clone().unwrap_or_default(),
        health: OfImage { check: raw["Healthcheck"].clone(), shell: raw["Shell"].clone() },
        log_directory,
        detached,
        second_family: settings.node.run_network.pod_cidr_v6.is_some(),
    };
    let Plan { sandbox, mut container, mut additions, mounts } = plan::plan(options, &known)?;
    publish::check_free(settings, &sandbox.port_mappings).await?;
    std::fs::create_dir_all(log_directory).with_context(|| format!("mkdir {}", log_directory.display()))?;
    let domain = options.finer.domainname.as_deref().unwrap_or_default();
    names::keep_hostname(place.data_dir(), &sandbox.hostname, domain)?;
    let runtime_handler = runtime_handler(settings, options.runtime.as_deref())?;
    let recursion = reads_recursively(settings, place, &runtime_handler).await?;
    let ready = volumes::prepare(settings, &place.place.directory, &mounts, recursion)?;
    container.mounts.extend(ready.mounts.iter().cloned());
    additions.mounts.extend(ready.alone.iter().cloned());
    additions.sub_paths.clone_from(&ready.sub_paths);
    let request = RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler };
    let sandbox_id = place.engine.run_pod_sandbox(request).await?.pod_sandbox_id;
    let own = !container.mounts.iter().any(|mount| plan::is_own(&mount.container_path));
    if let Some(other) = network.filter(|_| own) {
        container.mounts.push(plan::hosts_mount(&other.hosts_files().0));
    } else if own {
        let names = hosts::Names {
            hostname: &sandbox.hostname,
            gateway: &Cidr::parse(&settings.node.run_network.pod_cidr)?.gateway().to_string(),
            more: &options.add_host,
        };
        let own = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let (hosts_file, base) = place.hosts_files();
        std::fs::write(base, hosts::text(&names, &own)?)?;
        hosts::write(place, &sandbox_id, &sandbox.hostname).await?;
        container.mounts.push(plan::hosts_mount(&hosts_file));
    }
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox_id.clone(),
        config: Some(container),
        sandbox_config: Some(sandbox),
    };
    let container_id = place.engine.create_container(request).await?.container_id;
    recipe::keep(place.data_dir(), &additions)?;
    place.engine.add(&container_id, additions).await?;
    volumes::fill(&ready, &place.engine.root_of(&container_id)?)?;
    Ok(Created { sandbox_id, container_id, tty: options.tty })
}

/// Ports of the image and of the command line, each once.
fn exposed(mut ports: Vec<String>, more: &[String]) -> Vec<String> {
    for port in more {
        let named = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
        if !ports.contains(&named) {
            ports.push(named);
        }
    }
    ports
}

/// The default runtime has no name; ours and the one whose place it takes are names for it too.
fn runtime_handler(settings: &Settings, name: Option<&str>) -> anyhow::Result<String> {
    match name {
        None => Ok(String::new()),
        Some(name) if settings.node.engine.runtimes.contains_key(name) => Ok(name.to_owned()),
        Some("runc" | "io.containerd.runc.v2" | "knarr-runtime") => Ok(String::new()),
        Some(name) => bail!("unknown or invalid runtime name: {name}"),
    }
}

/// Whether a runtime makes mounts read-only with all below them. Ours does wherever the kernel can; others are asked.
async fn reads_recursively(settings: &Settings, place: &Standalone, handler: &str) -> anyhow::Result<bool> {
    let kernel_can = volumes::kernel_reads_recursively();
    if !kernel_can || !settings.node.engine.runtimes.contains_key(handler) {
        return Ok(kernel_can);
    }
    let status = place.engine.status(StatusRequest::default()).await?;
    let own = status.runtime_handlers.into_iter().find(|known| known.name == handler);
    Ok(own.and_then(|own| own.features).is_some_and(|features| features.recursive_read_only_mounts))
}

fn chooses_ports(options: &CreateOptions) -> bool {
    let chosen = |ports: Vec<PortMapping>| ports.iter().any(|port| port.host_port == 0);
    options.publish_all || plan::ports::all(&options.publish).is_ok_and(chosen)
}

#[cfg(test)]
mod tests {
    use super::failure_code;

    #[test]
    fn failures_have_dockers_numbers() {
        let not_found = r#"unable to start container process: exec: "x": executable file not found in $PATH"#;
        let denied = r#"unable to start container process: exec: "/etc": permission denied"#;
        assert_eq!(failure_code(not_found), 127);
        assert_eq!(failure_code(denied), 126);
        assert_eq!(failure_code("busybox: no such image"), 125);
        assert_eq!(failure_code("open /x: no such file or directory"), 125);
    }
}
