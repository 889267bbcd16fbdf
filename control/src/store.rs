//! The store: versioned keys with watch, in the shape of etcd. One revision counts all writes; an object's
//! `resourceVersion` is the revision of its last write, and a list's is the revision it was taken at.
//!
//! Keys are `GROUP/RESOURCE/NAMESPACE/NAME` (`core` for the core group; cluster-scoped objects leave the namespace
//! out). Values are encoded objects that carry their own revision, so that a read, a list and a watch hand out the
//! same bytes without decoding them.
//!
//! What every implementation must hold (the suite checks it): an acknowledged write survives a crash; writes are
//! totally ordered; a watcher gets every change after its revision exactly once and in order, or is told that its
//! revision has expired.

use async_trait::async_trait;
use std::sync::Arc;

mod cache;
mod compiled;
mod embedded;
mod entry;
mod etcd;
mod fields;
pub(crate) mod index;
mod list_age;
mod owners;
#[cfg(test)]
mod suite;
mod watch;

pub use cache::Cache;
pub(crate) use compiled::Compiled;
pub use embedded::Embedded;
pub(crate) use entry::write_frame;
pub use entry::{Draft, Entry, Event, EventKind};
pub use etcd::{EtcdTls, connect as connect_etcd};
pub(crate) use fields::Fields;
pub use watch::Watch;

/// Counts writes over all keys; 0 is before the first.
pub type Revision = u64;

/// Versioned keys with watch. Whatever keeps them, they are read from a [`Cache`]; an implementation says how writes
/// become durable and how the cache learns of them.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The state that readers see.
    fn cache(&self) -> &Cache;

    /// The newest revision that readers can see.
    fn revision(&self) -> Revision {
        self.cache().revision()
    }

    /// Waits until [`Self::revision`] is at least `revision`; the caller sets the deadline.
    async fn wait_for(&self, revision: Revision) {
        // The sender lives as long as the cache, which we hold.
        let _ = self.cache().subscribe().wait_for(|published| *published >= revision).await;
    }

    /// The object at `key`.
    async fn get(&self, key: &str) -> Result<Option<Arc<Entry>>, StoreError> {
        Ok(self.cache().get(key))
    }

    /// A part of the objects below a prefix, in the order of their keys.
    async fn list(&self, query: ListQuery<'_>) -> Result<Page, StoreError> {
        self.cache().list(query)
    }

    /// Every object, all as of one revision.
    fn snapshot(&self) -> Result<(Revision, Vec<Arc<Entry>>), StoreError> {
        self.cache().snapshot()
    }

    /// Writes a key that must not exist.
    async fn create(&self, key: &str, draft: Draft) -> Result<Arc<Entry>, StoreError>;

    /// Replaces a value that must still be at revision `expected`.
    async fn update(&self, key: &str, expected: Revision, draft: Draft) -> Result<Arc<Entry>, StoreError>;

    /// Removes a key that must still be at revision `expected`; watchers get `last` as the object's final state.
    async fn delete(&self, key: &str, expected: Revision, last: Draft) -> Result<Arc<Entry>, StoreError>;

    /// Follows the changes below `prefix` (at least `GROUP/RESOURCE/`) that come after revision `from`.
    fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        self.cache().watch(prefix, from, None)
    }

    /// The same of the objects alone whose indexed field ([`index::field`]) is `value`, or was before the change.
    fn watch_where(&self, prefix: &str, value: &str, from: Revision) -> Result<Watch, StoreError> {
        self.cache().watch(prefix, from, Some(value))
    }

    /// Whether other servers write to it, too.
    fn is_shared(&self) -> bool {
        false
    }

    /// Whether writes are still taken.
    fn is_open(&self) -> bool;

    /// Lets the writes on their way end, then refuses more. Blocks.
    fn close(&self);

    /// Forgets the history up to and including `revision`.
    async fn compact(&self, revision: Revision) -> Result<(), StoreError>;
}

/// What to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListQuery<'a> {
    /// At least `GROUP/RESOURCE/`.
    pub prefix: &'a str,
    /// Only keys greater than this one.
    pub after: Option<&'a str>,
    /// At most so many; all where absent.
    pub limit: Option<usize>,
    /// How many there are from `after` on, where the page before told.
    pub left: Option<usize>,
    /// The state at this revision; the newest where absent.
    pub revision: Option<Revision>,
    /// Only objects whose indexed field ([`index::field`]) has this value.
    pub indexed: Option<&'a str>,
}

/// A part of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// In the order of their keys.
    pub entries: Vec<Arc<Entry>>,
    /// The revision that the list shows.
    pub revision: Revision,
    /// How many more follow.
    pub remaining: usize,
}

/// Why a store operation had no effect.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// `create` found the key.
    #[error("key exists")]
    Exists,
    /// `update` or `delete` did not find the key.
    #[error("key not found")]
    NotFound,
    /// The key is at another revision than expected.
    #[error("key was modified")]
    Conflict,
    /// The wanted revision has left the history.
    #[error("too old resource version: {wanted} ({oldest})")]
    Compacted {
        /// What was asked for.
        wanted: Revision,
        /// What is still known.
        oldest: Revision,
    },
    /// The wanted revision does not exist yet.
    #[error("Too large resource version: {wanted}, current: {current}")]
    Future {
        /// What was asked for.
        wanted: Revision,
        /// The newest one.
        current: Revision,
    },
    /// The disk (or the remote store) refused; nothing was written.
    #[error("store: {0}")]
    Unavailable(String),
}

/// `GROUP/RESOURCE/` of a key or prefix: the unit in which objects are cached and watched.
pub(crate) fn resource_prefix(key: &str) -> &str {
    let mut slashes = key.match_indices('/');
    slashes.next();
    slashes.next().map_or(key, |(at, _)| &key[..=at])
}
