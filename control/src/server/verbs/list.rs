//! LIST: the objects of a resource at one revision, whole or in pages. The answer is put together from the stored
//! bytes while it is sent, so a long list needs no memory of its own.

use super::super::answer::{self, Answer};
use super::super::negotiate::{Encoding, Partial, Shape};
use super::super::query::go_words;
use super::super::selection::Selection;
use super::super::{BoxError, Call, Server, compress, go_json, stored, table};
use crate::protobuf::answers;
use crate::registry::Resource;
use crate::store::{Entry, ListQuery, Page, Revision, StoreError};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use knarr_api::Status;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// How long a client that knows a newer revision than we do is made to wait.
const REVISION_TIMEOUT: Duration = Duration::from_secs(3);
/// Pieces of a long answer, bytes.
const CHUNK: usize = 64 << 10;

/// What the next page may be instead of what it was to be.
const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Where the next page begins. Opaque to clients.
#[derive(Debug, Serialize, Deserialize)]
struct Continue {
    v: u8,
    /// Every page shows the state at this revision. Without one each shows what is there when it is asked for.
    rv: Option<Revision>,
    /// The last key of the page before.
    after: String,
    /// How many follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<usize>,
}

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let selection = Selection::of(call)?;
    let shape = shape(call)?;
    let (entries, metadata) = select(server, call, &selection).await?;
    answer(call, shape, entries, metadata)
}

/// How the client wants a list; metadata of one object is none.
pub(super) fn shape(call: &Call) -> Result<(Encoding, Shape), Status> {
    let (encoding, shape) = call.accept.get(&call.resource)?;
    if let Shape::Metadata(Partial { list: false, .. }) = shape {
        let kind = format!("{}List", call.resource.kind);
        return Err(Status::unfit_for(format!(
            "you requested PartialObjectMetadata, but the requested object is a list ({})",
            go_json::type_of(&call.resource.group, &kind)
        )));
    }
    Ok((encoding, shape))
}

/// A list of these entries.
pub(super) fn answer(
    call: &Call,
    (encoding, shape): (Encoding, Shape),
    entries: Vec<Arc<Entry>>,
    metadata: Value,
) -> Result<Answer, Status> {
    let resource = &call.resource;
    let (kind, api_version) = match shape {
        Shape::Object => (format!("{}List", resource.kind), resource.api_version()),
        Shape::Metadata(partial) => {
            ("PartialObjectMetadataList".to_owned(), format!("meta.k8s.io/{}", partial.version))
        }
        Shape::Table(version) => {
            let include = table::Include::from_query(&call.query)?;
            let row = |entry: &Arc<Entry>| table::row(resource, stored::decode(resource, entry), include);
            let rows = entries.iter().map(row).collect();
            return Ok(answer::value(200, encoding, &table::table(resource, version, metadata, rows, true)));
        }
    };
    let item = |entry: &Arc<Entry>| match shape {
        Shape::Metadata(partial) => answer::metadata_only(&entry.object(), partial.version),
        _ => stored::decode(resource, entry),
    };
    match (encoding, shape) {
        (Encoding::Json, Shape::Object) => Ok(stream(call, entries, &metadata)),
        (Encoding::Protobuf, _) => {
            let items: Vec<Vec<u8>> = entries.iter().map(|entry| answers::item(&item(entry))).collect();
            let list = answers::list(&api_version, &kind, &metadata, &items);
            Ok(answer::with_type(200, answer::PROTOBUF, answer::full(list)))
        }
        _ => {
            let items: Vec<Value> = entries.iter().map(item).collect();
            let list = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items});
            Ok(answer::value(200, encoding, &list))
        }
    }
}

/// The entries that a list request wants, and the metadata of the list.
pub(super) async fn select(
    server: &Server,
    call: &Call,
    selection: &Selection,
) -> Result<(Vec<Arc<Entry>>, Value), Status> {
    let revision = match call.query.get("continue") {
        None => wait_for_revision(server, call).await?,
        Some(_) => None,
    };
    let limit = call.query.number::<i64>("limit")?.filter(|limit| *limit > 0);
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    let prefix = selection.prefix(call);
    let (after, revision, left) = match call.query.get("continue") {
        None => (None, revision, None),
        Some(token) => {
            let token = read_token(token)?;
            if !matches!(call.query.get("resourceVersion"), None | Some("0")) {
                let why = "specifying resource version is not allowed when using continue";
                return Err(Status::bad_request(why));
            }
            let after = Some(token.after).filter(|after| after.starts_with(&prefix));
            let left = token.left.filter(|_| after.is_some());
            (after, token.rv, left)
        }
    };
    // With a selector the limit counts what it lets through, so the store cannot apply it.
    let at_store = limit.filter(|_| selection.is_everything());
    let indexed = selection.indexed(&prefix);
    let query =
        ListQuery { prefix: &prefix, after: after.as_deref(), limit: at_store, left, revision, indexed };
    let page = match server.computed(call).await? {
        Some(entries) => Page { entries, revision: server.store.revision(), remaining: 0 },
        None => server.store.list(query).await.map_err(|error| expired(call, after.as_deref(), error))?,
    };
    let entries = server.entries_in_version(&call.resource, page.entries).await?;
    let page = Page { entries, ..page };
    Ok(cut(call, page, limit, selection))
}

