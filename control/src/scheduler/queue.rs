//! Pods that wait for a node: the highest priority first, then the longest wait. Those that fitted nowhere are
//! parked with a growing back-off: 1 s to 10 s after something changed, five minutes if nothing does.

use crate::controllers::informer::Key;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);
/// A parked pod is tried again after this even if nothing seems to have changed.
const LONGEST_PARKING: Duration = Duration::from_secs(300);

type Rank = (Reverse<i32>, u64);

#[derive(Default)]
struct State {
    ready: BTreeMap<Rank, Key>,
    ranks: HashMap<Key, Rank>,
    parked: HashMap<Key, Parked>,
    /// Those of the parked that no change has woken: each binding is a change, and most wake nobody.
    asleep: HashSet<Key>,
    /// Parked pods by the time they are tried again.
    due: BTreeSet<(Instant, Key)>,
    attempts: HashMap<Key, u32>,
    sequence: u64,
}

struct Parked {
    priority: i32,
    /// Not before this, whatever changes.
    earliest: Instant,
    due: Instant,
}

/// The queue.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: Notify::new() }
    }

    /// Never held across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pods that could have their turn now.
    pub(super) fn waiting(&self) -> usize {
        self.lock().ready.len()
    }

    /// A pod wants a node; one that is parked stays so until its time.
    pub(super) fn add(&self, key: Key, priority: i32) {
        let mut state = self.lock();
        if !state.ranks.contains_key(&key) && !state.parked.contains_key(&key) {
            state.make_ready(key, priority);
            drop(state);
            self.changed.notify_one();
        }
    }

    /// A pod does not want one any more.
    pub(super) fn remove(&self, key: &Key) {
        let mut state = self.lock();
        if let Some(rank) = state.ranks.remove(key) {
            state.ready.remove(&rank);
        }
        if let Some(parked) = state.parked.remove(key) {
            state.due.remove(&(parked.due, key.clone()));
            state.asleep.remove(key);
        }
        state.attempts.remove(key);
    }

    /// A pod fitted nowhere.
    pub(super) fn park(&self, key: Key, priority: i32) {
        let now = Instant::now();
        let mut state = self.lock();
        let attempts = state.attempts.entry(key.clone()).or_insert(0);
        let backoff = FIRST_BACKOFF.saturating_mul(1 << (*attempts).min(8)).min(LAST_BACKOFF);
        *attempts += 1;
        let parked = Parked { priority, earliest: now + backoff, due: now + LONGEST_PARKING };
        state.due.insert((parked.due, key.clone()));
        state.asleep.insert(key.clone());
        state.parked.insert(key, parked);
        drop(state);
        self.changed.notify_one();
    }

    /// Something changed that may help one that is parked.
    pub(super) fn wake(&self, key: &Key) {
        let mut state = self.lock();
        let woken: Vec<Key> = state.asleep.take(key).into_iter().collect();
        self.raise(state, woken);
    }

    /// Something changed that may help those that are parked.
    pub(super) fn wake_all(&self) {
        let mut state = self.lock();
        let woken = std::mem::take(&mut state.asleep);
        self.raise(state, woken);
    }

    /// Lets parked pods come as soon as their back-off allows.
    fn raise(&self, mut state: MutexGuard<'_, State>, woken: impl IntoIterator<Item = Key>) {
        let (State { parked, due, .. }, mut changed) = (&mut *state, false);
        for key in woken {
            let Some(parked) = parked.get_mut(&key) else { continue };
            due.remove(&(parked.due, key.clone()));
            parked.due = parked.due.min(parked.earliest);
            due.insert((parked.due, key));
            changed = true;
        }
        drop(state);
        if changed {
            self.changed.notify_one();
        }
    }

    /// The next pod.
    pub(super) async fn next(&self) -> Key {
        loop {
            let due = {
                let mut state = self.lock();
                state.promote(Instant::now());
                if let Some((_, key)) = state.ready.pop_first() {
                    state.ranks.remove(&key);
                    return key;
                }
                state.due.first().map(|(at, _)| *at)
            };
            match due {
                Some(at) => tokio::select! {
                    () = self.changed.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => self.changed.notified().await,
            }
        }
    }
}

impl State {
    fn make_ready(&mut self, key: Key, priority: i32) {
        self.sequence += 1;
        let rank = (Reverse(priority), self.sequence);
        self.ranks.insert(key.clone(), rank);
        self.ready.insert(rank, key);
    }

    fn promote(&mut self, now: Instant) {
        while let Some((at, _)) = self.due.first()
            && *at <= now
            && let Some((_, key)) = self.due.pop_first()
        {
            if let Some(parked) = self.parked.remove(&key) {
                self.asleep.remove(&key);
                self.make_ready(key, parked.priority);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn key(name: &str) -> Key {
        Key::new("default", name)
    }

    #[tokio::test]
    async fn priority_goes_before_age() {
        let queue = Queue::new();
        queue.add(key("old"), 0);
        queue.add(key("important"), 10);
        queue.add(key("young"), 0);
        for expected in ["important", "old", "young"] {
            assert_eq!(queue.next().await, key(expected));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_pod_waits_for_a_change_and_its_backoff() {
        let queue = Queue::new();
        queue.park(key("a"), 0);
        queue.add(key("a"), 0);
        assert!(queue.next().now_or_never().is_none());
        let begin = Instant::now();
        queue.wake_all();
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(begin.elapsed().as_secs(), 1);
        queue.park(key("a"), 0);
        let begin = Instant::now();
        assert_eq!(queue.next().await, key("a"));
        assert_eq!(begin.elapsed().as_secs(), 300, "nothing changed");
    }
}
