//! One list-and-watch per kind, shared by everybody: a local copy of the objects, and a call for each change.
//!
//! Handlers run on the watch's own task, in order, with the state before and after; they only put keys into work
//! queues, so they never block. After a lost watch the new list is compared with the copy, so a handler sees the
//! difference and nothing twice.

use super::runner::message_of;
use super::{ownership, pods};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::watch;

/// Namespace (empty for cluster-scoped kinds) and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    /// The key of an object.
    pub(crate) fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }

    /// A key of its parts.
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// Kinds that can be watched.
pub(crate) trait Watched:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}

impl<K> Watched for K where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}

type Handler<K> = Box<dyn Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync>;

/// Who wrote which field is half of the memory that a copy takes, and only the server reads it. Of events it is also
/// known when somebody wrote: that stays.
fn forget_owners_of_fields<K: Resource<DynamicType = ()>>(object: &mut K) {
    let owners = &mut object.meta_mut().managed_fields;
    if K::kind(&()) == "Event" {
        owners.iter_mut().flatten().for_each(|entry| entry.fields_v1 = None);
    } else {
        *owners = None;
    }
}

/// The copy itself, with an index by controller: an owner asks for its own at every change of one of them; and with one of
/// pods by node, whose pods are looked at every few seconds while it is not heard of.
struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    /// By namespace and uid of the controller; the uid is empty for those that have none.
    by_controller: BTreeMap<(String, String), BTreeMap<Key, Arc<K>>>,
    /// A node has few, so they stand in no order.
    by_node: BTreeMap<String, Vec<Arc<K>>>,
}

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_controller: BTreeMap::new(), by_node: BTreeMap::new() }
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Objects<K> {
    fn insert(&mut self, key: Key, object: Arc<K>) -> Option<Arc<K>> {
        let before = self.remove(&key);
        let own = self.by_controller.entry(controller(&*object)).or_default();
        own.insert(key.clone(), object.clone());
        if let Some(node) = node(&*object) {
            self.by_node.entry(node.to_owned()).or_default().push(object.clone());
        }
        self.by_key.insert(key, object);
        before
    }

    fn remove(&mut self, key: &Key) -> Option<Arc<K>> {
        let object = self.by_key.remove(key)?;
        let owner = controller(&*object);
        if let Some(keys) = self.by_controller.get_mut(&owner) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_controller.remove(&owner);
            }
        }
        if let Some(node) = node(&*object) {
            self.leave(node, &object);
        }
        Some(object)
    }
}

impl<K> Objects<K> {
    fn leave(&mut self, node: &str, object: &Arc<K>) {
        let Some(pods) = self.by_node.get_mut(node) else { return };
        pods.retain(|pod| !Arc::ptr_eq(pod, object));
        if pods.is_empty() {
            self.by_node.remove(node);
        }
    }
}

/// The node of a pod; other kinds have none.
fn node<K: 'static>(object: &K) -> Option<&str> {
    (object as &dyn Any).downcast_ref::<Pod>().and_then(pods::node_of)
}

fn controller<K: Resource<DynamicType = ()>>(object: &K) -> (String, String) {
    let meta = object.meta();
    let uid = ownership::controller_of(meta).map(|owner| owner.uid.clone());
    (meta.namespace.clone().unwrap_or_default(), uid.unwrap_or_default())
}

/// The copy, for readers. Cheap to clone.
pub(crate) struct Lister<K> {
    objects: Arc<RwLock<Objects<K>>>,
    synced: watch::Receiver<bool>,
}

impl<K> Clone for Lister<K> {
    fn clone(&self) -> Self {
        Self { objects: self.objects.clone(), synced: self.synced.clone() }
    }
}

impl<K> Lister<K> {
    /// One object.
    pub(crate) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).by_key.get(key).cloned()
    }

    /// Every object, in the order of keys.
    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).by_key.values().cloned().collect()
    }

    /// The pods of one node, in no order.
    pub(crate) fn on_node(&self, node: &str) -> Vec<Arc<K>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        objects.by_node.get(node).cloned().unwrap_or_default()
    }

    /// Every object of one namespace.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let mut found = Vec::new();
        self.each_in_namespace(namespace, |object| found.push(object.clone()));
        found
    }

    /// Shows every object of one namespace. The copy stands still meanwhile.
    pub(crate) fn each_in_namespace(&self, namespace: &str, mut show: impl FnMut(&Arc<K>)) {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let found = objects.by_key.range(Key::new(namespace, "")..);
        found.take_while(|(key, _)| key.namespace == namespace).for_each(|(_, object)| show(object));
    }

    /// The objects of a namespace that the controller `uid` has, or could take because nobody has them.
    pub(crate) fn claimable(&self, namespace: &str, uid: &str) -> Vec<Arc<K>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let of = |uid: &str| objects.by_controller.get(&(namespace.to_owned(), uid.to_owned()));
        let own = of(uid).into_iter().chain(of("").filter(|_| !uid.is_empty()));
        own.flat_map(BTreeMap::values).cloned().collect()
    }

    /// Resolves once the first list is complete.
    pub(crate) async fn synced(&self) {
        // The sender lives as long as the informer; its end is the end of everything here.
        let mut synced = self.synced.clone();
        let _ended = synced.wait_for(|synced| *synced).await;
    }
}

/// A list-and-watch. Cheap to clone; handlers are set before it runs.
pub(crate) struct Informer<K> {
    api: Api<K>,
    objects: Arc<RwLock<Objects<K>>>,
    handlers: Arc<Mutex<Vec<Handler<K>>>>,
    synced: watch::Sender<bool>,
}

