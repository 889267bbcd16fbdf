//! `knarr stats`: what containers use, once or until interrupted.

use super::facts::Facts;
use super::{Standalone, places};
use crate::args::Stats;
use crate::settings::Settings;
use crate::{output, template};
use anyhow::Context;
use knarr_agent::cri::RuntimeService;
use knarr_agent::cri::v1::{
    ContainerState, ContainerStatsRequest, ListPodSandboxMetricsRequest, PodSandboxStatsRequest, UInt64Value,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

/// Between two looks; the first figure for the CPU needs two.
const PERIOD: Duration = Duration::from_secs(1);

const COLUMNS: [(&str, &str); 8] = [
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
];

/// One container at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sample {
    id: String,
    name: String,
    /// Nanoseconds of CPU time so far, and when that was.
    cpu: u64,
    at: i64,
    memory: u64,
    limit: u64,
    network: (u64, u64),
    block: (u64, u64),
    pids: u64,
}

/// Shows running containers, or those that are named.
pub(crate) async fn run(settings: Settings, arguments: Stats) -> anyhow::Result<()> {
    let live = !arguments.no_stream;
    let shown = if arguments.no_trunc { usize::MAX } else { 12 };
    let mut before = look(&settings, &arguments).await?;
    loop {
        tokio::time::sleep(PERIOD).await;
        let now = look(&settings, &arguments).await?;
        let rows: Vec<Value> =
            now.values().map(|sample| row(before.get(&sample.id), sample, shown)).collect();
        if live && std::io::stdout().is_terminal() {
            output::line("\x1b[2J\x1b[H\x1b[A");
        }
        template::print(&rows, arguments.format.as_deref(), &COLUMNS)?;
        if !live {
            return Ok(());
        }
        before = now;
    }
}

async fn look(settings: &Settings, arguments: &Stats) -> anyhow::Result<BTreeMap<String, Sample>> {
    let mut places = Vec::new();
    if arguments.names.is_empty() {
        for place in places::all(settings)? {
            places.extend(Standalone::at(settings, place).await.ok());
        }
    }
    for name in &arguments.names {
        places.push(Standalone::find(settings, name).await?);
    }
    let mut samples = BTreeMap::new();
    for place in &places {
        let Some(facts) = Facts::of(place).await? else { continue };
        let running = facts.status.state() == ContainerState::ContainerRunning;
        if running || arguments.all || !arguments.names.is_empty() {
            let sample = sample(place, &facts, running).await?;
            samples.insert(sample.id.clone(), sample);
        }
    }
    Ok(samples)
}

async fn sample(place: &Standalone, facts: &Facts, running: bool) -> anyhow::Result<Sample> {
    let number = |value: Option<UInt64Value>| value.map_or(0, |value| value.value);
    let mut sample = Sample { id: facts.status.id.clone(), name: facts.name.clone(), ..Sample::default() };
    if !running {
        return Ok(sample);
    }
    let request = ContainerStatsRequest { container_id: sample.id.clone() };
    let stats = place.engine.container_stats(request).await?.stats.context("container stats")?;
    let (cpu, memory) = (stats.cpu.unwrap_or_default(), stats.memory.unwrap_or_default());
    (sample.cpu, sample.at) = (number(cpu.usage_core_nano_seconds), cpu.timestamp);
    sample.memory = number(memory.working_set_bytes);
    sample.limit = match memory.available_bytes {
        Some(available) => sample.memory + available.value,
        None => total_memory(),
    };
    let pod_sandbox_id = place.expect().await?.pod_sandbox_id;
    let request = PodSandboxStatsRequest { pod_sandbox_id };
    let pod = place.engine.pod_sandbox_stats(request).await?.stats.and_then(|stats| stats.linux);
    let link = pod.and_then(|pod| pod.network).and_then(|network| network.default_interface);
    sample.network = link.map_or((0, 0), |link| (number(link.rx_bytes), number(link.tx_bytes)));
    sample.block = block_io(place).await?;
    sample.pids = place.engine.processes(&sample.id)?.len() as u64;
    Ok(sample)
}

/// Bytes read from and written to block devices.
async fn block_io(place: &Standalone) -> anyhow::Result<(u64, u64)> {
    let request = ListPodSandboxMetricsRequest::default();
    let (mut read, mut written) = (0, 0);
    for pod in place.engine.list_pod_sandbox_metrics(request).await?.pod_metrics {
        for metric in pod.container_metrics.into_iter().flat_map(|container| container.metrics) {
            if metric.name != "container_blkio_device_usage_total" {
                continue;
            }
            let value = metric.value.map_or(0, |value| value.value);
            let is = |word: &str| metric.label_values.iter().any(|label| label.eq_ignore_ascii_case(word));
            read += if is("read") { value } else { 0 };
            written += if is("write") { value } else { 0 };
        }
    }
    Ok((read, written))
}

fn total_memory() -> u64 {
    let info = rustix::system::sysinfo();
    (info.totalram as u64).saturating_mul(info.mem_unit.into())
}

/// With so many digits of the id.
fn row(before: Option<&Sample>, now: &Sample, shown: usize) -> Value {
    let spent = before.map_or(0, |before| now.cpu.saturating_sub(before.cpu));
    let elapsed = before.map_or(0, |before| now.at.saturating_sub(before.at)).max(1);
    let of = |part: f64, whole: f64| format!("{:.2}%", if whole > 0.0 { 100.0 * part / whole } else { 0.0 });
    let pair = |(left, right): (u64, u64)| format!("{} / {}", output::size(left), output::size(right));
    json!({
        "ID": now.id.chars().take(shown).collect::<String>(),
        "Container": now.id.chars().take(shown).collect::<String>(),
        "Name": now.name,
        "CPUPerc": of(spent as f64, elapsed as f64),
        "MemUsage": format!("{} / {}", binary(now.memory), binary(now.limit)),
        "MemPerc": of(now.memory as f64, now.limit as f64),
        "NetIO": pair(now.network),
        "BlockIO": pair(now.block),
        "PIDs": now.pids.to_string(),
    })
}

/// Bytes in powers of 1024, four significant digits, as Docker prints memory.
fn binary(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 {
        0
    } else if value >= 100.0 {
        1
    } else if value >= 10.0 {
        2
    } else {
        3
    };
    format!("{value:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_dockers() {
        let before = Sample { id: "a".into(), cpu: 1_000, at: 1_000, ..Sample::default() };
        let now = Sample { cpu: 501_000, at: 1_001_000, memory: 1 << 20, limit: 1 << 30, ..before.clone() };
        let row = row(Some(&before), &now, 12);
        assert_eq!(row["CPUPerc"], "50.00%");
        assert_eq!(row["MemUsage"], "1.000MiB / 1.000GiB");
        assert_eq!(row["MemPerc"], "0.10%");
        assert_eq!(binary(999), "999B");
    }
}
