//! The newest state of every object and the recent history, in memory: what reads, lists and watches are served from.
//!
//! Objects are kept by resource, each behind a lock of its own. `published` is the newest revision of which every
//! change is in here: the writer fills in a whole batch first and raises it afterwards.

use super::index::{self, Bell, Index};
use super::list_age::ListAge;
use super::{Entry, Event, EventKind, ListQuery, Page, Revision, StoreError, Watch, resource_prefix};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How much history one resource keeps: watchers that are further behind must list again.
const MAX_EVENTS: usize = 1 << 16;
/// Bytes of the values in one resource's history.
const MAX_HISTORY_BYTES: usize = 16 << 20;
/// The same while all of it is new: whoever has to list again in a burst of changes is even further behind afterwards.
const MAX_BURST_BYTES: usize = 64 << 20;
/// What is no older than this is new.
const NEW: Duration = Duration::from_secs(30);

/// All resources.
#[derive(Debug)]
pub struct Cache {
    shelves: RwLock<HashMap<Box<str>, Arc<Shelf>>>,
    /// Whose history is longer than it is to stay.
    swollen: Mutex<Vec<Arc<Shelf>>>,
    published: watch::Sender<Revision>,
    /// The revision at which this process began to remember.
    start: Revision,
    list_age: Mutex<ListAge>,
}

/// One resource.
#[derive(Debug)]
pub(super) struct Shelf {
    state: RwLock<State>,
    /// Wakes watchers of the whole resource.
    changed: Bell,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<Arc<str>, Arc<Entry>>,
    history: VecDeque<Arc<Event>>,
    history_bytes: usize,
    /// Among those whose history is to be shortened.
    swollen: bool,
    /// Every event after this revision is in `history`.
    floor: Revision,
    /// Of the resources that have one.
    index: Option<Index>,
}

