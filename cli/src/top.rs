//! `knarr top`: a live view of the containers of the running agent (or engine), asked through its CRI socket: cpu,
//! memory, disk, network of the pod, restarts. On a terminal it refreshes until interrupted; into a pipe it prints
//! one table.

use crate::output;
use crate::settings::Settings;
use anyhow::anyhow;
use knarr_agent::cri::client::connect;
use knarr_agent::cri::v1::{
    ListContainerStatsRequest, ListContainersRequest, ListPodSandboxStatsRequest, UInt64Value,
};
use knarr_agent::cri::{RuntimeService, Status};
use rustix::termios::tcgetwinsize;
use std::collections::{BTreeMap, HashMap};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

const HEADER: [&str; 8] = ["NAMESPACE", "POD", "CONTAINER", "CPU", "MEMORY", "DISK", "NET RX/TX", "RESTARTS"];
/// Between two looks on a terminal, and between the two that a single table needs for cpu.
const PERIOD: Duration = Duration::from_secs(2);
const FIRST_PERIOD: Duration = Duration::from_millis(500);
const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";

/// One container at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sample {
    namespace: String,
    pod: String,
    container: String,
    restarts: String,
    /// Nanoseconds of cpu time so far, and when that was.
    cpu: u64,
    at: i64,
    memory: u64,
    disk: u64,
    /// Of the whole pod.
    network: Option<(u64, u64)>,
}

/// Shows the containers until SIGINT; once, where nobody looks.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let socket = settings.node.cri_socket();
    let (runtime, _) = connect(&socket.display().to_string())?;
    let none = |status: Status| {
        anyhow!("no agent answers on {} ({}): start one with knarr up", socket.display(), status.message())
    };
    let mut before = look(&runtime).await.map_err(none)?;
    tokio::time::sleep(FIRST_PERIOD).await;
    let live = std::io::stdout().is_terminal();
    loop {
        let now = look(&runtime).await.map_err(none)?;
        let rows = rows(&before, &now);
        if !live {
            output::table(&HEADER, &rows);
            return Ok(());
        }
        show(rows);
        before = now;
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            interrupted = tokio::signal::ctrl_c() => return Ok(interrupted?),
        }
    }
}

/// Samples by container id.
async fn look(runtime: &Arc<dyn RuntimeService>) -> Result<BTreeMap<String, Sample>, Status> {
    let listed = runtime.list_containers(ListContainersRequest::default()).await?.containers;
    let restarts: HashMap<String, String> = listed
        .into_iter()
        .filter_map(|container| Some((container.id, container.annotations.get(RESTART_COUNT)?.clone())))
        .collect();
    let network = network(runtime).await;
    let stats = runtime.list_container_stats(ListContainerStatsRequest::default()).await?.stats;
    let number = |value: Option<UInt64Value>| value.map_or(0, |value| value.value);
    let mut samples = BTreeMap::new();
    for stats in stats {
        let Some(attributes) = stats.attributes else { continue };
        let label = |key: &str| attributes.labels.get(key).cloned().unwrap_or_default();
        let uid = label("io.kubernetes.pod.uid");
        let sample = Sample {
            namespace: label("io.kubernetes.pod.namespace"),
            pod: label("io.kubernetes.pod.name"),
            container: attributes.metadata.map(|metadata| metadata.name).unwrap_or_default(),
            restarts: restarts.get(&attributes.id).cloned().unwrap_or_else(|| "0".to_owned()),
            cpu: stats.cpu.as_ref().map_or(0, |cpu| number(cpu.usage_core_nano_seconds)),
            at: stats.cpu.as_ref().map_or(0, |cpu| cpu.timestamp),
            memory: stats.memory.map_or(0, |memory| number(memory.working_set_bytes)),
            disk: stats.writable_layer.map_or(0, |layer| number(layer.used_bytes)),
            network: network.get(&uid).copied(),
        };
        samples.insert(attributes.id, sample);
    }
    Ok(samples)
}