impl<K: Clone> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            api: self.api.clone(),
            objects: self.objects.clone(),
            handlers: self.handlers.clone(),
            synced: self.synced.clone(),
        }
    }
}

impl<K: Watched> Informer<K> {
    /// An informer over all namespaces.
    pub(crate) fn new(client: &Client) -> Self {
        Self {
            api: Api::all(client.clone()),
            objects: Arc::default(),
            handlers: Arc::default(),
            synced: watch::channel(false).0,
        }
    }

    /// The copy this informer keeps.
    pub(crate) fn lister(&self) -> Lister<K> {
        Lister { objects: self.objects.clone(), synced: self.synced.subscribe() }
    }

    /// Calls `handler` with (before, after) for every change from the first list on.
    pub(crate) fn on_change(
        &self,
        handler: impl Fn(Option<&Arc<K>>, Option<&Arc<K>>) + Send + Sync + 'static,
    ) {
        self.handlers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(handler));
    }

    /// Watches until the future is dropped; errors of the connection are retried with back-off.
    pub(crate) async fn run(self) {
        let handlers = std::mem::take(&mut *self.handlers.lock().unwrap_or_else(PoisonError::into_inner));
        let events =
            watcher(self.api.clone(), watcher::Config::default().streaming_lists()).default_backoff();
        let mut events = events.modify(forget_owners_of_fields).boxed();
        let mut listing = BTreeMap::new();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => self.handle(event, &mut listing, &handlers),
                Ok(None) => return,
                Err(error) => tracing::warn!(kind = %K::kind(&()), error = message_of(&error), "watch"),
            }
        }
    }

    fn handle(&self, event: watcher::Event<K>, listing: &mut BTreeMap<Key, Arc<K>>, handlers: &[Handler<K>]) {
        match event {
            watcher::Event::Init => listing.clear(),
            watcher::Event::InitApply(object) => {
                listing.insert(Key::of(&object), Arc::new(object));
            }
            watcher::Event::InitDone => self.replace(std::mem::take(listing), handlers),
            watcher::Event::Apply(object) => self.set(Key::of(&object), Some(Arc::new(object)), handlers),
            watcher::Event::Delete(object) => self.set(Key::of(&object), None, handlers),
        }
    }

    /// Takes a whole list as the new state.
    fn replace(&self, listing: BTreeMap<Key, Arc<K>>, handlers: &[Handler<K>]) {
        let gone: Vec<Key> = {
            let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
            objects.by_key.keys().filter(|key| !listing.contains_key(*key)).cloned().collect()
        };
        gone.into_iter().for_each(|key| self.set(key, None, handlers));
        listing.into_iter().for_each(|(key, object)| self.set(key, Some(object), handlers));
        self.synced.send_replace(true);
    }

    fn set(&self, key: Key, new: Option<Arc<K>>, handlers: &[Handler<K>]) {
        let old = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            match &new {
                Some(object) => objects.insert(key, object.clone()),
                None => objects.remove(&key),
            }
        };
        let version = |object: &Option<Arc<K>>| {
            object.as_ref().and_then(|object| object.meta().resource_version.clone())
        };
        if old.is_some() && new.is_some() && version(&old) == version(&new) {
            return;
        }
        handlers.iter().for_each(|handler| handler(old.as_ref(), new.as_ref()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Event;
    use serde_json::{Value, json};

    fn kept<K: Watched + serde::Serialize>(kind: &str) -> Value {
        let owner = json!({"manager": "m", "operation": "Update", "time": "2026-01-01T00:00:00Z",
            "fieldsV1": {"f:reason": {}}});
        let metadata = json!({"name": "n", "namespace": "d", "managedFields": [owner]});
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, "involvedObject": {}});
        let mut object: K = serde_json::from_value(object).unwrap();
        forget_owners_of_fields(&mut object);
        serde_json::to_value(&object).unwrap()["metadata"]["managedFields"].clone()
    }

    #[test]
    fn pods_are_found_by_their_node() {
        let pod = |name: &str, node: &str| -> Arc<Pod> {
            let spec = json!({"nodeName": node, "containers": []});
            Arc::new(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap())
        };
        let mut objects = Objects::default();
        for (name, node) in [("a", "n"), ("b", "n"), ("c", ""), ("a", "n"), ("b", "m")] {
            objects.insert(Key::new("", name), pod(name, node));
        }
        let found = |objects: &Objects<Pod>, node: &str| -> Vec<String> {
            let pods = objects.by_node.get(node).into_iter().flatten();
            pods.filter_map(|pod| pod.metadata.name.clone()).collect()
        };
        assert_eq!(
            (found(&objects, "n"), found(&objects, "m")),
            (vec!["a".to_owned()], vec!["b".to_owned()])
        );
        objects.remove(&Key::new("", "a"));
        assert_eq!(objects.by_node.keys().collect::<Vec<_>>(), ["m"]);
    }

    #[test]
    fn a_copy_is_without_the_owners_of_its_fields() {
        assert_eq!(kept::<Pod>("Pod"), Value::Null);
        let owners = kept::<Event>("Event");
        assert_eq!((&owners[0]["manager"], &owners[0]["fieldsV1"]), (&json!("m"), &Value::Null));
        assert_eq!(owners[0]["time"], "2026-01-01T00:00:00Z");
    }
}
