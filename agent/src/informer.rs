//! A copy of a collection of the cluster's objects, kept by listing and watching.
//!
//! Who computes from the whole asks for the current state and for the next change of anything, and is told both by
//! one signal, however many collections it follows.

use futures_util::{StreamExt, stream};
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

/// A collection to follow.
pub(crate) struct Followed<K> {
    pub(crate) client: Client,
    /// Told of each change.
    pub(crate) notify: watch::Sender<()>,
    /// Takes away what is never read here: half of the memory of a big cluster's objects.
    pub(crate) trim: fn(&mut K),
    /// Who does the work on a node that may not follow the collection.
    pub(crate) instead: &'static str,
    /// Called where the node may not follow it.
    pub(crate) on_refusal: Box<dyn Fn() + Send>,
}

/// The copy, and the future that feeds it; it ends never, and reconnects by itself.
pub(crate) fn follow<K>(followed: Followed<K>) -> (Store<K>, impl Future<Output = ()> + Send)
where
    K: Resource<DynamicType = ()> + Lookup<DynamicType = ()>,
    K: Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    <K as Lookup>::DynamicType: Hash + Eq + Clone,
{
    let Followed { client, notify, trim, instead, on_refusal } = followed;
    let (reader, writer) = store();
    let events =
        watcher(Api::<K>::all(client), watcher::Config::default()).default_backoff().modify(move |object| {
            object.meta_mut().managed_fields = None;
            trim(object);
        });
    let feed = async move {
        let mut events = Box::pin(stream::StreamExt::fuse(reflector(writer, events)));
        let mut refused = false;
        while let Some(event) = events.next().await {
            match event {
                // The store is replaced as a whole when the list is complete.
                Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => {}
                Ok(_) => notify.send_replace(()),
                // Elsewhere a node may be less than ours, which seldom changes while one looks.
                Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 403 => {
                    on_refusal();
                    if !std::mem::replace(&mut refused, true) {
                        let kind = <K as Resource>::kind(&());
                        tracing::info!(%kind, "this node may not follow them: they are left to {instead}");
                    }
                    tokio::time::sleep(REFUSED).await;
                }
                Err(error) => tracing::warn!(kind = %<K as Resource>::kind(&()), %error, "watch interrupted"),
            }
        }
    };
    (reader, feed)
}
