//! The store on etcd: where several API servers share one state.
//!
//! Reads, lists and watches are served from the same [`Cache`] as those of the embedded store; one etcd watch fills it.
//! A write is a transaction on the revision of its key, acknowledged when it has come back through that watch: who
//! writes sees its own write. What other servers write is seen as soon as etcd tells, and a write that was decided on
//! an older state is a conflict, as everywhere.
//!
//! Values are JSON with an empty `resourceVersion`: the revision is etcd's, and is filled in on reading.

use super::cache::Cache;
use super::{Draft, Entry, Event, EventKind, Revision, Store, StoreError};
use async_trait::async_trait;
use client::{Client, failure};
use messages::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, Request, RequestOp, TxnRequest,
    WatchCreateRequest, WatchEvent, WatchResponse,
};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

mod client;
mod messages;

/// Every key of ours begins with it.
const ROOT: &str = "/registry/knarr/";
/// First key after all of ours.
const ROOT_END: &str = "/registry/knarr0";
const PAGE: i64 = 1000;
/// How long etcd may take to be there when a server starts, as kube-apiserver waits.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// Between two attempts to follow.
const PAUSE: Duration = Duration::from_secs(1);
/// History that etcd keeps for watches of other servers.
const COMPACT_INTERVAL: Duration = Duration::from_secs(300);
/// A write that etcd took and that does not come back within this is not acknowledged.
const ECHO_TIMEOUT: Duration = Duration::from_secs(30);

/// Files in PEM by which etcd and we know each other; those that are absent are not used.
#[derive(Debug, Clone, Default)]
pub struct EtcdTls {
    /// Who may have signed etcd's certificates; the machine's own roots where absent.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Objects in an etcd cluster.
#[derive(Debug)]
pub(super) struct Etcd {
    cache: Arc<Cache>,
    client: Client,
    /// Turns true when the store closes.
    closed: watch::Sender<bool>,
}

/// Connects to the members of an etcd cluster and reads what is there.
pub async fn connect(endpoints: &[String], tls: &EtcdTls) -> Result<Arc<dyn Store>, StoreError> {
    let client = Client::new(endpoints, tls)?;
    one_listens(endpoints).await;
    let (revision, entries) = load(&client).await?;
    let cache = Arc::new(Cache::new(revision, entries));
    let (closed, ending) = watch::channel(false);
    let tasks =
        (follow(client.clone(), cache.clone(), revision), compact_regularly(client.clone(), cache.clone()));
    tokio::spawn(until(ending.clone(), tasks.0));
    tokio::spawn(until(ending, tasks.1));
    Ok(Arc::new(Etcd { cache, client, closed }))
}

/// Waits until one of the members takes connections: server and etcd may have been started together.
async fn one_listens(urls: &[String]) {
    let addresses =
        || urls.iter().filter_map(|url| url.split_once("://")).map(|(_, rest)| rest.trim_end_matches('/'));
    let listening = async {
        let mut ticks = tokio::time::interval(PROBE_INTERVAL);
        loop {
            ticks.tick().await;
            for address in addresses() {
                if TcpStream::connect(address).await.is_ok() {
                    return;
                }
            }
        }
    };
    // The first request tells what is wrong after that.
    let _ = tokio::time::timeout(START_TIMEOUT, listening).await;
}

async fn until(mut ending: watch::Receiver<bool>, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        // An error means that the store is gone.
        _ = ending.wait_for(|closed| *closed) => {}
    }
}

fn revision(number: i64) -> Revision {
    Revision::try_from(number).unwrap_or(0)
}

fn signed(revision: Revision) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn etcd_key(key: &str) -> Vec<u8> {
    format!("{ROOT}{key}").into_bytes()
}

/// A stored object as an entry; what is not ours is left out.
fn entry(kv: &KeyValue) -> Option<Entry> {
    let key = std::str::from_utf8(&kv.key).ok()?.strip_prefix(ROOT)?;
    let at = revision(kv.mod_revision);
    Some(Entry::new(key.into(), at, Draft::unsealed(&kv.value)?.seal(at)))
}

