//! Bindings under way, and pods that wait for their turn. While there are many, events come after them.

use super::news::{Hush, News};
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
    pub(super) fn begin(&self, waiting: usize, news: &News) -> Binding {
        let mut state = self.lock();
        state.count += 1;
        state.waiting = waiting;
        if state.count + waiting >= MANY && state.hush.is_none() {
            state.hush = Some(news.hush());
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

    #[test]
    fn events_stand_back_during_a_burst() {
        let nobody = tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Ok::<_, std::convert::Infallible>(http::Response::new(kube::client::Body::empty()))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _inside = runtime.enter();
        let (news, _writer) = super::super::news::channel(kube::Client::new(nobody, "default"), None);
        let under_way = UnderWay::default();
        let mut bindings: Vec<Binding> = (1..MANY).map(|_| under_way.begin(0, &news)).collect();
        assert!(!news.is_hushed(), "a few are no burst");
        bindings.push(under_way.begin(0, &news));
        assert!(news.is_hushed());
        bindings.truncate(MANY / 2 + 1);
        assert!(news.is_hushed());
        bindings.pop();
        assert!(!news.is_hushed());
        bindings.clear();
        let first = under_way.begin(MANY, &news);
        assert!(news.is_hushed(), "many wait");
        let last = under_way.begin(0, &news);
        drop((first, last));
        assert!(!news.is_hushed());
        drop(under_way.begin(MANY, &news));
        assert!(!news.is_hushed(), "none of those that waited came");
    }
}