impl Cache {
    /// The state that was read from disk, as of `revision`.
    pub(super) fn new(revision: Revision, entries: impl IntoIterator<Item = Entry>) -> Self {
        let cache = Self {
            shelves: RwLock::default(),
            swollen: Mutex::default(),
            published: watch::Sender::new(revision),
            start: revision,
            list_age: Mutex::default(),
        };
        for entry in entries {
            let shelf = cache.shelf(&entry.key);
            let mut state = shelf.state.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(index) = &mut state.index {
                index.load(&entry, revision);
            }
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
        shelves.entry(name.into()).or_insert_with(|| Arc::new(Shelf::new(name, self.start))).clone()
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
        if let Some(wanted) = query.revision {
            check(wanted, self.list_age().floor(Instant::now()))?;
        }
        self.shelf(query.prefix).state.read().unwrap_or_else(PoisonError::into_inner).list(query, published)
    }

    fn list_age(&self) -> MutexGuard<'_, ListAge> {
        self.list_age.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every object as of one revision: what is newer is undone.
    pub(super) fn snapshot(&self) -> Result<(Revision, Vec<Arc<Entry>>), StoreError> {
        let revision = self.revision();
        let mut prefixes: Vec<Box<str>> =
            self.shelves.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect();
        prefixes.sort();
        let mut entries = Vec::new();
        for prefix in prefixes {
            let query = ListQuery { prefix: &prefix, revision: Some(revision), ..ListQuery::default() };
            entries.extend(self.list(query)?.entries);
        }
        Ok((revision, entries))
    }

    pub(super) fn watch(
        &self,
        prefix: &str,
        from: Revision,
        indexed: Option<&str>,
    ) -> Result<Watch, StoreError> {
        let current = self.revision();
        if from > current {
            return Err(StoreError::Future { wanted: from, current });
        }
        let shelf = self.shelf(prefix);
        let changed = match indexed {
            Some(value) => shelf.state.write().unwrap_or_else(PoisonError::into_inner).join(value, from)?,
            None => {
                shelf.state.read().unwrap_or_else(PoisonError::into_inner).check(from)?;
                shelf.changed.subscribe()
            }
        };
        Ok(Watch::new(shelf, changed, self.subscribe(), (prefix, indexed), from))
    }

    /// Makes a batch visible: objects and history first, then the revision, then the watchers are woken.
    pub(super) fn publish(&self, events: Vec<Event>) {
        let Some(last) = events.last().map(Event::revision) else { return };
        let mut bells: HashMap<*const watch::Sender<Revision>, (Bell, Revision)> = HashMap::new();
        let now = Instant::now();
        self.shrink(now);
        for event in events {
            let (shelf, revision) = (self.shelf(&event.entry.key), event.revision());
            let (own, swells) = {
                let mut state = shelf.state.write().unwrap_or_else(PoisonError::into_inner);
                let own = state.apply(event);
                let swollen = state.history_bytes > MAX_HISTORY_BYTES;
                (own, swollen && !std::mem::replace(&mut state.swollen, true))
            };
            if swells {
                self.swollen.lock().unwrap_or_else(PoisonError::into_inner).push(shelf.clone());
            }
            for bell in own.into_iter().chain([shelf.changed.clone()]) {
                bells.insert(Arc::as_ptr(&bell), (bell, revision));
            }
        }
        self.list_age().published(now, last);
        self.published.send_replace(last);
        for (bell, revision) in bells.into_values() {
            bell.send_replace(revision);
        }
    }

    /// Lets histories that grew in a burst go back to what they may be, once that is over: also where nothing else changes.
    fn shrink(&self, now: Instant) {
        self.swollen.lock().unwrap_or_else(PoisonError::into_inner).retain(|shelf| {
            let mut state = shelf.state.write().unwrap_or_else(PoisonError::into_inner);
            state.trim(now);
            state.swollen = state.history_bytes > MAX_HISTORY_BYTES;
            state.swollen
        });
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
    fn new(name: &str, floor: Revision) -> Self {
        let index = index::field(name).map(|_| Index::default());
        let state = State {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            history_bytes: 0,
            swollen: false,
            floor,
            index,
        };
        Self { state: RwLock::new(state), changed: Arc::new(watch::Sender::new(floor)) }
    }

    /// At most `limit` events after `from`, oldest first; of one value of the index where `indexed` names it.
    pub(super) fn events_after(
        &self,
        from: Revision,
        indexed: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let slot = indexed.and_then(|value| state.index.as_ref()?.slot(value));
        let (history, floor) = match slot {
            Some(slot) => (&slot.history, slot.floor),
            None => (&state.history, state.floor),
        };
        check(from, floor)?;
        Ok(after(history, from).take(limit).cloned().collect())
    }
}

fn check(from: Revision, floor: Revision) -> Result<(), StoreError> {
    if from < floor {
        return Err(StoreError::Compacted { wanted: from, oldest: floor });
    }
    Ok(())
}

fn after(history: &VecDeque<Arc<Event>>, from: Revision) -> impl Iterator<Item = &Arc<Event>> {
    let start = history.partition_point(|event| event.revision() <= from);
    history.range(start..)
}

/// A page, and how many follow it where that is wanted; `left` are all where that is known, so that nobody counts.
fn cut(
    mut entries: impl Iterator<Item = Arc<Entry>>,
    limit: usize,
    left: Option<usize>,
    counts: bool,
) -> (Vec<Arc<Entry>>, usize) {
    let page: Vec<_> = entries.by_ref().take(limit).collect();
    let remaining = match (counts, left) {
        (false, _) => 0,
        (true, None) => entries.count(),
        (true, Some(left)) if entries.next().is_some() => left.saturating_sub(page.len()).max(1),
        (true, Some(_)) => 0,
    };
    (page, remaining)
}

/// Two rows of entries as one, each in the order of keys.
fn merged(
    left: impl Iterator<Item = Arc<Entry>>,
    right: Vec<Arc<Entry>>,
) -> impl Iterator<Item = Arc<Entry>> {
    let (mut left, mut right) = (left.peekable(), right.into_iter().peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(one), Some(other)) if one.key > other.key => right.next(),
        (None, _) => right.next(),
        _ => left.next(),
    })
}

impl State {
    fn check(&self, from: Revision) -> Result<(), StoreError> {
        check(from, self.floor)
    }

    /// A watcher of one value: its bell, if every event after `from` is still known.
    fn join(&mut self, value: &str, from: Revision) -> Result<watch::Receiver<Revision>, StoreError> {
        let floor = self.floor;
        let Some(index) = &mut self.index else { return Err(StoreError::NotFound) };
        let slot = index.slot_or_new(value, floor);
        check(from, slot.floor)?;
        Ok(slot.bell.subscribe())
    }

    fn events_after(&self, from: Revision) -> impl Iterator<Item = &Arc<Event>> {
        after(&self.history, from)
    }

    fn newest_event(&self) -> Revision {
        self.history.back().map_or(self.floor, |event| event.revision())
    }