/// Everything, at one revision.
async fn load(client: &Client) -> Result<(Revision, Vec<Entry>), StoreError> {
    let (mut at, mut entries, mut key) = (0, Vec::new(), ROOT.as_bytes().to_vec());
    loop {
        let request = RangeRequest { key, range_end: ROOT_END.into(), limit: PAGE, revision: at };
        let page = client.range(request).await.map_err(|status| failure(&status))?;
        if at == 0 {
            at = page.header.unwrap_or_default().revision;
        }
        entries.extend(page.kvs.iter().filter_map(entry));
        match page.kvs.last().filter(|_| page.more) {
            // The next key after the last one.
            Some(last) => key = [&last.key[..], b"\0"].concat(),
            None => return Ok((revision(at), entries)),
        }
    }
}

/// Fills the cache from a watch, for ever.
async fn follow(client: Client, cache: Arc<Cache>, mut position: Revision) {
    loop {
        match follow_once(&client, &cache, &mut position).await {
            Err(StoreError::Compacted { .. }) => match read_anew(&client, &cache).await {
                Ok(now) => position = now,
                Err(error) => tracing::warn!("read etcd anew: {error}"),
            },
            Err(error) => tracing::warn!("follow etcd: {error}"),
            Ok(()) => tracing::debug!("etcd ended the watch"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(client: &Client, cache: &Cache, position: &mut Revision) -> Result<(), StoreError> {
    let create = WatchCreateRequest {
        key: ROOT.into(),
        range_end: ROOT_END.into(),
        start_revision: signed(*position + 1),
    };
    let mut stream = client.watch(create).await.map_err(|status| failure(&status))?;
    while let Some(response) = stream.message().await.map_err(|status| failure(&status))? {
        publish(cache, &response, position)?;
    }
    Ok(())
}

fn publish(cache: &Cache, response: &WatchResponse, position: &mut Revision) -> Result<(), StoreError> {
    if response.compact_revision > 0 {
        return Err(StoreError::Compacted { wanted: *position, oldest: revision(response.compact_revision) });
    }
    if response.canceled {
        return Err(StoreError::Unavailable(format!("etcd: {}", response.cancel_reason)));
    }
    let mut pending = HashMap::new();
    let events: Vec<Event> =
        response.events.iter().filter_map(|event| read_event(cache, event, &mut pending)).collect();
    if let Some(last) = response.events.iter().filter_map(|event| event.kv.as_ref()).next_back() {
        *position = (*position).max(revision(last.mod_revision));
    }
    cache.publish(events);
    Ok(())
}

/// What the keys of one response have become so far.
type Pending = HashMap<Arc<str>, Option<Arc<Entry>>>;

fn read_event(cache: &Cache, event: &WatchEvent, pending: &mut Pending) -> Option<Event> {
    let kv = event.kv.as_ref()?;
    let key: Arc<str> = std::str::from_utf8(&kv.key).ok()?.strip_prefix(ROOT)?.into();
    let previous = pending.get(&key).cloned().unwrap_or_else(|| cache.get(&key));
    let (kind, new) = if event.kind == WatchEvent::DELETE {
        (EventKind::Deleted, last_state(previous.as_deref()?, revision(kv.mod_revision)))
    } else if kv.create_revision == kv.mod_revision {
        (EventKind::Added, entry(kv)?)
    } else {
        (EventKind::Modified, entry(kv)?)
    };
    let new = Arc::new(new);
    pending.insert(key, (kind != EventKind::Deleted).then(|| new.clone()));
    Some(Event::new(kind, new, previous))
}

/// A deleted object as it was, at the revision of its deletion.
fn last_state(previous: &Entry, at: Revision) -> Entry {
    Entry::new(previous.key.clone(), at, Draft::of(&previous.object()).seal(at))
}

/// After falling behind etcd's history: the difference between what is cached and what is there becomes events, and
/// watchers that would have needed what is lost are told to list again.
async fn read_anew(client: &Client, cache: &Cache) -> Result<Revision, StoreError> {
    let (now, entries) = load(client).await?;
    let mut gone: HashMap<Arc<str>, Arc<Entry>> =
        cache.all().into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    let mut events = Vec::new();
    for entry in entries {
        let previous = gone.remove(&entry.key);
        let kind = if previous.is_some() { EventKind::Modified } else { EventKind::Added };
        if previous.as_ref().is_none_or(|previous| previous.revision != entry.revision) {
            events.push(Event::new(kind, Arc::new(entry), previous));
        }
    }
    for (_, previous) in gone {
        events.push(Event::new(EventKind::Deleted, Arc::new(last_state(&previous, now)), Some(previous)));
    }
    events.sort_by_key(Event::revision);
    cache.publish(events);
    cache.compact(now);
    Ok(now)
}

/// Lets etcd forget what is older than two rounds of this.
async fn compact_regularly(client: Client, cache: Arc<Cache>) {
    let mut before = cache.revision();
    loop {
        tokio::time::sleep(COMPACT_INTERVAL).await;
        if before > 0
            && let Err(status) = client.compact(signed(before)).await
        {
            tracing::warn!("compact etcd: {}", status.message());
        }
        before = cache.revision();
    }
}

impl Etcd {
    /// Runs `request` if the key is still at `expected`; gives the revision of the write.
    async fn write(&self, key: &str, expected: Revision, request: Request) -> Result<Revision, StoreError> {
        if *self.closed.borrow() {
            return Err(StoreError::Unavailable("the store is closed".to_owned()));
        }
        let name = etcd_key(key);
        let target = Compare {
            result: 0,
            target: Compare::MOD,
            key: name.clone(),
            mod_revision: Some(signed(expected)),
        };
        let look = RangeRequest { key: name, range_end: Vec::new(), limit: 1, revision: 0 };
        let transaction = TxnRequest {
            compare: vec![target],
            success: vec![RequestOp { request: Some(request) }],
            failure: vec![RequestOp { request: Some(Request::Range(look)) }],
        };
        let answer = self.client.transaction(transaction).await.map_err(|status| failure(&status))?;
        let at = revision(answer.header.unwrap_or_default().revision);
        if answer.succeeded {
            self.echo(at).await?;
            return Ok(at);
        }
        let found = answer.responses.into_iter().find_map(|response| response.range?.kvs.into_iter().next());
        // Whoever tries again must see what stood in the way.
        self.echo(found.as_ref().map_or(0, |kv| revision(kv.mod_revision))).await?;
        Err(match (found, expected) {
            (None, _) => StoreError::NotFound,
            (Some(_), 0) => StoreError::Exists,
            (Some(_), _) => StoreError::Conflict,
        })
    }

    /// Waits until the cache has this revision.
    async fn echo(&self, at: Revision) -> Result<(), StoreError> {
        let late = |_| StoreError::Unavailable("etcd took the write but does not tell of it".to_owned());
        tokio::time::timeout(ECHO_TIMEOUT, self.wait_for(at)).await.map_err(late)
    }

    fn written(key: &str, at: Revision, draft: &Draft) -> Arc<Entry> {
        Arc::new(Entry::new(key.into(), at, draft.seal(at)))
    }
}

#[async_trait]
impl Store for Etcd {
    fn is_shared(&self) -> bool {
        true
    }

    fn cache(&self) -> &Cache {
        &self.cache
    }

    async fn create(&self, key: &str, draft: Draft) -> Result<Arc<Entry>, StoreError> {
        self.update(key, 0, draft).await
    }

    async fn update(&self, key: &str, expected: Revision, draft: Draft) -> Result<Arc<Entry>, StoreError> {
        let put = PutRequest { key: etcd_key(key), value: draft.seal_without_revision() };
        let at = self.write(key, expected, Request::Put(put)).await?;
        Ok(Self::written(key, at, &draft))
    }

    async fn delete(&self, key: &str, expected: Revision, last: Draft) -> Result<Arc<Entry>, StoreError> {
        let delete = DeleteRangeRequest { key: etcd_key(key) };
        let at = self.write(key, expected, Request::DeleteRange(delete)).await?;
        Ok(Self::written(key, at, &last))
    }

    fn is_open(&self) -> bool {
        !*self.closed.borrow()
    }

    fn close(&self) {
        self.closed.send_replace(true);
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.client.compact(signed(revision)).await.map_err(|status| failure(&status))?;
        self.cache.compact(revision);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
