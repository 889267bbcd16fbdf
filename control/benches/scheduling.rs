//! How fast waiting pods find their nodes: a whole control plane in this process, its store on the disk, and pods that
//! all wait when the scheduler begins. `cargo bench -p knarr-control --bench scheduling -- NODES PODS`

use anyhow::Context as _;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod};
use knarr_control::{ControlPlane, Options};
use kube::api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};
use serde_json::json;
use std::time::{Duration, Instant};

/// Our own scheduler has seen by then that it does not lead.
const NOTICED: Duration = Duration::from_secs(31);
/// Requests under way at once while the scene is set.
const CLIENTS: usize = 64;
/// Ticks of `/proc/self/stat` in a second, on every Linux.
const TICKS: f64 = 100.0;

/// Pods that have a node.
type Placed = BoxStream<'static, kube::Result<WatchEvent<PartialObjectMeta<Pod>>>>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let (nodes, pods) = (numbers.first().copied().unwrap_or(1000), numbers.get(1).copied().unwrap_or(5000));
    let directory = tempfile::tempdir_in(std::env::var_os("DIR").unwrap_or_else(|| "/var/tmp".into()))?;
    let listen = ([127, 0, 0, 1], 0).into();
    let plane = ControlPlane::start(Options { listen, ..Options::new(directory.path().to_owned()) }).await?;
    let client = plane.client();
    lead(&client, Some("bench")).await?;
    tokio::time::sleep(NOTICED).await;
    phase(&format!("create {nodes} nodes"), nodes, make_nodes(&client, nodes)).await?;
    phase(&format!("create {pods} pods"), pods, make_pods(&client, pods)).await?;
    let mut placed = placed(&client).await?;
    lead(&client, None).await?;
    // Whoever lost a lease stands back for a while.
    follow(&mut placed, 1).await?;
    let others = pods - 1;
    phase(&format!("schedule {others} pods"), others, follow(&mut placed, others)).await?;
    plane.shutdown().await
}

/// Runs one phase and says what it took.
async fn phase(
    name: &str,
    count: usize,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let (begin, before) = (Instant::now(), cpu_seconds()?);
    work.await?;
    let (wall, cpu) = (begin.elapsed().as_secs_f64(), cpu_seconds()? - before);
    let (rate, each) = (count as f64 / wall, cpu * 1000.0 / count as f64);
    say(&format!("{name}: {wall:.2} s, {rate:.0} per s, {each:.3} ms of processor time each"));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result of a benchmark")]
fn say(line: &str) {
    println!("{line}");
}

fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / TICKS)
}

/// Names the scheduler's leader; nobody means that the next one who looks may lead.
async fn lead(client: &Client, holder: Option<&str>) -> anyhow::Result<()> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-system");
    let spec = json!({"holderIdentity": holder.unwrap_or_default(), "leaseDurationSeconds": 3600});
    let patch = Patch::Merge(json!({"spec": spec}));
    while leases.patch("kube-scheduler", &PatchParams::default(), &patch).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn make_nodes(client: &Client, count: usize) -> anyhow::Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    let amounts = json!({"cpu": "32", "memory": "256Gi", "pods": "110"});
    // Nobody renews a lease for them, and they are not to be given up in the middle of it.
    let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": "2100-01-01T00:00:00Z"});
    let make = |number: usize| {
        let node = json!({
            "metadata": {"name": format!("node-{number:05}"), "labels": {"kubernetes.io/os": "linux"}},
            "status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready]},
        });
        let api = api.clone();
        async move {
            api.create(&PostParams::default(), &serde_json::from_value(node)?)
                .await
                .map_err(anyhow::Error::from)
        }
    };
    all(futures_util::stream::iter(0..count).map(make)).await
}

async fn make_pods(client: &Client, count: usize) -> anyhow::Result<()> {
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let make = |number: usize| {
        let requests = json!({"cpu": "100m", "memory": "64Mi"});
        let container = json!({"name": "c", "image": "example.com/i:1", "resources": {"requests": requests}});
        let pod = json!({
            "metadata": {"name": format!("pod-{number:06}"), "labels": {"app": "bench"}},
            "spec": {"containers": [container]},
        });
        let api = api.clone();
        async move {
            api.create(&PostParams::default(), &serde_json::from_value(pod)?)
                .await
                .map_err(anyhow::Error::from)
        }
    };
    all(futures_util::stream::iter(0..count).map(make)).await
}

async fn all<T>(
    requests: impl futures_util::Stream<Item = impl Future<Output = anyhow::Result<T>>>,
) -> anyhow::Result<()> {
    let mut answers = std::pin::pin!(requests.buffer_unordered(CLIENTS));
    while let Some(answer) = answers.next().await {
        answer?;
    }
    Ok(())
}

/// Pods as they get their nodes.
async fn placed(client: &Client) -> anyhow::Result<Placed> {
    let api: Api<Pod> = Api::namespaced(client.clone(), "default");
    let parameters = WatchParams::default().fields("spec.nodeName!=").timeout(290);
    Ok(Box::pin(api.watch_metadata(&parameters, "0").await?))
}

/// Returns when `count` pods more have a node.
async fn follow(placed: &mut Placed, count: usize) -> anyhow::Result<()> {
    let mut left = count;
    while left > 0 {
        match placed.next().await.context("the watch has ended")?? {
            WatchEvent::Added(_) => left -= 1,
            WatchEvent::Error(status) => anyhow::bail!("{}", status.message),
            _ => {}
        }
    }
    Ok(())
}
