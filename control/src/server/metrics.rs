//! `metrics.k8s.io`: how much processor time and memory nodes and pods use now.
//!
//! The agents' `/stats/summary` counts processor time since the start; usage is the difference of two looks. The last
//! look at each node is kept, so that who asks every few seconds gets the time in between; who asks for the first time
//! waits for a second look. Nothing runs while nobody asks.

use super::Server;
use crate::registry::fields;
use http::Request;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use knarr_api::quantity::Quantity;
use knarr_api::{Status, meta};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A node that does not answer within this is left out.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between the two looks of who asks for the first time.
const FIRST_WINDOW: Duration = Duration::from_secs(1);
/// A look is compared with one at least and at most this old.
const LEAST: SignedDuration = SignedDuration::from_millis(900);
const MOST: SignedDuration = SignedDuration::from_secs(120);
const MAX_SUMMARY: usize = 16 << 20;

/// The last look at every node. Locked for a look-up only.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    last: Mutex<HashMap<String, Arc<Look>>>,
}

/// What an agent said at one moment.
#[derive(Debug)]
struct Look {
    at: Timestamp,
    summary: Value,
}

/// Two looks at a node.
struct Pair {
    before: Arc<Look>,
    after: Arc<Look>,
}

impl Metrics {
    pub(super) async fn nodes(&self, server: &Server) -> Result<Vec<Value>, Status> {
        let nodes = server.objects_below("core/nodes/").await?;
        let pairs = self.pairs(server, &nodes).await;
        let object = |(node, pair): (&Value, Pair)| {
            let usage = usage(&pair, &|look| look.summary.get("node").cloned())?;
            let metadata = json!({"name": meta::name(node), "labels": meta::labels(node),
                "creationTimestamp": super::now()});
            Some(json!({"metadata": metadata, "timestamp": super::object_meta::timestamp(pair.after.at),
                "window": window(&pair), "usage": usage}))
        };
        Ok(nodes.iter().zip(pairs).filter_map(|(node, pair)| object((node, pair?))).collect())
    }

    pub(super) async fn pods(&self, server: &Server, namespace: &str) -> Result<Vec<Value>, Status> {
        let prefix =
            if namespace.is_empty() { "core/pods/".to_owned() } else { format!("core/pods/{namespace}/") };
        let mut pods = server.objects_below(&prefix).await?;
        pods.retain(|pod| fields::text(pod, "/status/phase") == "Running");
        let wanted =
            |node: &Value| pods.iter().any(|pod| fields::text(pod, "/spec/nodeName") == meta::name(node));
        let mut nodes = server.objects_below("core/nodes/").await?;
        nodes.retain(wanted);
        let pairs: HashMap<String, Pair> = nodes
            .iter()
            .zip(self.pairs(server, &nodes).await)
            .filter_map(|(node, pair)| Some((meta::name(node).to_owned(), pair?)))
            .collect();
        let object = |pod: &Value| of_pod(pod, pairs.get(fields::text(pod, "/spec/nodeName"))?);
        Ok(pods.iter().filter_map(object).collect())
    }

    /// Two looks at every node that answers, at all nodes at once.
    async fn pairs(&self, server: &Server, nodes: &[Value]) -> Vec<Option<Pair>> {
        let one = |node| self.pair(server, meta::name(node));
        futures_util::future::join_all(nodes.iter().map(one)).await
    }

    async fn pair(&self, server: &Server, node: &str) -> Option<Pair> {
        let mut after = Arc::new(look(server, node).await?);
        let known = self.keep(node, &after);
        let comparable = |before: &Arc<Look>| (LEAST..MOST).contains(&after.at.duration_since(before.at));
        if let Some(before) = known.filter(comparable) {
            return Some(Pair { before, after });
        }
        let before = after;
        tokio::time::sleep(FIRST_WINDOW).await;
        after = Arc::new(look(server, node).await?);
        self.keep(node, &after);
        Some(Pair { before, after })
    }

    /// Keeps a look, gives the one before. One that is too new to be compared with is kept for the next who asks.
    fn keep(&self, node: &str, look: &Arc<Look>) -> Option<Arc<Look>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let known = last.get(node).cloned();
        let too_new = known.as_ref().is_some_and(|known| look.at.duration_since(known.at) < LEAST);
        if !too_new {
            last.insert(node.to_owned(), look.clone());
        }
        known
    }
}

/// Asks one agent. One that does not answer has no metrics.
async fn look(server: &Server, node: &str) -> Option<Look> {
    match tokio::time::timeout(TIMEOUT, summary(server, node)).await {
        Ok(Ok(summary)) => Some(Look { at: Timestamp::now(), summary }),
        Ok(Err(status)) => {
            tracing::debug!(node, "usage: {status}");
            None
        }
        Err(_) => {
            tracing::debug!(node, "usage: timeout");
            None
        }
    }
}

