//! A file behind a URL, for an import and for ADD. Who serves it is asked as a registry is: with patience, through
//! proxies, and never out of TLS.
//!
//! What must hold: who serves it decides neither how long we wait, nor how much is written, nor who else is told the
//! credentials.

use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::layer::limits::{Limits, check_free_space};
use crate::registry::auth::Authenticator;
use crate::registry::download::body_stream;
use crate::registry::exchange::{Attempting, Call, Exchange, origin};
use crate::registry::hosts::{Endpoint, TlsSettings};
use crate::registry::retry::Attempts;
use crate::registry::transport::{Transport, full};
use crate::store::parts::Parts;
use base64::Engine;
use futures_util::StreamExt;
use http::header::{ETAG, LAST_MODIFIED};
use http::{HeaderName, Method, Response, Uri};
use hyper::body::Incoming;
use std::sync::Arc;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) url: String,
    /// What the host is told of us; those that it redirects to are not.
    pub(crate) authorization: Option<String>,
    /// More bytes are an error.
    pub(crate) limit: u64,
}

impl Wanted {
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), authorization: None, limit: Limits::default().bytes }
    }

    /// The URL as others may read it.
    pub(crate) fn shown(&self) -> String {
        match split_user(&self.url) {
            Some((_, open)) => open,
            None => self.url.clone(),
        }
    }
}

/// A file that was fetched; it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct WebFile {
    pub(crate) file: NamedTempFile,
    pub(crate) digest: Digest,
    /// What its server calls this version of it.
    pub(crate) tag: Option<String>,
    /// Seconds since 1970.
    pub(crate) modified: Option<i64>,
}

/// Fetches all of it. A transfer that breaks begins again.
pub(crate) async fn fetch(parts: &Parts, transport: &Arc<Transport>, wanted: &Wanted) -> Result<WebFile> {
    let mut attempts = Attempts::new(transport.patience());
    loop {
        match attempt(parts, transport, wanted).await {
            Ok(file) => return Ok(file),
            Err(error) => attempts.again(error.context(wanted.shown()), None).await?,
        }
    }
}

async fn attempt(parts: &Parts, transport: &Arc<Transport>, wanted: &Wanted) -> Result<WebFile> {
    let response = ask(transport, wanted, Method::GET).await?;
    let (tag, modified) = (tag_in(&response), header(&response, &LAST_MODIFIED).and_then(seconds));
    let file = parts.temporary_file()?;
    let digest = receive(response.into_body(), transport, wanted.limit, &file).await?;
    Ok(WebFile { file, digest, tag, modified })
}

async fn receive(
    body: Incoming,
    transport: &Arc<Transport>,
    limit: u64,
    file: &NamedTempFile,
) -> Result<Digest> {
    let failed = |e| Error::path("write", file.path(), e);
    let mut writer = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
    let mut body = body_stream(body, 0, transport.patience());
    let (mut hasher, mut received) = (Hasher::default(), 0);
    while let Some(piece) = body.next().await {
        let piece = piece?;
        received += piece.len() as u64;
        if received > limit {
            return Err(Error::invalid(format!("larger than {limit} bytes")));
        }
        check_free_space(file.as_file())?;
        hasher.update(&piece);
        writer.write_all(&piece).await.map_err(failed)?;
    }
    writer.flush().await.map_err(failed)?;
    Ok(hasher.finish())
}

/// What its server calls the version that it has now; nothing where it does not say.
pub(crate) async fn tag(transport: &Arc<Transport>, wanted: &Wanted) -> Option<String> {
    ask(transport, wanted, Method::HEAD).await.ok().and_then(|response| tag_in(&response))
}

async fn ask(transport: &Arc<Transport>, wanted: &Wanted, method: Method) -> Result<Response<Incoming>> {
    let exchange = Exchange { transport: transport.clone(), auth: Authenticator::new(None) };
    let (endpoint, target) = server_of(wanted)?;
    let call = Call {
        endpoint: &endpoint,
        method,
        target,
        scope: "",
        headers: Vec::new(),
        attempts: Attempting::Once,
    };
    exchange.call(&call, &|| full("")).await.map_err(|error| match error.status() {
        Some(status) => Error::new(error.kind(), format!("invalid response status {status}")),
        None => error,
    })
}

fn header(response: &Response<Incoming>, name: &HeaderName) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// Whether a tag is a weak one makes no difference to who compares.
fn tag_in(response: &Response<Incoming>) -> Option<String> {
    let tag = header(response, &ETAG)?;
    Some(tag.strip_prefix("W/").unwrap_or(&tag).to_owned()).filter(|tag| !tag.is_empty())
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn seconds(date: String) -> Option<i64> {
    let parser = jiff::fmt::rfc2822::DateTimeParser::new();
    parser.parse_timestamp(date).ok().map(|time| time.as_second())
}

/// The host of a URL as somebody to be asked, and for what.
fn server_of(wanted: &Wanted) -> Result<(Endpoint, String)> {
    let (user, url) = match split_user(&wanted.url) {
        Some((user, open)) => (Some(user), open),
        None => (None, wanted.url.clone()),
    };
    let wrong = || Error::invalid("invalid URL");
    let target = escaped(&url);
    let base = origin(&target.parse::<Uri>().map_err(|_| wrong())?).ok_or_else(wrong)?;
    let proof = wanted.authorization.clone().or(user.map(|user| basic(&user)));
    let endpoint = Endpoint {
        base,
        pull: true,
        resolve: false,
        push: false,
        tls: TlsSettings::default(),
        headers: proof.map(|proof| ("Authorization".to_owned(), proof)).into_iter().collect(),
        mirror: false,
    };
    Ok((endpoint, target))
}

/// The header `Authorization` of a user who stands in a URL, with a password or without.
pub(crate) fn basic(user: &str) -> String {
    let colon = if user.contains(':') { "" } else { ":" };
    let user = percent_decode(&format!("{user}{colon}"));
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(user))
}

/// `http://user:password@host/`: the user, and the URL without him.
pub(crate) fn split_user(url: &str) -> Option<(String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (user, host) = authority.rsplit_once('@')?;
    Some((user.to_owned(), format!("{scheme}://{host}{path}")))
}

/// What people write into URLs and no URL may have.
fn escaped(url: &str) -> String {
    let mut escaped = String::with_capacity(url.len());
    for byte in url.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                escaped.push_str(&format!("%{byte:02X}"));
            }
            0x21..=0x7e => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

/// What is no escape stays as it is.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests;
