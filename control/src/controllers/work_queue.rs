//! Keys that wait for a worker: each at most once, never two workers on one key, retries with back-off.
//!
//! The semantics are those every Kubernetes controller relies on: a key that is added while it is worked on is
//! worked on again afterwards, so no change is ever missed. One that cost much rests before that: the changes of a
//! busy hour are looked at together.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// First retry of a key that failed.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// Longest wait between two retries.
const LAST_RETRY: Duration = Duration::from_secs(1000);

struct State<K> {
    ready: VecDeque<K>,
    waiting: HashSet<K>,
    working: HashSet<K>,
    delayed: BTreeMap<(Instant, u64), K>,
    /// Given back, and not to be had before that time.
    resting: BTreeMap<(Instant, u64), K>,
    failures: HashMap<K, u32>,
    sequence: u64,
}

/// A queue; cheap to clone.
pub(crate) struct WorkQueue<K> {
    state: Arc<Mutex<State<K>>>,
    changed: Arc<Notify>,
}

impl<K> Clone for WorkQueue<K> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), changed: self.changed.clone() }
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            working: HashSet::new(),
            delayed: BTreeMap::new(),
            resting: BTreeMap::new(),
            failures: HashMap::new(),
            sequence: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), changed: Arc::new(Notify::new()) }
    }

    /// Never held across an await.
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a key, unless it waits already.
    pub(crate) fn add(&self, key: K) {
        self.lock().add(key);
        self.changed.notify_one();
    }

    /// Adds a key later.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.lock();
        state.sequence += 1;
        let at = (Instant::now() + delay, state.sequence);
        state.delayed.insert(at, key);
        drop(state);
        self.changed.notify_one();
    }

    /// Adds a key that failed: 5 ms, doubled each time, at most 1000 s.
    pub(crate) fn retry(&self, key: K) {
        let failures = {
            let mut state = self.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures += 1;
            *failures - 1
        };
        self.add_after(key, FIRST_RETRY.saturating_mul(1 << failures.min(20)).min(LAST_RETRY));
    }

    /// Forgets that a key failed.
    pub(crate) fn forget(&self, key: &K) {
        self.lock().failures.remove(key);
    }

    /// The next key; nobody else gets it before `done`.
    pub(crate) async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.lock();
                state.promote(Instant::now());
                if let Some(key) = state.take() {
                    if !state.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return key;
                }
                state.next_due()
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

    /// Gives a key back; if it was added meanwhile, it is ready again.
    pub(crate) fn done(&self, key: &K) {
        if self.lock().release(key) {
            self.changed.notify_one();
        }
    }

    /// Gives a key back that nobody is to have for a while.
    pub(crate) fn done_after(&self, key: &K, rest: Duration) {
        if rest.is_zero() {
            return self.done(key);
        }
        let mut state = self.lock();
        state.sequence += 1;
        let at = (Instant::now() + rest, state.sequence);
        state.resting.insert(at, key.clone());
        drop(state);
        self.changed.notify_one();
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) {
        if self.waiting.insert(key.clone()) && !self.working.contains(&key) {
            self.ready.push_back(key);
        }
    }

    /// Whether the key is ready again.
    fn release(&mut self, key: &K) -> bool {
        self.working.remove(key);
        let again = self.waiting.contains(key);
        if again {
            self.ready.push_back(key.clone());
        }
        again
    }

    fn next_due(&self) -> Option<Instant> {
        let first = |times: &BTreeMap<(Instant, u64), K>| times.keys().next().map(|(at, _)| *at);
        first(&self.delayed).into_iter().chain(first(&self.resting)).min()
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.resting.first_entry()
            && entry.key().0 <= now
        {
            let key = entry.remove();
            self.release(&key);
        }
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let key = entry.remove();
            self.add(key);
        }
    }

    fn take(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.waiting.remove(&key);
        self.working.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn a_key_waits_once_and_is_worked_on_by_one() {
        let queue = WorkQueue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert!(queue.next().now_or_never().is_none(), "still worked on");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(queue.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_rests_is_had_once_for_all_that_happened() {
        let queue = WorkQueue::new();
        let (begin, rest) = (Instant::now(), Duration::from_millis(300));
        queue.add("large");
        queue.done_after(&queue.next().await, rest);
        (0..3).for_each(|_| queue.add("large"));
        queue.add("small");
        assert_eq!(queue.next().await, "small", "others do not wait for it");
        queue.done(&"small");
        assert_eq!(queue.next().await, "large");
        assert_eq!(begin.elapsed(), rest);
        queue.done_after(&"large", rest);
        assert!(
            tokio::time::timeout(Duration::from_secs(9), queue.next()).await.is_err(),
            "nothing happened"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn retries_back_off_and_are_forgotten() {
        let queue = WorkQueue::new();
        let begin = Instant::now();
        for _ in 0..4 {
            queue.retry("a");
            let key = queue.next().await;
            queue.done(&key);
        }
        assert_eq!(begin.elapsed().as_millis(), 5 + 10 + 20 + 40);
        queue.forget(&"a");
        let begin = Instant::now();
        queue.retry("a");
        queue.next().await;
        assert_eq!(begin.elapsed().as_millis(), 5);
    }
}