async fn summary(server: &Server, node: &str) -> Result<Value, Status> {
    let (address, port) = server.kubelet_address(node).await?;
    let stream = server.kubelets.connect(address, port).await.map_err(Status::internal)?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(Status::internal)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("connection to a node: {error}");
        }
    });
    let request = Request::get("/stats/summary").header("host", format!("{address}:{port}"));
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(Status::internal)?;
    let response = sender.send_request(request).await.map_err(Status::internal)?;
    let body = Limited::new(response.into_body(), MAX_SUMMARY).collect().await.map_err(Status::internal)?;
    serde_json::from_slice(&body.to_bytes()).map_err(Status::internal)
}

fn window(pair: &Pair) -> String {
    let milliseconds = pair.after.at.duration_since(pair.before.at).as_millis();
    format!("{}.{:03}s", milliseconds / 1000, milliseconds % 1000)
}

/// Usage of something that both looks have: `{"cpu": "12345678n", "memory": "1024Ki"}`.
fn usage(pair: &Pair, of: &dyn Fn(&Look) -> Option<Value>) -> Option<Value> {
    let (before, after) = (of(&pair.before)?, of(&pair.after)?);
    let spent = |stats: &Value| stats.pointer("/cpu/usageCoreNanoSeconds").and_then(Value::as_u64);
    let (first, second) = (spent(&before)?, spent(&after)?);
    let span = nanoseconds(pair, &before, &after);
    let cores = u128::from(second.saturating_sub(first)) * 1_000_000_000 / span.max(1);
    let memory = after.pointer("/memory/workingSetBytes").and_then(Value::as_u64)?;
    let memory = Quantity::from_bytes(i64::try_from(memory / 1024 * 1024).unwrap_or(i64::MAX));
    Some(json!({"cpu": format!("{cores}n"), "memory": memory.to_string()}))
}

/// Time between the two measurements, as the agent took them where it says so.
fn nanoseconds(pair: &Pair, before: &Value, after: &Value) -> u128 {
    let time = |stats: &Value| fields::text(stats, "/cpu/time").parse::<Timestamp>().ok();
    let measured = time(before).zip(time(after)).map(|(before, after)| after.duration_since(before));
    let span = measured.filter(|span| span.is_positive());
    let span = span.unwrap_or_else(|| pair.after.at.duration_since(pair.before.at));
    u128::try_from(span.as_nanos()).unwrap_or(1)
}

fn of_pod(pod: &Value, pair: &Pair) -> Option<Value> {
    let (namespace, name) = (meta::namespace(pod), meta::name(pod));
    let find = |look: &Look, container: &str| -> Option<Value> {
        let pods = fields::list(&look.summary, "/pods").iter();
        let mut own =
            pods.filter(|pod| pod["podRef"]["name"] == name && pod["podRef"]["namespace"] == namespace);
        let containers = fields::list(own.next()?, "/containers").to_vec();
        containers.into_iter().find(|found| found["name"] == container)
    };
    let mut containers = Vec::new();
    for container in fields::list(pod, "/spec/containers") {
        let name = fields::text(container, "/name");
        if let Some(usage) = usage(pair, &|look| find(look, name)) {
            containers.push(json!({"name": name, "usage": usage}));
        }
    }
    let metadata = json!({"name": name, "namespace": namespace, "labels": meta::labels(pod),
        "creationTimestamp": super::now()});
    let object = json!({"metadata": metadata, "timestamp": super::object_meta::timestamp(pair.after.at),
        "window": window(pair), "containers": containers});
    (!containers.is_empty()).then_some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_the_difference_of_two_looks() {
        let look = |second: i64, nanoseconds: u64| {
            let cpu = json!({"usageCoreNanoSeconds": nanoseconds});
            let container = json!({"name": "c", "cpu": cpu, "memory": {"workingSetBytes": 4096}});
            let pod = json!({"podRef": {"name": "p", "namespace": "n"}, "containers": [container]});
            let summary = json!({"pods": [pod]});
            Arc::new(Look { at: Timestamp::from_second(second).unwrap(), summary })
        };
        let pair = Pair { before: look(10, 1_000), after: look(12, 500_001_000) };
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "c"}, {"name": "new"}]}});
        let object = of_pod(&pod, &pair).unwrap();
        assert_eq!(
            object["containers"],
            json!([{"name": "c", "usage": {"cpu": "250000000n", "memory": "4Ki"}}])
        );
        assert_eq!(object["window"], "2.000s");
        let other =
            json!({"metadata": {"name": "q", "namespace": "n"}, "spec": {"containers": [{"name": "c"}]}});
        assert!(of_pod(&other, &pair).is_none());
    }
}
