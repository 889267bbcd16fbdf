//! The one thread that writes: collects the waiting requests, decides each against the state that the ones before it
//! leave, commits all in one transaction, publishes, answers.

use super::super::cache::Cache;
use super::super::{Draft, Entry, Event, EventKind, Revision, StoreError};
use super::disk::Disk;
use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use tokio::sync::oneshot;

/// Bounds of one transaction, so that the first in it does not wait for thousands, and so that its pages fit into the
/// cache of the file: what does not is written early, and read again for the next object on the same page. (40,000 pods
/// in batches of 256 instead of 1,024: half of the writes where they are new, three quarters where they change.)
const MAX_BATCH: usize = 256;
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Where the outcome goes.
type Reply = oneshot::Sender<Result<Arc<Entry>, StoreError>>;

/// One waiting write.
pub(super) struct Request {
    pub(super) key: Arc<str>,
    pub(super) change: Change,
    pub(super) reply: Reply,
}

/// What to do with the key, and at which revision it must be.
pub(super) enum Change {
    Create(Draft),
    Update(Revision, Draft),
    Delete(Revision, Draft),
}

impl Change {
    fn len(&self) -> usize {
        match self {
            Self::Create(draft) | Self::Update(_, draft) | Self::Delete(_, draft) => draft.len(),
        }
    }

    /// The event this change makes of the `current` state, or why it cannot.
    fn decide(
        self,
        key: &Arc<str>,
        current: Option<Arc<Entry>>,
        revision: Revision,
    ) -> Result<Event, StoreError> {
        let (kind, draft) = match (self, &current) {
            (Self::Create(_), Some(_)) => return Err(StoreError::Exists),
            (Self::Create(draft), None) => (EventKind::Added, draft),
            (Self::Update(..) | Self::Delete(..), None) => return Err(StoreError::NotFound),
            (Self::Update(expected, _) | Self::Delete(expected, _), Some(entry))
                if entry.revision != expected =>
            {
                return Err(StoreError::Conflict);
            }
            (Self::Update(_, draft), Some(_)) => (EventKind::Modified, draft),
            (Self::Delete(_, draft), Some(_)) => (EventKind::Deleted, draft),
        };
        let entry = Entry::of(key.clone(), revision, draft);
        Ok(Event::new(kind, Arc::new(entry), current))
    }
}

/// The requests of one transaction, decided.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    replies: Vec<(Reply, Arc<Entry>)>,
    /// What the keys touched so far will be.
    pending: HashMap<Arc<str>, Option<Arc<Entry>>>,
}

pub(super) struct Writer {
    disk: Disk,
    cache: Arc<Cache>,
    revision: Revision,
}

impl Writer {
    pub(super) fn new(disk: Disk, cache: Arc<Cache>, revision: Revision) -> Self {
        Self { disk, cache, revision }
    }

    /// Until the last sender is gone.
    pub(super) fn run(mut self, requests: &mpsc::Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let mut batch = Batch::default();
            let mut bytes = first.change.len();
            self.decide(&mut batch, first);
            while batch.events.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
                let Ok(request) = requests.try_recv() else { break };
                bytes += request.change.len();
                self.decide(&mut batch, request);
            }
            self.finish(batch);
        }
    }

    fn decide(&self, batch: &mut Batch, request: Request) {
        let Request { key, change, reply } = request;
        let current = batch.pending.get(&key).cloned().unwrap_or_else(|| self.cache.get(&key));
        let revision = self.revision + batch.events.len() as u64 + 1;
        match change.decide(&key, current, revision) {
            Ok(event) => {
                let left = (event.kind != EventKind::Deleted).then(|| event.entry.clone());
                batch.pending.insert(key, left);
                batch.replies.push((reply, event.entry.clone()));
                batch.events.push(event);
            }
            // Nobody waits any more when the send fails: the client went away.
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn finish(&mut self, batch: Batch) {
        let Some(last) = batch.events.last().map(Event::revision) else { return };
        match self.commit(&batch.events, last) {
            Ok(()) => {
                self.revision = last;
                self.cache.publish(batch.events);
                batch.replies.into_iter().for_each(|(reply, entry)| drop(reply.send(Ok(entry))));
            }
            Err(error) => {
                tracing::error!("write to the store: {error:#}");
                let error = StoreError::Unavailable(format!("{error:#}"));
                batch.replies.into_iter().for_each(|(reply, _)| drop(reply.send(Err(error.clone()))));
            }
        }
    }

    /// A commit that failed may have reached the disk all the same: the file, opened again, tells.
    fn commit(&mut self, events: &[Event], last: Revision) -> anyhow::Result<()> {
        let Err(error) = self.disk.commit(events) else { return Ok(()) };
        if let Err(again) = self.disk.reopen() {
            return Err(error.context(format!("open the file again: {again:#}")));
        }
        if self.disk.revision()? == last { Ok(()) } else { Err(error) }
    }
}
