//! WATCH: the changes of a resource after a revision, as a stream of JSON lines, until the client leaves, the time is
//! over or its position has left the history (an ERROR event with code 410). Or as a stream of protobuf messages, each
//! with its length before it.
//!
//! An object that comes to fit the selectors is ADDED for this watcher, one that ceases to is DELETED.

use super::super::answer::{self, Answer};
use super::super::negotiate::{Encoding, Shape};
use super::super::selection::Selection;
use super::super::websocket::{self, Framing};
use super::super::{BoxError, Call, Server, stored};
use crate::protobuf::answers;
use crate::random;
use crate::store::{Draft, Entry, Event, EventKind, ListQuery, Revision, Watch, write_frame};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use knarr_api::Status;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A watch without `timeoutSeconds` ends after a random time between this and twice this, so that not all of them
/// come back at once.
const MIN_SECONDS: u64 = 1800;
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// Before a watch is refused because the server stops.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// Everything one watcher needs between two pieces of its answer.
struct Watcher {
    server: Arc<Server>,
    call: Call,
    selection: Selection,
    encoding: Encoding,
    shape: Shape,
    watch: Watch,
    /// What is there at the beginning and not yet sent.
    initial: VecDeque<Arc<Entry>>,
    /// After the last of them a bookmark must say so.
    announce_end: bool,
    start: Revision,
    deadline: Instant,
    next_bookmark: Instant,
    bookmarks: bool,
    /// Column definitions go with the first Table only.
    defined: bool,
    over: bool,
}

pub(super) async fn run(server: Arc<Server>, call: Call, upgrade: OnUpgrade) -> Result<Answer, Status> {
    if !websocket::is_asked(&call.headers) {
        return events(server, call).await;
    }
    let encoding = call.accept.get(&call.resource)?.0;
    let framing = if encoding == Encoding::Protobuf { Framing::Lengths } else { Framing::Lines };
    let agreed = websocket::for_events(&call.headers, framing)?;
    websocket::tell(agreed, events(server, call).await?.into_body(), upgrade)
}

async fn events(server: Arc<Server>, call: Call) -> Result<Answer, Status> {
    let encoding = call.accept.get(&call.resource).map_or(Encoding::Json, |(encoding, _)| encoding);
    let content_type = match encoding {
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Encoding::Json | Encoding::Yaml => "application/json",
    };
    let watcher = match start(server, call).await {
        // The client learns from a stream that its revision is too old: that is where it looks.
        Err(status) if status.code == 410 => {
            let body = answer::full(error_event(encoding, &status));
            return Ok(answer::with_type(200, content_type, body));
        }
        other => other?,
    };
    let lines = futures_util::stream::unfold(watcher, |mut watcher| async move {
        let lines = watcher.next().await?;
        Some((Ok::<Bytes, BoxError>(lines), watcher))
    });
    Ok(answer::with_type(200, content_type, answer::stream(lines)))
}

fn error_event(encoding: Encoding, status: &Status) -> Bytes {
    encoded(encoding, "ERROR", &status.to_value())
}

/// An event about something that is not stored like this.
fn encoded(encoding: Encoding, kind: &str, object: &Value) -> Bytes {
    if encoding == Encoding::Protobuf
        && let Some(event) = answers::event(kind, object)
    {
        return event.into();
    }
    let mut line = json!({"type": kind, "object": object}).to_string();
    line.push('\n');
    line.into()
}

/// A client in this process whose watch has ended with the server would ask again at once, and never let its thread go.
async fn refuse_at_the_end(server: &Server) -> Result<(), Status> {
    let mut shutdown = server.shutdown.clone();
    tokio::select! {
        biased;
        () = super::super::stopped(&mut shutdown) => {}
        () = std::future::ready(()) => return Ok(()),
    }
    tokio::time::sleep(LAST_PAUSE).await;
    Err(Status::unavailable("the server is shutting down"))
}

