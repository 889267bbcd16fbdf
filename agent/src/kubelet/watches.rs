//! What a kubelet follows of the cluster besides its pods: all services, and its own node.

use super::Parts;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Api;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use std::sync::Arc;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Follows all services, for the environment of containers.
pub(super) fn services(
    client: Option<kube::Client>,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) -> Option<reflector::Store<Service>> {
    let (store, writer) = reflector::store();
    let watch = watcher(Api::<Service>::all(client?), watcher::Config::default()).default_backoff();
    let follow = async move {
        let mut events = std::pin::pin!(reflector(writer, watch));
        while let Some(event) = events.next().await {
            if let Err(error) = event {
                tracing::warn!("watch of services: {error}");
            }
        }
    };
    tasks.spawn(shutdown.clone().run_until_cancelled_owned(follow));
    Some(store)
}

/// Follows this node's own object: others put labels on it.
pub(super) fn own_node(
    parts: &Parts,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) -> watch::Receiver<Option<Arc<Node>>> {
    let (show, shown) = watch::channel(None);
    let Some(client) = parts.client.clone().filter(|_| !parts.imaginary) else { return shown };
    let config = watcher::Config::default().fields(&format!("metadata.name={}", parts.node_name));
    let follow = async move {
        let watch = watcher(Api::<Node>::all(client), config).default_backoff();
        let mut changes = std::pin::pin!(watch.applied_objects());
        while let Some(change) = changes.next().await {
            match change {
                Ok(node) => drop(show.send_replace(Some(Arc::new(node)))),
                Err(error) => tracing::warn!("watch of this node: {error}"),
            }
        }
    };
    tasks.spawn(shutdown.clone().run_until_cancelled_owned(follow));
    shown
}
