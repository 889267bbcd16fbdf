//! `knarr ps`: stand-alone containers, the newest first.

use super::facts::Facts;
use super::{Standalone, health, places, plan, sweep};
use crate::args::{Output, Ps};
use crate::settings::Settings;
use crate::{output, template};
use anyhow::{Context, bail};
use jiff::{Timestamp, Unit};
use knarr_agent::cri::v1::ContainerState;
use serde_json::{Value, json};

/// Lists running containers, or all of them.
pub(crate) async fn run(settings: Settings, arguments: Ps) -> anyhow::Result<()> {
    let filters =
        arguments.filter.iter().map(|text| Filter::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let last = arguments.last.or(arguments.latest.then_some(1));
    let by_state = filters.iter().any(|filter| matches!(filter.key.as_str(), "status" | "exited"));
    let all = arguments.all || last.is_some() || by_state;
    let mut found = facts(&settings).await?;
    found.retain(|facts| all || matches!(facts.state(), "running" | "paused" | "restarting"));
    found.retain(|facts| passes(facts, &filters));
    found.truncate(last.unwrap_or(usize::MAX));
    if arguments.output == Output::Json {
        return output::json(&found.iter().map(as_json).collect::<Vec<_>>());
    }
    let now = Timestamp::now();
    let rows: Vec<Value> = found.iter().map(|facts| row(facts, now, arguments.no_trunc)).collect();
    if arguments.quiet {
        rows.iter().for_each(|row| output::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(());
    }
    template::print(&rows, arguments.format.as_deref(), &COLUMNS)
}

/// Header and field of each column.
const COLUMNS: [(&str, &str); 7] = [
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
];

/// Every container, the newest first; those that were to go with their end go now.
pub(super) async fn facts(settings: &Settings) -> anyhow::Result<Vec<Facts>> {
    let mut found = Vec::new();
    for place in places::all(settings)? {
        // One that is being removed is none.
        let Ok(place) = Standalone::at(settings, place).await else { continue };
        if !sweep(settings, &place).await? {
            found.extend(Facts::of(&place).await?);
        }
    }
    found.sort_by_key(|facts| std::cmp::Reverse(facts.status.created_at));
    Ok(found)
}

/// `--filter`: those of one key are alternatives, of several keys all must hold.
#[derive(Debug)]
struct Filter {
    key: String,
    value: String,
}

impl Filter {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (key, value) = text.split_once('=').with_context(|| format!("invalid filter '{text}'"))?;
        if !["name", "id", "label", "status", "exited", "ancestor", "volume", "health"].contains(&key) {
            bail!("invalid filter '{key}'");
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned() })
    }

    fn holds(&self, facts: &Facts) -> bool {
        let value = self.value.as_str();
        match self.key.as_str() {
            "name" => facts.name.contains(value.trim_matches(['^', '$', '/'])),
            "id" => facts.status.id.starts_with(value),
            "status" => facts.state() == value,
            "health" => facts.health.as_ref().map_or("none", |health| &health.status) == value,
            "exited" => {
                facts.state() == "exited"
                    && value.parse().is_ok_and(|code: i32| code == facts.status.exit_code)
            }
            "ancestor" => {
                let image = facts.image();
                image == value
                    || image.split(':').next() == Some(value)
                    || facts.status.image_id.ends_with(value)
            }
            "volume" => facts.status.mounts.iter().any(|m| m.container_path == value || m.host_path == value),
            _ => match value.split_once('=') {
                Some((name, wanted)) => facts.status.labels.get(name).is_some_and(|known| known == wanted),
                None => facts.status.labels.contains_key(value),
            },
        }
    }
}

fn passes(facts: &Facts, filters: &[Filter]) -> bool {
    filters.iter().all(|filter| {
        let mut same = filters.iter().filter(|other| other.key == filter.key);
        // Labels all have to be there.
        if filter.key == "label" { filter.holds(facts) } else { same.any(|other| other.holds(facts)) }
    })
}

fn row(facts: &Facts, now: Timestamp, whole: bool) -> Value {
    let status = &facts.status;
    let running = status.state() == ContainerState::ContainerRunning;
    let command = facts.label(plan::COMMAND_LABEL);
    let labels = plan::own_labels(&status.labels);
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "ID": if whole { status.id.clone() } else { status.id.chars().take(12).collect() },
        "Image": facts.image(),
        "Command": if whole { format!("\"{command}\"") } else { quoted(command) },
        "CreatedAt": Timestamp::from_nanosecond(status.created_at.into()).unwrap_or_default().to_string(),
        "RunningFor": format!("{} ago", since(status.created_at, now)),
        "Status": state(facts, now),
        "State": facts.state(),
        "Ports": if running { facts.label(plan::PORTS_LABEL) } else { "" },
        "Names": facts.name,
        "Labels": labels.join(","),
        "Networks": facts.options["NetworkMode"].as_str().unwrap_or_default(),
        "Mounts": status.mounts.iter().map(|mount| mount.host_path.as_str()).collect::<Vec<_>>().join(","),
    })
}

/// At most twenty characters, as Docker shows a command.
fn quoted(command: &str) -> String {
    let long = command.chars().count() > 20;
    let shown: String = command.chars().take(if long { 19 } else { 20 }).collect();
    format!("\"{shown}{}\"", if long { "…" } else { "" })
}

fn state(facts: &Facts, now: Timestamp) -> String {
    let status = &facts.status;
    match facts.state() {
        "running" => {
            format!("Up {}{}", since(status.started_at, now), health::shown(facts.health.as_ref()))
        }
        "paused" => format!("Up {} (Paused)", since(status.started_at, now)),
        "restarting" => format!("Restarting ({}) {} ago", status.exit_code, since(status.finished_at, now)),
        "exited" => format!("Exited ({}) {} ago", status.exit_code, since(status.finished_at, now)),
        "created" => "Created".into(),
        _ => "Dead".into(),
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

fn as_json(facts: &Facts) -> Value {
    let status = &facts.status;
    json!({
        "name": facts.name,
        "id": status.id,
        "image": facts.image(),
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