fn cut(call: &Call, page: Page, limit: Option<usize>, selection: &Selection) -> (Vec<Arc<Entry>>, Value) {
    let mut metadata = json!({"resourceVersion": page.revision.to_string()});
    let everything = selection.is_everything();
    let mut wanted =
        page.entries.into_iter().filter(|entry| everything || selection.matches(&call.resource, entry));
    let entries: Vec<Arc<Entry>> = wanted.by_ref().take(limit.unwrap_or(usize::MAX)).collect();
    let more = page.remaining > 0 || wanted.next().is_some();
    if let Some(last) = entries.last().filter(|_| more) {
        let left = Some(page.remaining).filter(|left| everything && *left > 0);
        metadata["continue"] = write_token(Some(page.revision), last.key.to_string(), left).into();
        if everything {
            metadata["remainingItemCount"] = page.remaining.into();
        }
    }
    (entries, metadata)
}

fn write_token(rv: Option<Revision>, after: String, left: Option<usize>) -> String {
    let text = serde_json::to_vec(&Continue { v: 1, rv, after, left }).unwrap_or_default();
    URL_SAFE_NO_PAD.encode(text)
}

fn read_token(token: &str) -> Result<Continue, Status> {
    let fault = |why: String| {
        Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
    };
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|error| fault(foreign_byte(&error)))?;
    serde_json::from_slice(&bytes).map_err(|error| fault(go_json::fault(&bytes, &error)))
}

/// Where a text is not one of 64 letters any more, as Go says it.
fn foreign_byte(error: &base64::DecodeError) -> String {
    let at = match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => *at,
        base64::DecodeError::InvalidLength(length) => length.saturating_sub(1),
        base64::DecodeError::InvalidPadding => 0,
    };
    format!("illegal base64 data at input byte {at}")
}

/// A list whose revision is gone. Who pages may go on from where it was, if need be without a consistent view.
fn expired(call: &Call, after: Option<&str>, error: StoreError) -> Status {
    match (error, after) {
        (StoreError::Compacted { .. }, None) => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        (StoreError::Compacted { .. }, Some(after)) => {
            let mut status = Status::expired(INCONSISTENT);
            status.go_on = Some(write_token(None, after.to_owned(), None));
            status
        }
        (other, _) => stored::refusal(&call.resource, "", other),
    }
}

/// Waits until the store is as new as the client demands; gives the revision that the list must show, if it must show
/// a certain one.
async fn wait_for_revision(server: &Server, call: &Call) -> Result<Option<Revision>, Status> {
    let exact = match call.query.get("resourceVersionMatch") {
        Some(wanted) => wanted == "Exact",
        None => call.query.get("limit").is_some() && call.query.get("continue").is_none(),
    };
    let reached = reach(server, call).await.map_err(|mut status| {
        if status.code == 400 {
            status.message = format!("invalid resource version: {}", status.message);
        }
        status
    })?;
    Ok(reached.filter(|_| exact))
}

/// Waits for the `resourceVersion` of the query; gives it.
pub(super) async fn reach(server: &Server, call: &Call) -> Result<Option<Revision>, Status> {
    let Some(wanted) = revision(call)?.filter(|wanted| *wanted > 0) else { return Ok(None) };
    if tokio::time::timeout(REVISION_TIMEOUT, server.store.wait_for(wanted)).await.is_err() {
        let error = StoreError::Future { wanted, current: server.store.revision() };
        return Err(stored::refusal(&call.resource, "", error));
    }
    Ok(Some(wanted))
}

/// The `resourceVersion` of the query.
pub(super) fn revision(call: &Call) -> Result<Option<Revision>, Status> {
    let parse = |text: &str| {
        text.parse().map_err(|error| {
            let words = go_words(&error);
            Status::bad_request(format!(
                "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {words}"
            ))
        })
    };
    call.query.get("resourceVersion").map(parse).transpose()
}

/// `{"kind":...,"items":[` one entry after the other `]}` and the end of the line, in pieces of about 64 KiB.
fn stream(call: &Call, entries: Vec<Arc<Entry>>, metadata: &Value) -> Answer {
    let resource = call.resource.clone();
    let head = format!(
        r#"{{"kind":"{}List","apiVersion":"{}","metadata":{metadata},"items":["#,
        resource.kind,
        resource.api_version()
    );
    let pieces = Pieces {
        resource,
        entries: entries.into_iter(),
        pending: head.into_bytes(),
        first: true,
        done: false,
        omits_owners: call.omits_owners && call.resource.stored_as.is_none(),
    };
    let mut pieces = pieces.peekable();
    let Some(first) = pieces.next() else { return answer::json_bytes(200, Bytes::new()) };
    if pieces.peek().is_none() {
        return answer::json_bytes(200, first);
    }
    let all = std::iter::once(first).chain(pieces).map(Ok::<Bytes, BoxError>);
    let mut answer =
        answer::with_type(200, "application/json", answer::stream(futures_util::stream::iter(all)));
    answer.extensions_mut().insert(compress::Compressible);
    answer
}

struct Pieces {
    resource: Arc<Resource>,
    entries: std::vec::IntoIter<Arc<Entry>>,
    pending: Vec<u8>,
    first: bool,
    done: bool,
    omits_owners: bool,
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.done {
            return None;
        }
        while self.pending.len() < CHUNK {
            let Some(entry) = self.entries.next() else {
                self.pending.extend_from_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                self.pending.push(b',');
            }
            if self.omits_owners {
                let (head, tail) = entry.without_owners();
                self.pending.extend_from_slice(head);
                self.pending.extend_from_slice(tail);
            } else {
                self.pending.extend_from_slice(&stored::encoded(&self.resource, &entry));
            }
        }
        Some(std::mem::take(&mut self.pending).into())
    }
}