    fn list(&self, query: ListQuery<'_>, published: Revision) -> Result<Page, StoreError> {
        let newest = self.newest_event();
        let old = query.revision.filter(|wanted| *wanted < newest);
        if let (None, Some(value)) = (old, query.indexed) {
            return Ok(self.list_slot(query, value, published.max(newest)));
        }
        let start = query.after.unwrap_or(query.prefix);
        let wanted = |key: &str| key.starts_with(query.prefix) && query.after.is_none_or(|after| key > after);
        let range = (std::ops::Bound::Included(start), std::ops::Bound::Unbounded);
        let current =
            self.objects.range::<str, _>(range).take_while(|(key, _)| key.starts_with(query.prefix));
        let current = current.filter(|(key, _)| wanted(key)).map(|(_, entry)| entry);
        let limit = query.limit.unwrap_or(usize::MAX);
        let Some(old) = old else {
            let revision = query.revision.unwrap_or_else(|| published.max(newest));
            let whole = resource_prefix(query.prefix) == query.prefix && query.after.is_none();
            let all = query.left.or(whole.then_some(self.objects.len()));
            let (entries, remaining) = cut(current.cloned(), limit, all, query.limit.is_some());
            return Ok(Page { entries, revision, remaining });
        };
        self.check(old)?;
        let undone = self.undo_to(old);
        let unchanged = current.filter(|entry| !undone.contains_key(&entry.key)).cloned();
        let restored = undone.values().flatten().filter(|entry| wanted(&entry.key)).cloned();
        let mut restored: Vec<Arc<Entry>> = restored.collect();
        restored.sort_by(|left, right| left.key.cmp(&right.key));
        let (entries, remaining) = cut(merged(unchanged, restored), limit, query.left, query.limit.is_some());
        Ok(Page { entries, revision: old, remaining })
    }

    /// The newest objects of one value of the index; without a limit, since selectors follow.
    fn list_slot(&self, query: ListQuery<'_>, value: &str, newest: Revision) -> Page {
        let slot = self.index.as_ref().and_then(|index| index.slot(value));
        let keys = slot.into_iter().flat_map(|slot| &slot.keys);
        let wanted = keys.filter(|key| {
            key.starts_with(query.prefix) && query.after.is_none_or(|after| key.as_ref() > after)
        });
        let entries = wanted.filter_map(|key| self.objects.get(key).cloned()).collect();
        Page { entries, revision: query.revision.unwrap_or(newest), remaining: 0 }
    }

    /// The state at `revision` of every key that changed since: the state before its first later event.
    fn undo_to(&self, revision: Revision) -> HashMap<Arc<str>, Option<Arc<Entry>>> {
        let mut undone = HashMap::new();
        for event in self.events_after(revision) {
            undone.entry(event.entry.key.clone()).or_insert_with(|| event.previous.clone());
        }
        undone
    }

    /// Takes an event in; gives the bells of the index to ring.
    fn apply(&mut self, event: Event) -> Vec<Bell> {
        match event.kind {
            EventKind::Deleted => {
                self.objects.remove(&event.entry.key);
            }
            EventKind::Added | EventKind::Modified => {
                self.objects.insert(event.entry.key.clone(), event.entry.clone());
            }
        }
        self.history_bytes += event.entry.value.len();
        let event = Arc::new(event);
        let floor = self.floor;
        let bells = self.index.as_mut().map(|index| index.apply(&event, floor)).unwrap_or_default();
        self.history.push_back(event);
        // The clock is asked only where the answer could matter.
        if self.history.len() > MAX_EVENTS || self.history_bytes > MAX_HISTORY_BYTES {
            self.trim(Instant::now());
        }
        bells
    }

    fn trim(&mut self, now: Instant) {
        while let Some(oldest) = self.history.front() {
            let new = now.saturating_duration_since(oldest.at) < NEW;
            let most = if new { MAX_BURST_BYTES } else { MAX_HISTORY_BYTES };
            if self.history.len() <= MAX_EVENTS && self.history_bytes <= most {
                return;
            }
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(event) = self.history.pop_front() {
            self.history_bytes -= event.entry.value.len();
            self.floor = event.revision();
            if let Some(index) = &mut self.index {
                index.forget(&event);
            }
        }
    }

    fn forget_up_to(&mut self, revision: Revision) {
        while self.history.front().is_some_and(|event| event.revision() <= revision) {
            self.forget_oldest();
        }
        self.floor = self.floor.max(revision);
        if let Some(index) = &mut self.index {
            index.raise_floor(self.floor);
        }
    }
}

#[cfg(test)]
mod tests;
