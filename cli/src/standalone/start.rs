//! `knarr start`: containers that were made or have ended run (again), with what they wrote.

use super::attach::{Manner, created, join};
use super::each::each;
use super::{Standalone, is_running, run};
use crate::args::Start;
use crate::settings::Settings;
use anyhow::bail;
use knarr_agent::cri::RuntimeService;
use knarr_agent::cri::v1::{
    Container, ContainerState, ListPodSandboxRequest, PodSandboxState, StartContainerRequest,
};
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
    each(&arguments.names, async |name| {
        start(&Standalone::find(&settings, name).await?).await?;
        Ok(name.to_owned())
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

/// Starts one; one that runs is fine.
pub(super) async fn start(place: &Standalone) -> anyhow::Result<()> {
    let Some(container) = startable(place).await? else { return Ok(()) };
    let request = StartContainerRequest { container_id: container.id };
    let started = place.engine.start_container(request).await;
    place.shared().await?;
    Ok(started.map(drop)?)
}

async fn start_and_join(settings: &Settings, name: &str, manner: &Manner) -> anyhow::Result<ExitCode> {
    let place = Standalone::find(settings, name).await?;
    let start = startable(&place).await?;
    let begin = start.is_some();
    let container = match start {
        Some(container) => container,
        None => place.running().await?,
    };
    let created = created(&place, container.pod_sandbox_id, container.id).await?;
    let outcome = join(&place, &created, manner, begin).await?;
    super::sweep(settings, &place).await?;
    Ok(outcome.code())
}

/// The container, ours alone and ready to be started; none if it runs.
async fn startable(place: &Standalone) -> anyhow::Result<Option<Container>> {
    let container = place.expect().await?;
    if is_running(&container) {
        if place.engine.is_paused(&container.id).await? {
            bail!("cannot start a paused container, try unpause instead");
        }
        return Ok(None);
    }
    let pods = place.engine.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
    if pods.iter().any(|pod| pod.state != PodSandboxState::SandboxReady as i32) {
        bail!(
            "container {} belongs to an earlier boot of this machine and cannot be started again; \
             `knarr commit` makes an image of what it wrote",
            place.name()
        );
    }
    place.exclusive().await?;
    if container.state == ContainerState::ContainerExited as i32 {
        place.engine.reset(&container.id).await?;
    }
    Ok(Some(container))
}
