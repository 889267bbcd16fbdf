//! One request to one endpoint, until it has an answer: authentication, redirects, and patience with what passes.

use crate::error::{Error, ErrorKind, Result};
use crate::registry::auth::Authenticator;
use crate::registry::challenge;
use crate::registry::hosts::{Endpoint, TlsSettings};
use crate::registry::retry::{Attempts, Patience};
use crate::registry::transport::{Body, Transport};
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

const MAX_REDIRECTS: usize = 10;
const MAX_ERROR_BODY: u64 = 64 << 10;
const USER_AGENT: &str = concat!("knarr/", env!("CARGO_PKG_VERSION"));

/// What to ask.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) method: Method,
    /// A path beneath the endpoint's base, or a whole URL that the registry handed out.
    pub(crate) target: String,
    /// `repository:NAME:pull`.
    pub(crate) scope: &'a str,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) attempts: Attempting,
}

/// How often it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempting {
    /// Again and again, while that may help.
    Patiently,
    /// Somebody else can be asked instead.
    Once,
    /// The body is a blob: no deadline for the answer's head, and no second attempt here.
    Uploading,
}

/// Sends requests on somebody's behalf.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) transport: Arc<Transport>,
    pub(crate) auth: Authenticator,
}

/// What an attempt led to.
enum Outcome {
    Answer(Response<Incoming>),
    /// The registry wants to know who we are.
    Challenge(Response<Incoming>),
}

impl Exchange {
    /// Asks, and answers any successful response.
    pub(crate) async fn call(
        &self,
        call: &Call<'_>,
        body: &(dyn Fn() -> Body + Sync),
    ) -> Result<Response<Incoming>> {
        let mut attempts = Attempts::new(self.transport.patience());
        loop {
            match self.attempt(call, body).await {
                Ok(response) => return Ok(response),
                Err((error, _)) if call.attempts != Attempting::Patiently => return Err(error),
                Err((error, asked)) => attempts.again(error, asked).await?,
            }
        }
    }

    /// Once, with authentication where it is asked for. The error may carry how long the registry wants us to wait.
    async fn attempt(
        &self,
        call: &Call<'_>,
        body: &(dyn Fn() -> Body + Sync),
    ) -> std::result::Result<Response<Incoming>, (Error, Option<Duration>)> {
        let now = |error| (error, None);
        let known = self.auth.known(call.endpoint, call.scope);
        let challenged = match self.follow(call, body, known).await.map_err(now)? {
            Outcome::Answer(response) => return self.judge(response).await,
            Outcome::Challenge(response) => response,
        };
        self.auth.refused(call.endpoint, call.scope);
        let challenges: Vec<_> = challenged
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let obtained = self.auth.obtain(&self.transport, call.endpoint, call.scope, &challenges).await;
        let proof = obtained.map_err(now)?;
        match self.follow(call, body, Some(proof)).await.map_err(now)? {
            Outcome::Answer(response) => self.judge(response).await,
            Outcome::Challenge(response) => {
                self.auth.refused(call.endpoint, call.scope);
                self.judge(response).await
            }
        }
    }

    /// Follows redirects. Credentials and extra headers go only to the endpoint itself: what it redirects to (often
    /// a storage service of somebody else) gets neither.
    async fn follow(
        &self,
        call: &Call<'_>,
        body: &(dyn Fn() -> Body + Sync),
        proof: Option<HeaderValue>,
    ) -> Result<Outcome> {
        let base: Uri = call.endpoint.base.parse().map_err(|e| bad_url(&call.endpoint.base, e))?;
        let mut target = absolute(&call.endpoint.base, &call.target)?;
        for _ in 0..=MAX_REDIRECTS {
            let at_home = origin(&target) == origin(&base);
            let request = request(call, &target, body(), proof.as_ref().filter(|_| at_home), at_home)?;
            let tls = if at_home { call.endpoint.tls.clone() } else { TlsSettings::default() };
            let response = self.transport.send(&tls, request, call.attempts == Attempting::Uploading).await?;
            match response.status() {
                StatusCode::UNAUTHORIZED if at_home => return Ok(Outcome::Challenge(response)),
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => target = redirected(&target, &response)?,
                _ => return Ok(Outcome::Answer(response)),
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("{}: too many redirects", call.endpoint.base)))
    }

    /// Success, or an error in the registry's own words.
    async fn judge(
        &self,
        response: Response<Incoming>,
    ) -> std::result::Result<Response<Incoming>, (Error, Option<Duration>)> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let asked =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let kind = match status {
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::Unauthorized,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => ErrorKind::Unavailable,
            status if status.is_server_error() => ErrorKind::Unavailable,
            StatusCode::RANGE_NOT_SATISFIABLE => ErrorKind::Mismatch,
            _ => ErrorKind::Invalid,
        };
        // The status alone must do where the body cannot be read.
        let body = read_all(response.into_body(), MAX_ERROR_BODY, &self.transport.patience()).await;
        let words = body.ok().and_then(|body| words(&body)).unwrap_or_else(|| status.to_string());
        Err((Error::new(kind, words).with_status(status.as_u16()), asked.map(Duration::from_secs)))
    }
}

