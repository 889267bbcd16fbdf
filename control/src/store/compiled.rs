//! Something made of all objects of a few resources, and made anew when one of them has changed: rules that every request
//! is judged by. Whoever asks holds the lock for a comparison only, without await, so that nobody waits for his turn.

use super::{ListQuery, Store, StoreError, Watch};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// What is made, with the resources it is made of: `GROUP/RESOURCE/`.
pub(crate) struct Compiled<T> {
    store: Arc<dyn Store>,
    prefixes: &'static [&'static str],
    state: Mutex<State<T>>,
}

struct State<T> {
    /// One for each resource; empty before the first time.
    watches: Vec<Watch>,
    made: Arc<T>,
}

impl<T: Default> Compiled<T> {
    /// Nothing is read yet.
    pub(crate) fn new(store: Arc<dyn Store>, prefixes: &'static [&'static str]) -> Self {
        Self { store, prefixes, state: Mutex::new(State { watches: Vec::new(), made: Arc::default() }) }
    }

    /// What was made last.
    pub(crate) fn last(&self) -> Arc<T> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).made.clone()
    }

    /// What the objects make now. `make` gets those of each resource, in the order of the resources, and what was made
    /// before.
    pub(crate) fn get(&self, make: impl FnOnce(&[Vec<Value>], &T) -> T) -> Result<Arc<T>, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = |watch: &mut Watch| watch.take().map_or(true, |events| !events.is_empty());
        if state.watches.is_empty() || state.watches.iter_mut().any(changed) {
            let mut objects = Vec::new();
            let mut watches = Vec::new();
            for prefix in self.prefixes {
                let page = self.store.cache().list(ListQuery { prefix, ..ListQuery::default() })?;
                objects.push(page.entries.iter().map(|entry| entry.object()).collect());
                watches.push(self.store.watch(prefix, page.revision)?);
            }
            let made = Arc::new(make(&objects, &state.made));
            *state = State { watches, made };
        }
        Ok(state.made.clone())
    }
}
