//! The embedded store: redb on disk, the [`Cache`] in memory, and one writer thread in between.
//!
//! All writers that wait while a commit is on its way to the disk share the next one (group commit). A write is
//! acknowledged after its commit is durable, and only then visible to readers: nobody ever sees a state that a
//! power cut could take back.

use super::cache::Cache;
use super::{Draft, Entry, Event, EventKind, Revision, Store, StoreError};
use anyhow::Context as _;
use async_trait::async_trait;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use tokio::sync::oneshot;

mod disk;
mod writer;

use writer::{Change, Request, Writer};

/// Objects in one file, owned by one process.
#[derive(Debug)]
pub struct Embedded {
    cache: Arc<Cache>,
    /// Closing it ends the writer. Short sections without await.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Embedded {
    /// Opens the store file, or creates it. One process at a time can.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let disk = disk::Disk::open(path).with_context(|| format!("open the store {}", path.display()))?;
        let (revision, entries) =
            disk.load().with_context(|| format!("read the store {}", path.display()))?;
        let cache = Arc::new(Cache::new(revision, entries));
        let (sender, receiver) = mpsc::channel();
        let writer = Writer::new(disk, cache.clone(), revision);
        let thread =
            std::thread::Builder::new().name("store-writer".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { cache, requests: Mutex::new(Some(sender)), writer: Mutex::new(Some(thread)) })
    }

    /// Fills a new store file; what is written next gets a revision after `revision`.
    pub(crate) fn fill(
        path: &Path,
        entries: impl Iterator<Item = anyhow::Result<Entry>>,
        revision: Revision,
    ) -> anyhow::Result<()> {
        const BATCH: usize = 1000;
        let disk = disk::Disk::open(path).with_context(|| format!("create {}", path.display()))?;
        let mut batch = Vec::new();
        for entry in entries {
            batch.push(Event::new(EventKind::Added, Arc::new(entry?), None));
            if batch.len() == BATCH {
                disk.commit(&std::mem::take(&mut batch))?;
            }
        }
        disk.commit(&batch)?;
        disk.set_revision(revision)
    }

    async fn write(&self, key: &str, change: Change) -> Result<Arc<Entry>, StoreError> {
        let closed = || StoreError::Unavailable("the store is closed".to_owned());
        let (reply, answer) = oneshot::channel();
        let request = Request { key: key.into(), change, reply };
        let sent = match &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(sender) => sender.send(request).is_ok(),
            None => false,
        };
        if !sent {
            return Err(closed());
        }
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Store for Embedded {
    fn cache(&self) -> &Cache {
        &self.cache
    }

    async fn create(&self, key: &str, draft: Draft) -> Result<Arc<Entry>, StoreError> {
        self.write(key, Change::Create(draft)).await
    }

    async fn update(&self, key: &str, expected: Revision, draft: Draft) -> Result<Arc<Entry>, StoreError> {
        self.write(key, Change::Update(expected, draft)).await
    }

    async fn delete(&self, key: &str, expected: Revision, last: Draft) -> Result<Arc<Entry>, StoreError> {
        self.write(key, Change::Delete(expected, last)).await
    }

    fn is_open(&self) -> bool {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn close(&self) {
        drop(self.requests.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer ended with a panic");
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.cache.compact(revision);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
