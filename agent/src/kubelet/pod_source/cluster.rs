//! Pods that an API server has bound to this node.

use super::{Origin, SourceEvent};
use crate::kubelet::pod;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

/// Watches until the receiver is gone. While the API server is away, what is known stays in force.
pub async fn watch(client: kube::Client, node: String, events: mpsc::UnboundedSender<SourceEvent>) {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={node}"));
    let stream = watcher::watcher(Api::<Pod>::all(client), config).default_backoff();
    // Never read here, and half of the memory that a pod takes.
    let stream = stream.modify(|pod| pod.metadata.managed_fields = None);
    let mut stream = std::pin::pin!(stream);
    let mut listed = Vec::new();
    while let Some(event) = stream.next().await {
        let told = match event {
            Ok(Event::Init) => {
                listed.clear();
                Ok(())
            }
            Ok(Event::InitApply(pod)) => {
                listed.push(pod::uid(&pod).to_string());
                events.send(SourceEvent::Upsert(Arc::new(pod)))
            }
            Ok(Event::InitDone) => {
                events.send(SourceEvent::All(Origin::Cluster, std::mem::take(&mut listed)))
            }
            Ok(Event::Apply(pod)) => events.send(SourceEvent::Upsert(Arc::new(pod))),
            Ok(Event::Delete(pod)) => events.send(SourceEvent::Gone(pod::uid(&pod).to_string())),
            Err(error) => {
                tracing::warn!("watch of this node's pods: {error}");
                Ok(())
            }
        };
        if told.is_err() {
            return;
        }
    }
}