async fn start(server: Arc<Server>, mut call: Call) -> Result<Watcher, Status> {
    refuse_at_the_end(&server).await?;
    let (encoding, shape) = call.accept.get(&call.resource)?;
    if encoding == Encoding::Yaml {
        return Err(Status::not_acceptable());
    }
    // A watch of one object is a watch of its resource with a selector.
    if let Some(name) = call.path.name.take() {
        let raw = format!(
            "{}&fieldSelector=metadata.name%3D{}",
            call.query.raw,
            super::super::query::percent_encode(&name)
        );
        call.query = super::super::query::Query::parse(&raw);
    }
    let selection = Selection::of(&call)?;
    let seconds = call.query.number::<i64>("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let seconds = seconds.unwrap_or_else(|| MIN_SECONDS + random::below(MIN_SECONDS));
    let prefix = selection.prefix(&call);
    let indexed = selection.indexed(&prefix);
    let query = ListQuery { prefix: &prefix, indexed, ..ListQuery::default() };
    let (initial, from) = begin(&server, &call, query).await?;
    let watch = match indexed {
        Some(value) => server.store.watch_where(&prefix, value, from),
        None => server.store.watch(&prefix, from),
    };
    let watch = watch.map_err(|error| stored::refusal(&call.resource, "", error))?;
    Ok(Watcher {
        announce_end: call.query.flag("sendInitialEvents"),
        bookmarks: call.query.flag("allowWatchBookmarks"),
        deadline: Instant::now() + Duration::from_secs(seconds),
        next_bookmark: Instant::now() + BOOKMARK_INTERVAL,
        initial: initial.into_iter().filter(|entry| selection.matches(&call.resource, entry)).collect(),
        server,
        call,
        selection,
        encoding,
        shape,
        watch,
        start: from,
        defined: false,
        over: false,
    })
}

/// The present objects, where the client wants them first, and the revision after which its changes begin.
async fn begin(
    server: &Server,
    call: &Call,
    query: ListQuery<'_>,
) -> Result<(Vec<Arc<Entry>>, Revision), Status> {
    let wanted = super::list::revision(call)?;
    let replay = match wanted {
        None | Some(0) => {
            call.query.get("sendInitialEvents").is_none() || call.query.flag("sendInitialEvents")
        }
        Some(_) => call.query.flag("sendInitialEvents"),
    };
    super::list::reach(server, call).await?;
    if !replay {
        let from = wanted.filter(|revision| *revision > 0).unwrap_or_else(|| server.store.revision());
        return Ok((Vec::new(), from));
    }
    let page = server.store.list(query).await.map_err(|error| stored::refusal(&call.resource, "", error))?;
    Ok((server.entries_in_version(&call.resource, page.entries).await?, page.revision))
}

impl Watcher {
    /// The next lines, at least one; `None` when the watch is over.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !self.initial.is_empty() || self.announce_end {
            return Some(self.next_initial());
        }
        loop {
            let mut shutdown = self.server.shutdown.clone();
            tokio::select! {
                events = self.watch.next() => match events {
                    Ok(events) => {
                        let resource = &self.call.resource;
                        let lines = match self.server.events_in_version(resource, events).await {
                            Ok(events) => self.lines(&events),
                            Err(status) => self.fail(&status),
                        };
                        if !lines.is_empty() {
                            return Some(lines);
                        }
                    }
                    Err(error) => {
                        let status = stored::refusal(&self.call.resource, "", error);
                        return Some(self.fail(&status));
                    }
                },
                () = tokio::time::sleep_until(self.next_bookmark), if self.bookmarks => {
                    self.next_bookmark = Instant::now() + BOOKMARK_INTERVAL;
                    if let Some(revision) = self.watch.progress() {
                        return Some(self.bookmark(revision, false));
                    }
                }
                () = tokio::time::sleep_until(self.deadline) => return self.last().await,
                () = super::super::stopped(&mut shutdown) => return None,
            }
        }
    }

    /// At the end of its time: a watcher that got no turn before is still told what was there.
    async fn last(&mut self) -> Option<Bytes> {
        self.over = true;
        let events = self.watch.take().ok()?;
        let events = self.server.events_in_version(&self.call.resource, events).await.ok()?;
        Some(self.lines(&events)).filter(|lines| !lines.is_empty())
    }

    /// The last event of this watch.
    fn fail(&mut self, status: &Status) -> Bytes {
        self.over = true;
        error_event(self.encoding, status)
    }

    fn next_initial(&mut self) -> Bytes {
        let mut lines = Vec::new();
        while let Some(entry) = self.initial.pop_front() {
            self.tell(&mut lines, EventKind::Added, &entry, None);
            if lines.len() > (64 << 10) {
                return lines.into();
            }
        }
        if std::mem::take(&mut self.announce_end) {
            lines.extend_from_slice(&self.bookmark(self.start, true));
        }
        lines.into()
    }

    fn lines(&mut self, events: &[Arc<Event>]) -> Bytes {
        let mut lines = Vec::new();
        for event in events {
            match self.seen_as(event) {
                Some(kind) if kind == event.kind => {
                    self.tell(&mut lines, kind, &event.entry, Some(event));
                }
                // It left the selection: the watcher gets the state it knows, at the revision of the change.
                Some(EventKind::Deleted) => {
                    let known = event.previous.as_ref().map(|entry| entry.object()).unwrap_or_default();
                    let value = Draft::of(&known).seal(event.revision());
                    let entry = Entry::new(event.entry.key.clone(), event.revision(), value);
                    self.tell(&mut lines, EventKind::Deleted, &entry, None);
                }
                Some(kind) => self.tell(&mut lines, kind, &event.entry, None),
                None => {}
            }
        }
        lines.into()
    }

    /// What an event is for this watcher, if it is anything.
    fn seen_as(&self, event: &Event) -> Option<EventKind> {
        if self.selection.is_everything() {
            return Some(event.kind);
        }
        let matches = |entry: &Arc<Entry>| self.selection.matches(&self.call.resource, entry);
        let before = event.previous.as_ref().is_some_and(matches);
        let after = event.kind != EventKind::Deleted && matches(&event.entry);
        match (before, after) {
            (false, true) => Some(EventKind::Added),
            (true, true) => Some(EventKind::Modified),
            (true, false) => Some(EventKind::Deleted),
            (false, false) => None,
        }
    }

    /// Appends one line in the shape the client wants. `event` is given where its own encoding can be used.
    fn tell(&mut self, lines: &mut Vec<u8>, kind: EventKind, entry: &Entry, event: Option<&Event>) {
        let resource = self.call.resource.clone();
        let as_stored = resource.stored_as.is_none() || resource.custom.is_some();
        let shared = event.filter(|_| as_stored);
        match (self.encoding, self.shape, shared) {
            (Encoding::Json, Shape::Metadata(partial), _) if as_stored => {
                let head = answer::metadata_head(partial.version);
                let metadata = entry.metadata().unwrap_or(b"{}");
                write_frame(lines, kind, &[head.as_bytes(), metadata, b"}"]);
            }
            (Encoding::Protobuf, Shape::Object, Some(event)) => {
                lines.extend_from_slice(&event.message(answers::event));
            }
            (Encoding::Json | Encoding::Yaml, Shape::Object, Some(_)) if self.call.omits_owners => {
                let (head, tail) = entry.without_owners();
                write_frame(lines, kind, &[head, tail]);
            }
            (Encoding::Json | Encoding::Yaml, Shape::Object, Some(_)) => {
                write_frame(lines, kind, &[&entry.value])
            }
            (Encoding::Json | Encoding::Yaml, Shape::Object, None) => {
                write_frame(lines, kind, &[&stored::encoded(&resource, entry)])
            }
            _ => {
                let object = self.shape_of(stored::decode(&resource, entry));
                lines.extend_from_slice(&encoded(self.encoding, kind.as_str(), &object));
            }
        }
    }

    fn shape_of(&mut self, object: Value) -> Value {
        let mut shaped = answer::shaped(&self.call, self.shape, object).unwrap_or_default();
        if matches!(self.shape, Shape::Table(_)) && std::mem::replace(&mut self.defined, true) {
            shaped["columnDefinitions"] = json!([]);
        }
        shaped
    }

    /// An object that says nothing but how far this watcher has come.
    fn bookmark(&mut self, revision: Revision, initial_end: bool) -> Bytes {
        let resource = &self.call.resource;
        let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let object = match self.shape {
            Shape::Table(version) => super::super::table::table(
                resource,
                version,
                metadata,
                Vec::new(),
                !std::mem::replace(&mut self.defined, true),
            ),
            Shape::Metadata(partial) => {
                answer::metadata_only(&json!({"metadata": metadata}), partial.version)
            }
            Shape::Object => {
                json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata})
            }
        };
        encoded(self.encoding, "BOOKMARK", &object)
    }
}
