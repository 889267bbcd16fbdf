//! A second order of a resource's objects, by the value of one field: every node asks for its own pods, and with
//! thousands of nodes neither a list nor a change may cost a look at all of them.
//!
//! Each value has a slot: the keys of its objects, its share of the history, and its own bell. An event is in the slot
//! of the value before it and in that of the value after it, so a watcher of a slot sees objects leave. A slot that
//! exists knows every event after its floor; one that is made later begins with the floor of the whole resource.

use super::{Entry, Event, EventKind, Revision};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::watch;

const PODS: &str = "core/pods/";
const NODE_NAME: &str = "spec.nodeName";
/// Slots that are no burden, whether idle or not.
const FEW: usize = 64;

/// The field by which the objects of `GROUP/RESOURCE/...` can be asked for, as selectors name it.
pub(crate) fn field(prefix: &str) -> Option<&'static str> {
    prefix.starts_with(PODS).then_some(NODE_NAME)
}

/// The bell of those who wait for changes; rung with the revision of the newest.
pub(super) type Bell = Arc<watch::Sender<Revision>>;

/// The slots of one resource.
#[derive(Debug, Default)]
pub(super) struct Index {
    slots: HashMap<Box<str>, Slot>,
    /// So many slots are reason to look for idle ones: watchers may name values that no object ever has.
    prune_at: usize,
}

/// What belongs to one value.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) keys: BTreeSet<Arc<str>>,
    pub(super) history: VecDeque<Arc<Event>>,
    /// Every event after this revision is in `history`.
    pub(super) floor: Revision,
    pub(super) bell: Bell,
}

/// The name under which entries remember the value: that under which selectors of v1 ask for it, computed once for both.
pub(super) const REMEMBERED: &str = "/v1:spec.nodeName";

/// The value of the indexed field of an object that is about to be encoded, where its kind has one.
pub(super) fn value_of(object: &Value) -> Option<Box<str>> {
    let is_pod = object["kind"] == "Pod" && object["apiVersion"] == "v1";
    is_pod.then(|| object.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default().into())
}

/// The value of the indexed field, read without decoding the rest.
fn value(entry: &Entry) -> Box<str> {
    #[derive(Default, Deserialize)]
    struct Pod {
        #[serde(default)]
        spec: Spec,
    }
    #[derive(Default, Deserialize)]
    struct Spec {
        #[serde(default, rename = "nodeName")]
        node_name: String,
    }
    entry.remembered(REMEMBERED, || {
        serde_json::from_slice::<Pod>(&entry.value).unwrap_or_default().spec.node_name
    })
}

/// The values that an event is about: before, and after where it is another one.
fn values(event: &Event) -> impl Iterator<Item = Box<str>> {
    let before = event.previous.as_deref().map(value);
    let after = value(&event.entry);
    let moved = before.as_ref() != Some(&after);
    before.into_iter().chain(moved.then_some(after))
}

impl Slot {
    /// Nothing would be lost with it: whoever asks for its value gets a new one.
    fn is_idle(&self) -> bool {
        self.history.is_empty() && self.keys.is_empty() && self.bell.receiver_count() == 0
    }
}

impl Index {
    pub(super) fn slot(&self, value: &str) -> Option<&Slot> {
        self.slots.get(value)
    }

    /// The slot of a value that a watcher is about to wait for; `floor` is that of the resource.
    pub(super) fn slot_or_new(&mut self, value: &str, floor: Revision) -> &mut Slot {
        if self.slots.len() >= self.prune_at.max(FEW) && !self.slots.contains_key(value) {
            self.slots.retain(|_, slot| !slot.is_idle());
            self.prune_at = 2 * self.slots.len();
        }
        self.slots.entry(value.into()).or_insert_with(|| Slot {
            keys: BTreeSet::new(),
            history: VecDeque::new(),
            floor,
            bell: Arc::new(watch::Sender::new(floor)),
        })
    }

    /// An object that was there from the beginning.
    pub(super) fn load(&mut self, entry: &Entry, floor: Revision) {
        self.slot_or_new(&value(entry), floor).keys.insert(entry.key.clone());
    }

    /// Takes an event in; gives the bells to ring once it is visible.
    pub(super) fn apply(&mut self, event: &Arc<Event>, floor: Revision) -> Vec<Bell> {
        if let Some(previous) = &event.previous
            && let Some(slot) = self.slots.get_mut(&value(previous))
        {
            slot.keys.remove(&event.entry.key);
        }
        if event.kind != EventKind::Deleted {
            self.slot_or_new(&value(&event.entry), floor).keys.insert(event.entry.key.clone());
        }
        let mut ring = |value: Box<str>| {
            let slot = self.slot_or_new(&value, floor);
            slot.history.push_back(event.clone());
            slot.bell.clone()
        };
        values(event).map(&mut ring).collect()
    }

    /// The oldest event of the resource leaves the history.
    pub(super) fn forget(&mut self, oldest: &Event) {
        for value in values(oldest) {
            let Some(slot) = self.slots.get_mut(&value) else { continue };
            if slot.history.front().is_some_and(|event| event.revision() == oldest.revision()) {
                slot.history.pop_front();
                slot.floor = oldest.revision();
            }
            if slot.is_idle() {
                self.slots.remove(&value);
            }
        }
    }

    /// The history up to `floor` is gone as a whole.
    pub(super) fn raise_floor(&mut self, floor: Revision) {
        self.slots.values_mut().for_each(|slot| slot.floor = slot.floor.max(floor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_that_nobody_needs_do_not_pile_up() {
        let mut index = Index::default();
        let waiting: Vec<_> =
            (0..10).map(|number| index.slot_or_new(&format!("kept-{number}"), 0).bell.subscribe()).collect();
        (0..10_000).for_each(|number| drop(index.slot_or_new(&format!("gone-{number}"), 0).bell.subscribe()));
        assert!(index.slots.len() <= 2 * FEW, "{}", index.slots.len());
        assert!((0..10).all(|number| index.slot(&format!("kept-{number}")).is_some()));
        drop(waiting);
    }
}
