//! Objects of one kind, as answered or as watched.

use crate::kubelet::references::Listener;
use k8s_openapi::NamespaceResourceScope;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_stream::StreamExt;
use tokio_util::task::AbortOnDropHandle;

/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(5);
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Namespace and name.
type Key = (String, String);

/// What is known of one object.
struct Entry<T> {
    at: Instant,
    /// A watch keeps it true.
    live: bool,
    object: Option<T>,
}

/// One object that is followed, and those who want to know.
struct Watch {
    /// By pod uid.
    listeners: BTreeMap<String, Listener>,
    _task: AbortOnDropHandle<()>,
}

/// All objects of one kind that pods of this node use.
pub(super) struct Kind<T> {
    client: kube::Client,
    /// Held only for a look-up.
    entries: Mutex<HashMap<Key, Entry<T>>>,
    /// Held only to change who listens.
    watches: Mutex<HashMap<Key, Watch>>,
}

impl<T> Kind<T>
where
    T: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + PartialEq
        + Send
        + Sync
        + 'static,
{
    pub(super) fn new(client: kube::Client) -> Arc<Kind<T>> {
        Arc::new(Kind { client, entries: Mutex::default(), watches: Mutex::default() })
    }

    pub(super) async fn get(&self, namespace: &str, name: &str) -> Result<Option<T>, String> {
        let key = (namespace.to_string(), name.to_string());
        if let Some(object) = self.known(&key) {
            return Ok(object);
        }
        let object = get(&Api::namespaced(self.client.clone(), namespace), name).await?;
        self.keep(key, object.clone(), false);
        Ok(object)
    }

    fn known(&self, key: &Key) -> Option<Option<T>> {
        let entries = self.entries.lock().ok()?;
        let entry = entries.get(key).filter(|entry| entry.live || entry.at.elapsed() < FRESH);
        entry.map(|entry| entry.object.clone())
    }

    /// Remembers an object; true when it differs from what was known.
    fn keep(&self, key: Key, object: Option<T>, live: bool) -> bool {
        let Ok(mut entries) = self.entries.lock() else { return false };
        entries.retain(|_, entry| entry.live || entry.at.elapsed() < FRESH);
        let before = entries.insert(key, Entry { at: Instant::now(), live, object: object.clone() });
        before.is_none_or(|before| before.object != object)
    }

    pub(super) fn follow(self: &Arc<Self>, pod_uid: &str, namespace: &str, name: &str, listener: &Listener) {
        let key = (namespace.to_string(), name.to_string());
        let Ok(mut watches) = self.watches.lock() else { return };
        let watch = watches.entry(key.clone()).or_insert_with(|| Watch {
            listeners: BTreeMap::new(),
            _task: AbortOnDropHandle::new(tokio::spawn(self.clone().watch(key))),
        });
        watch.listeners.insert(pod_uid.to_string(), listener.clone());
    }

    pub(super) fn forget(&self, pod_uid: &str) {
        let (Ok(mut watches), Ok(mut entries)) = (self.watches.lock(), self.entries.lock()) else { return };
        watches.retain(|key, watch| {
            watch.listeners.remove(pod_uid);
            let used = !watch.listeners.is_empty();
            if let (false, Some(entry)) = (used, entries.get_mut(key)) {
                entry.live = false;
            }
            used
        });
    }

    async fn watch(self: Arc<Self>, key: Key) {
        let api: Api<T> = Api::namespaced(self.client.clone(), &key.0);
        let mut changes = std::pin::pin!(watcher::watch_object(api, &key.1).default_backoff());
        while let Some(change) = changes.next().await {
            match change {
                Ok(object) => {
                    if self.keep(key.clone(), object, true) {
                        self.tell(&key);
                    }
                }
                Err(error) => {
                    tracing::debug!("watch of {}/{}: {error}", key.0, key.1);
                    self.doubt(&key);
                }
            }
        }
    }

    fn tell(&self, key: &Key) {
        let Ok(watches) = self.watches.lock() else { return };
        for listener in watches.get(key).into_iter().flat_map(|watch| watch.listeners.values()) {
            listener.tell();
        }
    }

    /// The watch is broken: until it works again the object is asked for.
    fn doubt(&self, key: &Key) {
        if let Ok(mut entries) = self.entries.lock()
            && let Some(entry) = entries.get_mut(key)
        {
            entry.live = false;
        }
    }
}

/// One object, within a deadline; `None` when there is none.
pub(super) async fn get<T>(api: &Api<T>, name: &str) -> Result<Option<T>, String>
where
    T: Clone + DeserializeOwned + Debug,
{
    let answer = tokio::time::timeout(CALL_DEADLINE, api.get_opt(name)).await;
    answer.map_err(|_| format!("{name}: the API server does not answer"))?.map_err(|error| error.to_string())
}
