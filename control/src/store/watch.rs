//! One watcher: a position in the shared history of a resource. It owns no queue, so a slow one costs nothing; one
//! that falls behind the history is told so.

use super::cache::Shelf;
use super::{Event, Revision, StoreError};
use std::sync::Arc;
use tokio::sync::watch;

/// How many events one call hands out: bounds what a response buffers at once.
const BATCH: usize = 256;

/// Follows the changes below a prefix.
#[derive(Debug)]
pub struct Watch {
    shelf: Arc<Shelf>,
    changed: watch::Receiver<Revision>,
    published: watch::Receiver<Revision>,
    prefix: String,
    /// The value of the index that is followed; the whole resource where absent.
    indexed: Option<Box<str>>,
    position: Revision,
}

impl Watch {
    pub(super) fn new(
        shelf: Arc<Shelf>,
        changed: watch::Receiver<Revision>,
        published: watch::Receiver<Revision>,
        (prefix, indexed): (&str, Option<&str>),
        position: Revision,
    ) -> Self {
        let (prefix, indexed) = (prefix.to_owned(), indexed.map(Into::into));
        Self { shelf, changed, published, prefix, indexed, position }
    }

    /// The next changes, at least one, oldest first. Cancelling it loses none.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, StoreError> {
        loop {
            // Seen before looking, so that a change in between wakes us again.
            self.changed.borrow_and_update();
            let events = self.take()?;
            if !events.is_empty() {
                return Ok(events);
            }
            let closed = |_| StoreError::Unavailable("the store is closed".to_owned());
            self.changed.changed().await.map_err(closed)?;
        }
    }

    /// What is there now, without waiting; may be empty.
    pub fn take(&mut self) -> Result<Vec<Arc<Event>>, StoreError> {
        loop {
            // An event whose batch is not yet published waits: a list at the published revision must not lack it.
            let published = *self.published.borrow();
            let all = self.shelf.events_after(self.position, self.indexed.as_deref(), BATCH)?;
            let ready: Vec<_> = all.into_iter().take_while(|event| event.revision() <= published).collect();
            let Some(last) = ready.last() else { return Ok(Vec::new()) };
            self.position = last.revision();
            let own: Vec<_> =
                ready.into_iter().filter(|event| event.entry.key.starts_with(&self.prefix)).collect();
            if !own.is_empty() {
                return Ok(own);
            }
        }
    }

    /// The revision up to which this watcher has everything, for a bookmark; `None` while changes wait for it.
    pub fn progress(&mut self) -> Option<Revision> {
        let published = *self.published.borrow();
        let events = self.shelf.events_after(self.position, self.indexed.as_deref(), 1);
        let waiting = events.map_or(true, |events| !events.is_empty());
        if waiting {
            return None;
        }
        self.position = self.position.max(published);
        Some(self.position)
    }
}
