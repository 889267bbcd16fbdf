//! `knarr ps`: stand-alone containers.

use super::{Standalone, names, plan};
use crate::args::{Output, Ps};
use crate::output;
use crate::settings::Settings;
use jiff::{Timestamp, Unit};
use knarr_agent::cri::v1::{ContainerState, ContainerStatus};
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
    output::table(&["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"], &rows);
    Ok(())
}

async fn status(settings: &Settings, name: &str) -> anyhow::Result<Option<ContainerStatus>> {
    Standalone::open(settings, name).await?.status().await
}

fn row(name: &str, status: &ContainerStatus, now: Timestamp) -> Vec<String> {
    let label = |key: &str| status.labels.get(key).cloned().unwrap_or_default();
    let running = status.state() == ContainerState::ContainerRunning;
    vec![
        status.id.chars().take(12).collect(),
        image(status),
        quoted(&label(plan::COMMAND_LABEL)),
        format!("{} ago", since(status.created_at, now)),
        state(status, now),
        if running { label(plan::PORTS_LABEL) } else { String::new() },
        name.to_owned(),
    ]
}

/// At most twenty characters, as Docker shows a command.
fn quoted(command: &str) -> String {
    let long = command.chars().count() > 20;
    let shown: String = command.chars().take(if long { 19 } else { 20 }).collect();
    format!("\"{shown}{}\"", if long { "…" } else { "" })
}

fn image(status: &ContainerStatus) -> String {
    status.labels.get(plan::IMAGE_LABEL).cloned().unwrap_or_else(|| status.image_ref.clone())
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
