//! Bindings under way, and pods that wait for their turn. While there are many, events come after them: one writer is left
//! to tell what has happened, and the others come back once the burst is over. Pods wait for nodes; nobody waits for news.

use crate::controllers::events::{Hush, Recorder};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many are a burst; it is over when half of them are left.
const MANY: usize = 64;

#[derive(Debug, Default)]
struct State {
    count: usize,
    /// Pods in the queue when the last one began.
    waiting: usize,
    hush: Option<Hush>,
}

/// Counts bindings. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct UnderWay(Arc<Mutex<State>>);

/// One binding; it is over when this is dropped.
#[derive(Debug)]
pub(super) struct Binding(UnderWay);

impl UnderWay {
    /// Never held across an await.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more begins, with so many behind it.
    pub(super) fn begin(&self, waiting: usize, events: &Recorder) -> Binding {
        let mut state = self.lock();
        state.count += 1;
        state.waiting = waiting;
        if state.count + waiting >= MANY && state.hush.is_none() {
            state.hush = events.hush();
        }
        Binding(self.clone())
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.count -= 1;
        // Nobody knows what became of those that waited when the last one began: who is left begins anew.
        if state.count == 0 || state.count + state.waiting <= MANY / 2 {
            state.hush = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn events_stand_back_during_a_burst() {
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        let events = Recorder::new(kube::Client::new(nobody, "default"), "test");
        let (under_way, all) = (UnderWay::default(), events.writers());
        let mut bindings: Vec<Binding> = (1..MANY).map(|_| under_way.begin(0, &events)).collect();
        assert_eq!(events.writers(), all, "a few are no burst");
        bindings.push(under_way.begin(0, &events));
        assert_eq!(events.writers(), 1);
        bindings.truncate(MANY / 2 + 1);
        assert_eq!(events.writers(), 1);
        bindings.pop();
        assert_eq!(events.writers(), all);
        bindings.clear();
        let first = under_way.begin(MANY, &events);
        assert_eq!(events.writers(), 1, "many wait");
        let last = under_way.begin(0, &events);
        drop((first, last));
        assert_eq!(events.writers(), all);
        drop(under_way.begin(MANY, &events));
        assert_eq!(events.writers(), all, "none of those that waited came");
    }
}
