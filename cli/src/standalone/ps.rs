//! `knarr ps`: stand-alone containers, the newest first.

use super::facts::Facts;
use super::filters::Filters;
use super::{Standalone, health, places, plan, sweep};
use crate::args::{Output, Ps};
use crate::settings::Settings;
use crate::{age, image, output, template};
use jiff::Timestamp;
use knarr_agent::cri::v1::ContainerState;
use knarr_images::ImageStore;
use serde_json::{Value, json};

/// Lists running containers, or all of them.
pub(crate) async fn run(settings: Settings, arguments: Ps) -> anyhow::Result<()> {
    let filters = Filters::parse(&arguments.filter)?;
    let last = arguments.last.or(arguments.latest.then_some(1));
    let all = arguments.all || last.is_some() || filters.by_state();
    let mut found = facts(&settings).await?;
    filters.keep(&mut found)?;
    found.retain(|facts| all || matches!(facts.state(), "running" | "paused" | "restarting"));
    found.truncate(last.unwrap_or(usize::MAX));
    if arguments.output == Output::Json {
        return output::json(&found.iter().map(as_json).collect::<Vec<_>>());
    }
    let now = Timestamp::now();
    let mut rows: Vec<Value> = found.iter().map(|facts| row(facts, now, arguments.no_trunc)).collect();
    let sized = arguments.size || arguments.format.as_deref().is_some_and(|format| format.contains(".Size"));
    if sized {
        let store = image::open(&settings)?;
        for (row, facts) in rows.iter_mut().zip(&found) {
            row["Size"] = size(&store, facts).into();
        }
    }
    if arguments.quiet {
        rows.iter().for_each(|row| output::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(());
    }
    let shown = |(_, field): &&(&str, &str)| arguments.size || *field != "Size";
    let columns: Vec<(&str, &str)> = COLUMNS.iter().filter(shown).copied().collect();
    template::print(&rows, arguments.format.as_deref(), &columns)
}

/// Header and field of each column.
const COLUMNS: [(&str, &str); 8] = [
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
    ("SIZE", "Size"),
];

/// Every container, the newest first; those that were to go with their end go now.
pub(crate) async fn facts(settings: &Settings) -> anyhow::Result<Vec<Facts>> {
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

pub(crate) fn row(facts: &Facts, now: Timestamp, whole: bool) -> Value {
    let status = &facts.status;
    let running = status.state() == ContainerState::ContainerRunning;
    let command = facts.label(plan::COMMAND_LABEL);
    let mounts = status.mounts.iter().filter(|mount| !plan::is_own(&mount.container_path));
    let mounts: Vec<&str> = mounts.map(|mount| mount.host_path.as_str()).collect();
    let labels = plan::own_labels(&status.labels);
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "ID": if whole { status.id.clone() } else { status.id.chars().take(12).collect() },
        "Image": facts.image(),
        "Command": quoted(command, whole),
        "CreatedAt": age::at(Timestamp::from_nanosecond(status.created_at.into()).ok()),
        "RunningFor": format!("{} ago", since(status.created_at, now)),
        "Status": state(facts, now),
        "State": facts.state(),
        "Ports": if running { facts.ports() } else { String::new() },
        "Names": facts.name,
        "Labels": labels.join(","),
        "Networks": facts.networks().join(","),
        "Size": "0B",
        "HealthStatus": facts.health.as_ref().map_or("", |health| health.status.as_str()),
        "Platform": knarr_images::Platform::host().to_string(),
        "LocalVolumes": mounts.iter().filter(|path| volume(path).is_some()).count().to_string(),
        "Mounts": mounts.iter().map(|path| mount(path, whole)).collect::<Vec<_>>().join(","),
    })
}

/// The name of the volume whose files lie there, if it is one.
pub(super) fn volume(path: &str) -> Option<&str> {
    path.strip_suffix("/_data").and_then(|directory| directory.rsplit('/').next())
}

/// A volume by its name, a directory by its path; at most fifteen characters, unless it is to be whole.
fn mount(path: &str, whole: bool) -> String {
    let name = volume(path).unwrap_or(path);
    match name.char_indices().nth(14) {
        Some((cut, _)) if !whole && name.chars().nth(15).is_some() => format!("{}…", &name[..cut]),
        _ => name.to_owned(),
    }
}

/// What it wrote, and that with its image.
fn size(store: &ImageStore, facts: &Facts) -> String {
    let written = facts.written(store);
    let image = store.find(&facts.status.image_id).ok().flatten();
    let below = image.and_then(|image| store.inspect(&image).ok());
    let below: u64 = below.iter().flat_map(|found| &found.layers).map(|layer| layer.unpacked.0).sum();
    format!("{} (virtual {})", output::size(written), output::size(written + below))
}

/// In quotes, in which nothing ends them and no line does; at most twenty characters unless it is to be whole.
fn quoted(command: &str, whole: bool) -> String {
    let long = !whole && command.chars().count() > 20;
    let shown: String = command.chars().take(if long { 19 } else { usize::MAX }).collect();
    Value::from(format!("{shown}{}", if long { "…" } else { "" })).to_string()
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

/// How long ago that was.
fn since(nanoseconds: i64, now: Timestamp) -> String {
    age::words(now.as_second() - nanoseconds / 1_000_000_000)
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
