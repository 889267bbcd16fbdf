//! `knarr ps`: stand-alone containers.

use super::{Standalone, names};
use crate::args::{Output, Ps};
use crate::output;
use crate::settings::Settings;
use jiff::{Timestamp, Unit};
use knarr_agent::cri::RuntimeService;
use knarr_agent::cri::v1::{ContainerState, ContainerStatus, ContainerStatusRequest};
use serde_json::json;

/// Lists running containers, or all of them.
pub(crate) async fn run(settings: Settings, arguments: Ps) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for name in names(&settings)? {
        if let Some(status) = status(&settings, &name).await? {
            found.push((name, status));
        }
    }
    found.retain(|(_, status)| arguments.all || status.state == ContainerState::ContainerRunning as i32);
    if arguments.output == Output::Json {
        return output::json(&found.iter().map(|(name, status)| as_json(name, status)).collect::<Vec<_>>());
    }
    if arguments.quiet {
        found.iter().for_each(|(name, _)| output::line(name));
        return Ok(());
    }
    let now = Timestamp::now();
    let rows: Vec<Vec<String>> = found.iter().map(|(name, status)| row(name, status, now)).collect();
    output::table(&["NAME", "IMAGE", "CREATED", "STATUS"], &rows);
    Ok(())
}

async fn status(settings: &Settings, name: &str) -> anyhow::Result<Option<ContainerStatus>> {
    let place = Standalone::open(settings, name).await?;
    let Some(container) = place.container().await? else { return Ok(None) };
    let request = ContainerStatusRequest { container_id: container.id, verbose: false };
    Ok(place.engine.container_status(request).await?.status)
}

fn row(name: &str, status: &ContainerStatus, now: Timestamp) -> Vec<String> {
    vec![name.to_owned(), image(status), format!("{} ago", since(status.created_at, now)), state(status, now)]
}

fn image(status: &ContainerStatus) -> String {
    status.labels.get("io.knarr.run.image").cloned().unwrap_or_else(|| status.image_ref.clone())
}

fn state(status: &ContainerStatus, now: Timestamp) -> String {
    match status.state() {
        ContainerState::ContainerRunning => format!("Up {}", since(status.started_at, now)),
        ContainerState::ContainerExited => {
            format!("Exited ({}) {} ago", status.exit_code, since(status.finished_at, now))
        }
        ContainerState::ContainerCreated => "Created".into(),
        ContainerState::ContainerUnknown => "Unknown".into(),
    }
}

/// The largest whole unit, in words.
fn since(nanoseconds: i64, now: Timestamp) -> String {
    let seconds = (now.as_second() - nanoseconds / 1_000_000_000).max(0);
    let (count, unit) = match seconds {
        0..60 => (seconds, Unit::Second),
        60..3600 => (seconds / 60, Unit::Minute),
        3600..86400 => (seconds / 3600, Unit::Hour),
        _ => (seconds / 86400, Unit::Day),
    };
    let word = match unit {
        Unit::Second => "second",
        Unit::Minute => "minute",
        Unit::Hour => "hour",
        _ => "day",
    };
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}

fn as_json(name: &str, status: &ContainerStatus) -> serde_json::Value {
    json!({
        "name": name,
        "id": status.id,
        "image": image(status),
        "state": status.state().as_str_name(),
        "exitCode": status.exit_code,
        "createdAt": status.created_at,
        "startedAt": status.started_at,
        "finishedAt": status.finished_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_words() {
        let now = Timestamp::from_second(100_000).unwrap();
        for (seconds, text) in
            [(1, "1 second"), (59, "59 seconds"), (61, "1 minute"), (7200, "2 hours"), (99_000, "1 day")]
        {
            assert_eq!(since((100_000 - seconds) * 1_000_000_000, now), text);
        }
    }
}
