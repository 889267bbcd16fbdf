//! What the API server says about services: two informers and one signal that something changed.
//!
//! Services (the packet rules) and DNS (the names) each compute everything they need from the whole, so they ask
//! only for the current state and for the next change of it.

use crate::informer::{self, Followed};
use anyhow::Context;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::runtime::reflector::Store;
use std::future::Future;
use tokio::sync::watch;

/// The services of a cluster, as of now.
#[derive(Debug, Clone)]
pub(crate) struct ServiceWatch {
    pub(crate) services: Store<Service>,
    pub(crate) slices: Store<EndpointSlice>,
    changed: watch::Receiver<()>,
}

impl ServiceWatch {
    /// The informers and the future that feeds them; it ends never, and reconnects by itself.
    pub(crate) fn new(client: Client) -> (Self, impl Future<Output = ()> + Send) {
        let (notify, changed) = watch::channel(());
        let (services, feed_services) = informer::follow(followed::<Service>(&client, &notify));
        let (slices, feed_slices) = informer::follow(followed::<EndpointSlice>(&client, &notify));
        let feed = async {
            tokio::join!(feed_services, feed_slices);
        };
        (Self { services, slices, changed }, feed)
    }

    /// Resolves when both lists are complete: acting on half of the world would take away what works.
    pub(crate) async fn complete(&self) -> anyhow::Result<()> {
        self.services.wait_until_ready().await.context("the watch of services ended")?;
        self.slices.wait_until_ready().await.context("the watch of endpoint slices ended")
    }

    /// Resolves when something changed since the last call.
    pub(crate) async fn changed(&mut self) -> anyhow::Result<()> {
        self.changed.changed().await.context("the watch of services ended")
    }
}

fn followed<K>(client: &Client, notify: &watch::Sender<()>) -> Followed<K> {
    Followed {
        client: client.clone(),
        notify: notify.clone(),
        trim: |_| {},
        instead: "a service proxy",
        on_refusal: Box::new(|| ()),
    }
}
