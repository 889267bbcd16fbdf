//! What the API server says about services: two informers and one signal that something changed.
//!
//! Services (the packet rules) and DNS (the names) each compute everything they need from the whole, so they ask
//! only for the current state and for the next change of it.

use anyhow::Context;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::reflector::{Lookup, Store, store};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::time::Duration;
use tokio::sync::watch;

/// Between two attempts to follow what the cluster does not let us follow.
const REFUSED: Duration = Duration::from_secs(300);

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
        let (services, feed_services) = follow::<Service>(client.clone(), notify.clone());
        let (slices, feed_slices) = follow::<EndpointSlice>(client, notify);
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

fn follow<K>(client: Client, notify: watch::Sender<()>) -> (Store<K>, impl Future<Output = ()> + Send)
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    <K as Lookup>::DynamicType: Hash + Eq + Clone,
{
    let (reader, writer) = store();
    let events =
        watcher(Api::<K>::all(client), watcher::Config::default()).default_backoff().modify(|object| {
            // Never read here, and half of the memory of a big cluster's objects.
            object.meta_mut().managed_fields = None;
        });
    let feed = async move {
        let mut events = Box::pin(stream::StreamExt::fuse(reflector(writer, events)));
        let mut refused = false;
        while let Some(event) = events.next().await {
            match event {
                // The store is replaced as a whole when the list is complete.
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                Ok(_) => notify.send_replace(()),
                // Elsewhere a node may be no service proxy, which seldom changes while one looks.
                Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 403 => {
                    if !std::mem::replace(&mut refused, true) {
                        let kind = <K as Resource>::kind(&());
                        tracing::info!(%kind, "this node may not follow services: they are left to a service proxy");
                    }
                    tokio::time::sleep(REFUSED).await;
                }
                Err(error) => tracing::warn!(kind = %<K as Resource>::kind(&()), %error, "watch interrupted"),
            }
        }
    };
    (reader, feed)
}