/// Bytes received and sent, by pod uid; empty for a runtime that does not count them.
async fn network(runtime: &Arc<dyn RuntimeService>) -> HashMap<String, (u64, u64)> {
    let answer = runtime.list_pod_sandbox_stats(ListPodSandboxStatsRequest::default()).await;
    let pods = answer.map(|answer| answer.stats).unwrap_or_default();
    let of = |pod: knarr_agent::cri::v1::PodSandboxStats| {
        let uid = pod.attributes?.labels.get("io.kubernetes.pod.uid")?.clone();
        let interface = pod.linux?.network?.default_interface?;
        Some((uid, (interface.rx_bytes?.value, interface.tx_bytes?.value)))
    };
    pods.into_iter().filter_map(of).collect()
}

/// The busiest first.
fn rows(before: &BTreeMap<String, Sample>, now: &BTreeMap<String, Sample>) -> Vec<Vec<String>> {
    let mut measured: Vec<(u64, &Sample)> = now
        .iter()
        .map(|(id, sample)| (before.get(id).map_or(0, |earlier| millicores(earlier, sample)), sample))
        .collect();
    measured.sort_by(|a, b| {
        b.0.cmp(&a.0).then_with(|| {
            (&a.1.namespace, &a.1.pod, &a.1.container).cmp(&(&b.1.namespace, &b.1.pod, &b.1.container))
        })
    });
    measured.into_iter().map(|(cpu, sample)| row(cpu, sample)).collect()
}

fn row(cpu: u64, sample: &Sample) -> Vec<String> {
    let network = sample.network.map(|(rx, tx)| format!("{}/{}", size(rx), size(tx)));
    vec![
        sample.namespace.clone(),
        sample.pod.clone(),
        sample.container.clone(),
        format!("{cpu}m"),
        size(sample.memory),
        size(sample.disk),
        network.unwrap_or_else(|| "-".to_owned()),
        sample.restarts.clone(),
    ]
}

/// Thousandths of a processor between two samples.
fn millicores(before: &Sample, now: &Sample) -> u64 {
    let elapsed = u64::try_from(now.at - before.at).unwrap_or(0).max(1);
    let spent = u128::from(now.cpu.saturating_sub(before.cpu)) * 1000 / u128::from(elapsed);
    u64::try_from(spent).unwrap_or(u64::MAX)
}

/// Bytes with a binary unit, as `kubectl top` writes them.
fn size(bytes: u64) -> String {
    match bytes {
        0..0x2800 => format!("{bytes}"),
        0x2800..0xa0_0000 => format!("{}Ki", bytes >> 10),
        _ => format!("{}Mi", bytes >> 20),
    }
}

/// Redraws the screen with as many rows as fit.
fn show(mut rows: Vec<Vec<String>>) {
    // A terminal that does not know its size says zero.
    let height = tcgetwinsize(std::io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    let height = if height == 0 { 24 } else { height };
    rows.truncate(height.saturating_sub(2));
    // Home, and clear to the end: less flicker than clearing first.
    let _closed_pipe = write!(std::io::stdout(), "\x1b[H\x1b[J");
    output::table(&HEADER, &rows);
    let _closed_pipe = std::io::stdout().flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_come_first() {
        let sample = |name: &str, cpu, at| Sample { container: name.into(), cpu, at, ..Sample::default() };
        let at = |busy: u64, second: i64| {
            [("a", 10 * busy), ("b", 500 * busy)]
                .map(|(name, milli)| {
                    (name.to_owned(), sample(name, milli * 1_000_000, second * 1_000_000_000))
                })
                .into()
        };
        let rows = rows(&at(0, 0), &at(1, 1));
        let cells: Vec<_> = rows.iter().map(|row| (row[2].as_str(), row[3].as_str())).collect();
        assert_eq!(cells, [("b", "500m"), ("a", "10m")]);
        assert_eq!([size(100), size(20 << 10), size(300 << 20)], ["100", "20Ki", "300Mi"]);
    }
}
