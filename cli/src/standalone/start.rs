//! `knarr start`: containers that were made or have ended run (again), with what they wrote.

use super::attach::{Manner, created, join};
use super::each::each;
use super::facts::Facts;
use super::restarts::History;
use super::{Standalone, hosts, is_running, network, places, plan, publish, recipe, restarts, run};
use crate::args::Start;
use crate::settings::Settings;
use anyhow::{Context, bail};
use knarr_agent::cri::RuntimeService;
use knarr_agent::cri::v1::{Container, ContainerState, ListPodSandboxRequest, PodSandboxState};
use std::process::ExitCode;

/// Starts them; one of them may be stayed with.
pub(crate) async fn run(settings: Settings, arguments: Start) -> anyhow::Result<ExitCode> {
    if arguments.attach || arguments.interactive {
        let [name] = &arguments.names[..] else {
            bail!("you cannot start and attach multiple containers at once")
        };
        let manner = Manner::new(&arguments.terminal, arguments.interactive)?;
        return Ok(run::or_complain(start_and_join(&settings, name, &manner).await));
    }
    let names = if arguments.boot { after_boot(&settings).await? } else { arguments.names };
    each(&names, async |name| {
        let place = Standalone::find(&settings, name).await?;
        if !running(&place).await? {
            begin(&settings, &place.alone(&settings).await?, History::default()).await?;
        }
        Ok(name.to_owned())
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// Names of the containers that their policies start when the machine does, as Docker's daemon would when it starts.
async fn after_boot(settings: &Settings) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for place in places::all(settings)? {
        // One that is being made or removed is none of them.
        let Ok(place) = Standalone::at(settings, place).await else { continue };
        let Some(facts) = Facts::of(&place).await? else { continue };
        let history = History::read(place.data_dir())?;
        let ended = matches!(facts.state(), "exited" | "restarting");
        if ended && restarts::starts_with_machine(&facts.options["RestartPolicy"], &history) {
            names.push(place.name().to_owned());
        }
    }
    Ok(names)
}

/// Starts one, with what is known of its restarts; one that runs is fine.
pub(super) async fn begin(settings: &Settings, place: &Standalone, history: History) -> anyhow::Result<()> {
    let Some(container) = startable(place).await? else { return Ok(()) };
    let started = match ready(settings, place, &container, history).await {
        Ok(()) => place.begin(&container.id).await,
        Err(error) => Err(error),
    };
    if started.is_err() {
        place.disconnect().await?;
        place.shared().await?;
    }
    started
}

/// Gives it what it had given back when it ended.
async fn ready(
    settings: &Settings,
    place: &Standalone,
    container: &Container,
    history: History,
) -> anyhow::Result<()> {
    connect(settings, place, &container.pod_sandbox_id).await?;
    history.write(place.data_dir())
}

/// Gives it an address and its ports.
pub(super) async fn connect(settings: &Settings, place: &Standalone, sandbox_id: &str) -> anyhow::Result<()> {
    network::expect(settings, place.data_dir())?;
    if !place.is_connected().await? {
        let facts = Facts::expect(place).await?;
        publish::check_free(settings, &plan::ports::of_bindings(&facts.options["PortBindings"])).await?;
        if let Err(error) = place.engine.connect(sandbox_id).await {
            if !publish::is_clash(&error) || !publish::release_ended(settings, &place.place.directory).await?
            {
                return Err(error);
            }
            place.engine.connect(sandbox_id).await?;
        }
    }
    hosts::write(place, sandbox_id, &Facts::expect(place).await?.env("HOSTNAME")).await
}

async fn start_and_join(settings: &Settings, name: &str, manner: &Manner) -> anyhow::Result<ExitCode> {
    let mut place = Standalone::find(settings, name).await?;
    if !running(&place).await? {
        place = place.alone(settings).await?;
    }
    let start = startable(&place).await?;
    let begin = start.is_some();
    let container = match start {
        Some(container) => container,
        None => place.running().await?,
    };
    if begin {
        ready(settings, &place, &container, History::default()).await?;
    }
    let created = created(&place, container.pod_sandbox_id, container.id).await?;
    let outcome = join(&place, &created, manner, begin).await?;
    if !super::sweep(settings, &place).await? {
        place.rest().await?;
    }
    Ok(outcome.code())
}

/// It runs; one that is paused is neither running nor to be started.
async fn running(place: &Standalone) -> anyhow::Result<bool> {
    let container = place.expect().await?;
    if is_running(&container) && place.engine.is_paused(&container.id).await? {
        bail!("cannot start a paused container, try unpause instead");
    }
    Ok(is_running(&container))
}

/// The container, ours alone and ready to be started; none if it runs.
async fn startable(place: &Standalone) -> anyhow::Result<Option<Container>> {
    if running(place).await? {
        return Ok(None);
    }
    let container = place.expect().await?;
    place.exclusive().await?;
    let pods = place.engine.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
    if pods.iter().any(|pod| pod.state != PodSandboxState::SandboxReady as i32) {
        // It belongs to an earlier boot of this machine.
        let revived = async { place.engine.revive(&container.id, recipe::read(place.data_dir())?).await };
        revived.await.with_context(|| format!("container {}", place.name()))?;
    } else if container.state == ContainerState::ContainerExited as i32 {
        place.tell_end().await;
        place.engine.reset(&container.id).await?;
    }
    Ok(Some(container))
}
