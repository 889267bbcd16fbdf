//! The newest state of every object and the recent history, in memory: what reads, lists and watches are served from.
//!
//! Objects are kept by resource, each behind a lock of its own. `published` is the newest revision of which every
//! change is in here: the writer fills in a whole batch first and raises it afterwards.

use super::{Entry, Event, EventKind, ListQuery, Page, Revision, StoreError, Watch, resource_prefix};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// How much history one resource keeps: watchers that are further behind must list again.
const MAX_EVENTS: usize = 1 << 16;
/// Bytes of the values in one resource's history.
const MAX_HISTORY_BYTES: usize = 16 << 20;

/// All resources.
#[derive(Debug)]
pub(super) struct Cache {
    shelves: RwLock<HashMap<Box<str>, Arc<Shelf>>>,
    published: watch::Sender<Revision>,
    /// The revision at which this process began to remember.
    start: Revision,
}

/// One resource.
#[derive(Debug)]
pub(super) struct Shelf {
    state: RwLock<State>,
    /// Wakes watchers; the value is the revision of the newest event.
    changed: watch::Sender<Revision>,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<Arc<str>, Arc<Entry>>,
    history: VecDeque<Arc<Event>>,
    history_bytes: usize,
    /// Every event after this revision is in `history`.
    floor: Revision,
}

impl Cache {
    /// The state that was read from disk, as of `revision`.
    pub(super) fn new(revision: Revision, entries: impl IntoIterator<Item = Entry>) -> Self {
        let cache =
            Self { shelves: RwLock::default(), published: watch::Sender::new(revision), start: revision };
        for entry in entries {
            let shelf = cache.shelf(&entry.key);
            let mut state = shelf.state.write().unwrap_or_else(PoisonError::into_inner);
            state.objects.insert(entry.key.clone(), Arc::new(entry));
        }
        cache
    }

    pub(super) fn revision(&self) -> Revision {
        *self.published.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.published.subscribe()
    }

    fn shelf(&self, key: &str) -> Arc<Shelf> {
        let name = resource_prefix(key);
        if let Some(shelf) = self.shelves.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return shelf.clone();
        }
        let mut shelves = self.shelves.write().unwrap_or_else(PoisonError::into_inner);
        shelves.entry(name.into()).or_insert_with(|| Arc::new(Shelf::new(self.start))).clone()
    }

    pub(super) fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.shelf(key).state.read().unwrap_or_else(PoisonError::into_inner).objects.get(key).cloned()
    }

    /// Every object.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let shelves: Vec<_> =
            self.shelves.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let entries = |shelf: Arc<Shelf>| {
            let state = shelf.state.read().unwrap_or_else(PoisonError::into_inner);
            state.objects.values().cloned().collect::<Vec<_>>()
        };
        shelves.into_iter().flat_map(entries).collect()
    }

    pub(super) fn list(&self, query: ListQuery<'_>) -> Result<Page, StoreError> {
        // Before the lock: everything up to here is in the shelf, whatever else is too.
        let published = self.revision();
        if let Some(wanted) = query.revision.filter(|wanted| *wanted > published) {
            return Err(StoreError::Future { wanted, current: published });
        }
        self.shelf(query.prefix).state.read().unwrap_or_else(PoisonError::into_inner).list(query, published)
    }

    pub(super) fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        let current = self.revision();
        if from > current {
            return Err(StoreError::Future { wanted: from, current });
        }
        let shelf = self.shelf(prefix);
        shelf.state.read().unwrap_or_else(PoisonError::into_inner).check(from)?;
        Ok(Watch::new(shelf.clone(), shelf.changed.subscribe(), self.subscribe(), prefix, from))
    }

    /// Makes a batch visible: objects and history first, then the revision, then the watchers are woken.
    pub(super) fn publish(&self, events: Vec<Event>) {
        let Some(last) = events.last().map(Event::revision) else { return };
        let mut touched: Vec<(Arc<Shelf>, Revision)> = Vec::new();
        for event in events {
            let (shelf, revision) = (self.shelf(&event.entry.key), event.revision());
            shelf.state.write().unwrap_or_else(PoisonError::into_inner).apply(event);
            match touched.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &shelf)) {
                Some((_, newest)) => *newest = revision,
                None => touched.push((shelf, revision)),
            }
        }
        self.published.send_replace(last);
        for (shelf, revision) in touched {
            shelf.changed.send_replace(revision);
        }
    }

    pub(super) fn compact(&self, revision: Revision) {
        let shelves: Vec<_> =
            self.shelves.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for shelf in shelves {
            shelf.state.write().unwrap_or_else(PoisonError::into_inner).forget_up_to(revision);
        }
    }
}

