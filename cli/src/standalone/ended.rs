//! What follows the end of a container nobody waits for: its monitor runs this command.
//!
//! A container that has ended gives its address and its ports back; one that was to go with its end goes; one with a
//! restart policy is started again after its delay. Every step can be taken twice, and is also taken by whoever meets
//! the container first, so that nothing depends on this process: if it is killed, the container only stays ended.

use super::places::{self, Hold};
use super::restarts::{History, of_document};
use super::{Standalone, facts::Facts, is_running, start, sweep};
use crate::settings::Settings;
use knarr_agent::cri::v1::ContainerState;
use knarr_agent::engine::monitors::step_out;
use std::time::Duration;

/// How often a minute is waited for others to let go of the container.
const ATTEMPTS: usize = 10;

/// The container in this directory has ended.
pub(crate) async fn run(settings: Settings, directory: &str) -> anyhow::Result<()> {
    step_out(&settings.node.engine.monitor_cgroup)?;
    let Some(delay) = clear_away(&settings, directory).await? else { return Ok(()) };
    // Nothing is held meanwhile: it may be stopped, started or removed.
    tokio::time::sleep(delay).await;
    start_again(&settings, directory).await
}

/// The container, ours alone; none where it is gone. Whoever stayed with it goes with its end, but may take a while.
async fn open(settings: &Settings, directory: &str) -> anyhow::Result<Option<Standalone>> {
    for _ in 0..ATTEMPTS {
        let place = places::all(settings)?.into_iter().find(|place| place.directory == directory);
        let Some(place) = place else { return Ok(None) };
        if let Ok(lock) = place.lock(settings, Hold::Exclusive).await {
            return Standalone::open(settings, place, lock).await.map(Some);
        }
    }
    Ok(None)
}

/// Answers after which time the container is to be started again, if it is.
async fn clear_away(settings: &Settings, directory: &str) -> anyhow::Result<Option<Duration>> {
    let Some(place) = open(settings, directory).await? else { return Ok(None) };
    place.tell_end().await;
    if sweep(settings, &place).await? {
        return Ok(None);
    }
    let Some(facts) = Facts::of(&place).await? else { return Ok(None) };
    if facts.status.state() != ContainerState::ContainerExited {
        return Ok(None);
    }
    let policy = of_document(&facts.options["RestartPolicy"]);
    let history = History::read(place.data_dir())?;
    match history.after(policy, &facts.status) {
        Some((history, delay)) => history.write(place.data_dir()).map(|()| Some(delay)),
        None => place.disconnect().await.map(|()| None),
    }
}

async fn start_again(settings: &Settings, directory: &str) -> anyhow::Result<()> {
    let Some(place) = open(settings, directory).await? else { return Ok(()) };
    let history = History::read(place.data_dir())?;
    let running = place.container().await?.is_none_or(|container| is_running(&container));
    // Somebody stopped it, or started it, meanwhile.
    if running || history.stopped || !history.waiting {
        return Ok(());
    }
    let started = start::begin(settings, &place, History { waiting: false, ..history.clone() }).await;
    if started.is_err() {
        History { waiting: false, stopped: true, ..history }.write(place.data_dir())?;
        place.disconnect().await?;
    }
    started
}