fn bad_url(url: &str, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("registry: invalid URL {url:?}: {error}"))
}

fn absolute(base: &str, target: &str) -> Result<Uri> {
    let text = if target.contains("://") { target.to_owned() } else { format!("{base}{target}") };
    text.parse().map_err(|e| bad_url(&text, e))
}

/// Scheme, host and port.
pub(crate) fn origin(uri: &Uri) -> Option<String> {
    let scheme = uri.scheme_str()?;
    let default = if scheme == "https" { 443 } else { 80 };
    Some(format!("{scheme}://{}:{}", uri.host()?, uri.port_u16().unwrap_or(default)))
}

fn request(
    call: &Call<'_>,
    target: &Uri,
    body: Body,
    proof: Option<&HeaderValue>,
    at_home: bool,
) -> Result<Request<Body>> {
    let mut request = Request::builder().method(call.method.clone()).uri(target.clone());
    request = request.header(header::USER_AGENT, USER_AGENT);
    for (name, value) in &call.headers {
        request = request.header(name, value);
    }
    if at_home {
        for (name, value) in &call.endpoint.headers {
            request = request.header(name, value);
        }
    }
    if let Some(proof) = proof {
        request = request.header(header::AUTHORIZATION, proof);
    }
    request.body(body).map_err(|e| bad_url(&call.target, e))
}

/// Where a response points to. Out of TLS is no way.
pub(crate) fn redirected(from: &Uri, response: &Response<Incoming>) -> Result<Uri> {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| bad_url("", "no Location in the registry's answer"))?;
    resolve(from, location)
}

fn resolve(from: &Uri, location: &str) -> Result<Uri> {
    let origin = format!(
        "{}://{}",
        from.scheme_str().unwrap_or("https"),
        from.authority().map(ToString::to_string).unwrap_or_default()
    );
    let text = if location.contains("://") {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{}://{rest}", from.scheme_str().unwrap_or("https"))
    } else if location.starts_with('/') {
        format!("{origin}{location}")
    } else {
        let directory = from.path().rsplit_once('/').map_or("", |(directory, _)| directory);
        format!("{origin}{directory}/{location}")
    };
    let to: Uri = text.parse().map_err(|e| bad_url(&text, e))?;
    match (from.scheme_str(), to.scheme_str()) {
        (Some("https"), Some("https")) | (Some("http"), Some("http" | "https")) => Ok(to),
        _ => Err(bad_url(&text, "redirect away from TLS")),
    }
}

/// Reads a small body, and no more of it than `limit`.
pub(crate) async fn read_all(mut body: Incoming, limit: u64, patience: &Patience) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    let read = async {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Error::new(ErrorKind::Unavailable, format!("registry: {e}")))?;
            if let Ok(data) = frame.into_data() {
                if (bytes.len() + data.len()) as u64 > limit {
                    return Err(Error::invalid(format!("registry: answer is larger than {limit} bytes")));
                }
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes.freeze())
    };
    let late = |_| Error::new(ErrorKind::Unavailable, "registry: the answer stalls");
    tokio::time::timeout(patience.window, read).await.map_err(late)?
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// The distribution spec's error body, shortened.
fn words(body: &[u8]) -> Option<String> {
    let errors: Errors = serde_json::from_slice(body).ok()?;
    let texts: Vec<String> = errors
        .errors
        .iter()
        .take(3)
        .map(|error| {
            format!("{}: {}", error.code.to_lowercase(), error.message.chars().take(200).collect::<String>())
        })
        .collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_and_never_leave_tls() {
        let from: Uri = "https://r.io/v2/a/blobs/x".parse().unwrap();
        let cases = [
            ("https://cdn.io/x", Some("https://cdn.io/x")),
            ("/y", Some("https://r.io/y")),
            ("//cdn.io/x", Some("https://cdn.io/x")),
            ("z", Some("https://r.io/v2/a/blobs/z")),
            ("http://cdn.io/x", None),
            ("file:///etc/passwd", None),
        ];
        for (location, expected) in cases {
            assert_eq!(
                resolve(&from, location).ok().map(|uri| uri.to_string()).as_deref(),
                expected,
                "{location}"
            );
        }
        let plain: Uri = "http://127.0.0.1:1/a".parse().unwrap();
        assert!(resolve(&plain, "http://127.0.0.1:2/b").is_ok());
    }

    #[test]
    fn origins_know_default_ports() {
        let of = |text: &str| origin(&text.parse().unwrap());
        assert_eq!(of("https://r.io/a"), of("https://r.io:443/b"));
        assert_ne!(of("https://r.io/a"), of("http://r.io/a"));
        assert_ne!(of("https://r.io/a"), of("https://r.io:444/a"));
    }
}
