//! `knarr inspect`: a container as JSON, in the words of `docker inspect` where both know a thing.

use super::{Standalone, plan};
use crate::output;
use crate::settings::Settings;
use anyhow::Context;
use jiff::Timestamp;
use knarr_agent::cri::v1::{ContainerState, ContainerStatus};
use serde_json::{Value, json};

/// Prints a list with one object per container.
pub(crate) async fn run(settings: Settings, names: &[String]) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for name in names {
        let place = Standalone::find(&settings, name).await?;
        let status = place.status().await?.with_context(|| format!("no such container: {name}"))?;
        found.push(document(&place, &status));
    }
    output::json(&found)
}

fn document(place: &Standalone, status: &ContainerStatus) -> Value {
    let mounts = status.mounts.iter().map(|mount| {
        json!({"Source": mount.host_path, "Destination": mount.container_path, "RW": !mount.readonly})
    });
    json!({
        "Id": status.id,
        "Name": place.name,
        "Created": time(status.created_at),
        "Image": status.image_ref,
        "State": {
            "Status": word(status.state()),
            "Running": status.state() == ContainerState::ContainerRunning,
            "ExitCode": status.exit_code,
            "Error": status.message,
            "OOMKilled": status.reason == "OOMKilled",
            "StartedAt": time(status.started_at),
            "FinishedAt": time(status.finished_at),
        },
        "Config": {
            "Image": status.labels.get(plan::IMAGE_LABEL),
            "Labels": plan::own_labels(&status.labels),
        },
        "LogPath": place.log_file(),
        "Mounts": mounts.collect::<Vec<_>>(),
    })
}

fn word(state: ContainerState) -> &'static str {
    match state {
        ContainerState::ContainerCreated => "created",
        ContainerState::ContainerRunning => "running",
        ContainerState::ContainerExited => "exited",
        ContainerState::ContainerUnknown => "unknown",
    }
}

/// Docker writes the year 1 for what has not happened.
fn time(nanoseconds: i64) -> String {
    match nanoseconds {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        _ => Timestamp::from_nanosecond(nanoseconds.into()).unwrap_or_default().to_string(),
    }
}
