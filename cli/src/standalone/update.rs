//! `knarr update`: other limits for containers, whether they run or not, and another restart policy.

use super::each::each;
use super::facts::Facts;
use super::{Standalone, plan, recipe, restarts};
use crate::args::{Finer, Update};
use crate::settings::Settings;
use anyhow::bail;
use knarr_agent::cri::v1::LinuxContainerResources;
use knarr_agent::engine::additions::Additions;
use serde_json::Value;

/// Updates every one it can, then reports those it could not.
pub(crate) async fn run(settings: Settings, arguments: Update) -> anyhow::Result<()> {
    let resources = plan::limits::resources(&arguments.limits, None)?;
    let more = more(&arguments)?;
    let policy = match &arguments.restart {
        Some(text) => {
            let (policy, name) = restarts::parse(text)?;
            Some(restarts::document(policy, &name))
        }
        None => None,
    };
    let limited = resources != LinuxContainerResources::default() || more != Additions::default();
    if !limited && policy.is_none() {
        bail!("you must provide one or more flags when using this command");
    }
    each(&arguments.names, async |name| {
        let place = Standalone::find(&settings, name).await?;
        if let Some(policy) = &policy {
            follow(&place, policy).await?;
        }
        if limited {
            limit(&place, resources.clone(), &more).await?;
        }
        place.tell("update", &[]).await;
        Ok(name.to_owned())
    })
    .await
}

/// From its next end on; one that has ended stays so until somebody starts it.
async fn follow(place: &Standalone, policy: &Value) -> anyhow::Result<()> {
    let facts = Facts::expect(place).await?;
    if facts.options["AutoRemove"] == true && restarts::of_document(policy) != restarts::Policy::No {
        bail!("Restart policy cannot be updated because AutoRemove is enabled for the container");
    }
    restarts::change(place.data_dir(), policy)
}

/// The limits that CRI has no words for.
fn more(arguments: &Update) -> anyhow::Result<Additions> {
    let finer = Finer {
        blkio_weight: arguments.blkio_weight,
        cpu_rt_period: arguments.cpu_rt_period,
        cpu_rt_runtime: arguments.cpu_rt_runtime,
        ..Finer::default()
    };
    plan::further_limits(&arguments.limits, &finer)
}

/// Those it has not begun with are kept for the start that follows a reboot.
async fn limit(
    place: &Standalone,
    resources: LinuxContainerResources,
    more: &Additions,
) -> anyhow::Result<()> {
    place.engine.limit(&place.expect().await?.id, resources, more).await?;
    if *more == Additions::default() {
        return Ok(());
    }
    let mut kept = recipe::read(place.data_dir())?;
    kept.pids = more.pids.or(kept.pids);
    kept.memory_reservation = more.memory_reservation.or(kept.memory_reservation);
    kept.realtime = (more.realtime.0.or(kept.realtime.0), more.realtime.1.or(kept.realtime.1));
    if let Some(block_io) = &more.block_io {
        kept.block_io.get_or_insert_default().weight = block_io.weight;
    }
    recipe::keep(place.data_dir(), &kept)
}