impl Shelf {
    fn new(floor: Revision) -> Self {
        let state = State { objects: BTreeMap::new(), history: VecDeque::new(), history_bytes: 0, floor };
        Self { state: RwLock::new(state), changed: watch::Sender::new(floor) }
    }

    /// At most `limit` events after `from`, oldest first.
    pub(super) fn events_after(&self, from: Revision, limit: usize) -> Result<Vec<Arc<Event>>, StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.check(from)?;
        Ok(state.events_after(from).take(limit).cloned().collect())
    }
}

impl State {
    fn check(&self, from: Revision) -> Result<(), StoreError> {
        if from < self.floor {
            return Err(StoreError::Compacted { wanted: from, oldest: self.floor });
        }
        Ok(())
    }

    fn events_after(&self, from: Revision) -> impl Iterator<Item = &Arc<Event>> {
        let start = self.history.partition_point(|event| event.revision() <= from);
        self.history.range(start..)
    }

    fn newest_event(&self) -> Revision {
        self.history.back().map_or(self.floor, |event| event.revision())
    }

    fn list(&self, query: ListQuery<'_>, published: Revision) -> Result<Page, StoreError> {
        let newest = self.newest_event();
        let old = query.revision.filter(|wanted| *wanted < newest);
        let start = query.after.unwrap_or(query.prefix);
        let wanted = |key: &str| key.starts_with(query.prefix) && query.after.is_none_or(|after| key > after);
        let range = (std::ops::Bound::Included(start), std::ops::Bound::Unbounded);
        let current =
            self.objects.range::<str, _>(range).take_while(|(key, _)| key.starts_with(query.prefix));
        let current = current.filter(|(key, _)| wanted(key)).map(|(_, entry)| entry);
        let limit = query.limit.unwrap_or(usize::MAX);
        let Some(old) = old else {
            let revision = query.revision.unwrap_or_else(|| published.max(newest));
            let mut rest = current;
            let entries: Vec<_> = rest.by_ref().take(limit).cloned().collect();
            let remaining = if query.limit.is_some() { rest.count() } else { 0 };
            return Ok(Page { entries, revision, remaining });
        };
        self.check(old)?;
        let undone = self.undo_to(old);
        let unchanged = current.filter(|entry| !undone.contains_key(&entry.key)).cloned();
        let restored = undone.values().flatten().filter(|entry| wanted(&entry.key)).cloned();
        let mut entries: Vec<Arc<Entry>> = unchanged.chain(restored).collect();
        entries.sort_by(|left, right| left.key.cmp(&right.key));
        let remaining = entries.len().saturating_sub(limit);
        entries.truncate(limit);
        Ok(Page { entries, revision: old, remaining })
    }

    /// The state at `revision` of every key that changed since: the state before its first later event.
    fn undo_to(&self, revision: Revision) -> HashMap<Arc<str>, Option<Arc<Entry>>> {
        let mut undone = HashMap::new();
        for event in self.events_after(revision) {
            undone.entry(event.entry.key.clone()).or_insert_with(|| event.previous.clone());
        }
        undone
    }

    fn apply(&mut self, event: Event) {
        match event.kind {
            EventKind::Deleted => {
                self.objects.remove(&event.entry.key);
            }
            EventKind::Added | EventKind::Modified => {
                self.objects.insert(event.entry.key.clone(), event.entry.clone());
            }
        }
        self.history_bytes += event.entry.value.len();
        self.history.push_back(Arc::new(event));
        while self.history.len() > MAX_EVENTS || self.history_bytes > MAX_HISTORY_BYTES {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.history_bytes -= event.entry.value.len();
            self.floor = event.revision();
        }
    }

    fn forget_up_to(&mut self, revision: Revision) {
        while self.history.front().is_some_and(|event| event.revision() <= revision) {
            self.forget_oldest();
        }
        self.floor = self.floor.max(revision);
    }
}
