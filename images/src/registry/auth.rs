//! Answers a registry's challenge: basic credentials, or a token fetched with them and kept until it expires.
//!
//! Credentials go to the registry and to the token server that the registry names, and a registry that is reached
//! by TLS cannot name one that is not. They never follow a redirect (see `exchange`), and mirrors never get them.

use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::challenge::Challenge;
use crate::registry::exchange::{origin, read_all};
use crate::registry::hosts::{Endpoint, TlsSettings};
use crate::registry::transport::{Body, Transport, full};
use base64::Engine as _;
use http::{HeaderValue, Method, Request, StatusCode, Uri, header};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Tokens without a stated lifetime live this long (token specification).
const DEFAULT_LIFETIME: u64 = 60;
const MAX_ANSWER: u64 = 1 << 20;

/// Knows who we are, and what we have already proven.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credentials: Option<Credentials>,
    /// By origin and scope. Held only to look up or insert.
    proofs: Mutex<HashMap<(String, String), Proof>>,
}

#[derive(Debug, Clone)]
struct Proof {
    header: HeaderValue,
    until: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Authenticator {
    pub(crate) fn new(credentials: Option<Credentials>) -> Self {
        Self { credentials, proofs: Mutex::default() }
    }

    fn proofs(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Proof>> {
        self.proofs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn credentials_for(&self, endpoint: &Endpoint) -> Option<&Credentials> {
        self.credentials.as_ref().filter(|_| !endpoint.mirror)
    }

    /// What to send without being asked: what worked before.
    pub(crate) fn known(&self, endpoint: &Endpoint, scope: &str) -> Option<HeaderValue> {
        let key = (endpoint.base.clone(), scope.to_owned());
        let proof = self.proofs().get(&key).cloned();
        match proof {
            Some(proof) if proof.until.is_none_or(|until| until > Instant::now()) => Some(proof.header),
            _ => {
                let token = &self.credentials_for(endpoint)?.registry_token;
                (!token.is_empty()).then(|| bearer(token).ok()).flatten()
            }
        }
    }

    /// Forgets what no longer works.
    pub(crate) fn refused(&self, endpoint: &Endpoint, scope: &str) {
        self.proofs().remove(&(endpoint.base.clone(), scope.to_owned()));
    }

    /// Obtains what the registry asked for.
    pub(crate) async fn obtain(
        &self,
        transport: &Transport,
        endpoint: &Endpoint,
        scope: &str,
        challenges: &[Challenge],
    ) -> Result<HeaderValue> {
        let credentials = self.credentials_for(endpoint);
        let denied = || Error::new(ErrorKind::Unauthorized, "no basic auth credentials");
        let mut proof = None;
        for challenge in challenges {
            proof = match (challenge, credentials) {
                (Challenge::Basic, Some(credentials)) if !credentials.username.is_empty() => {
                    Some(Proof { header: basic(credentials)?, until: None })
                }
                (Challenge::Basic, _) => continue,
                (Challenge::Bearer { realm, service, scope: asked }, _) => {
                    let scope = asked.as_deref().unwrap_or(scope);
                    Some(
                        fetch_token(transport, endpoint, credentials, realm, service.as_deref(), scope)
                            .await?,
                    )
                }
            };
            break;
        }
        let proof = proof.ok_or_else(denied)?;
        let header = proof.header.clone();
        self.proofs().insert((endpoint.base.clone(), scope.to_owned()), proof);
        Ok(header)
    }
}

fn secret_header(text: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Error::new(ErrorKind::Unauthorized, "credentials hold characters that no header can"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn bearer(token: &str) -> Result<HeaderValue> {
    secret_header(&format!("Bearer {token}"))
}

fn basic(credentials: &Credentials) -> Result<HeaderValue> {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    secret_header(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

async fn fetch_token(
    transport: &Transport,
    endpoint: &Endpoint,
    credentials: Option<&Credentials>,
    realm: &str,
    service: Option<&str>,
    scope: &str,
) -> Result<Proof> {
    let realm = check_realm(realm, endpoint)?;
    let request = token_request(&realm, credentials, service, scope)?;
    // Certificates configured for the registry count only if it is its own token server.
    let same = origin(&realm) == endpoint.base.parse().ok().as_ref().and_then(origin);
    let tls = if same { endpoint.tls.clone() } else { TlsSettings::default() };
    let started = Instant::now();
    let response = transport.send(&tls, request, false).await?;
    let status = response.status();
    let body = read_all(response.into_body(), MAX_ANSWER, &transport.patience()).await?;
    if !status.is_success() {
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST => {
                ErrorKind::Unauthorized
            }
            _ => ErrorKind::Unavailable,
        };
        return Err(Error::new(kind, format!("failed to fetch a token from {realm}: {status}")));
    }
    let answer: TokenAnswer = serde_json::from_slice(&body)
        .map_err(|e| Error::new(ErrorKind::Unauthorized, format!("token server {realm}: {e}")))?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty());
    let token = token
        .ok_or_else(|| Error::new(ErrorKind::Unauthorized, format!("token server {realm}: sent no token")))?;
    // A little early, so that it does not expire on the way.
    let lifetime = answer.expires_in.unwrap_or(DEFAULT_LIFETIME).clamp(10, 86_400) * 9 / 10;
    Ok(Proof { header: bearer(&token)?, until: Some(started + Duration::from_secs(lifetime)) })
}

fn check_realm(realm: &str, endpoint: &Endpoint) -> Result<Uri> {
    let refused = |why: &str| Error::new(ErrorKind::Unauthorized, format!("token server {realm:?}: {why}"));
    let uri: Uri = realm.parse().map_err(|_| refused("is no URL"))?;
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if endpoint.base.starts_with("http://") => Ok(uri),
        _ => Err(refused("does not use TLS, although the registry does")),
    }
}

fn token_request(
    realm: &Uri,
    credentials: Option<&Credentials>,
    service: Option<&str>,
    scope: &str,
) -> Result<Request<Body>> {
    let mut query = vec![("service", service.unwrap_or_default()), ("scope", scope)];
    let build = |result: http::Result<Request<Body>>| {
        result.map_err(|e| Error::new(ErrorKind::Unauthorized, format!("token server {realm}: {e}")))
    };
    if let Some(token) =
        credentials.map(|known| known.identity_token.as_str()).filter(|token| !token.is_empty())
    {
        query.extend([("grant_type", "refresh_token"), ("client_id", "knarr"), ("refresh_token", token)]);
        let form = encode(&query);
        let request = Request::builder().method(Method::POST).uri(realm.clone());
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        return build(request.body(full(form)));
    }
    let basic_auth = credentials.filter(|known| !known.username.is_empty());
    if let Some(credentials) = basic_auth {
        query.push(("account", &credentials.username));
    }
    let joiner = if realm.query().is_some() { '&' } else { '?' };
    let mut request = Request::builder().uri(format!("{realm}{joiner}{}", encode(&query)));
    if let Some(credentials) = basic_auth {
        request = request.header(header::AUTHORIZATION, basic(credentials)?);
    }
    build(request.body(full("")))
}

/// `application/x-www-form-urlencoded`; empty values are left out.
fn encode(pairs: &[(&str, &str)]) -> String {
    let parts: Vec<String> = pairs
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| format!("{key}={}", percent_encode(value)))
        .collect();
    parts.join("&")
}

/// Everything but unreserved characters.
pub(crate) fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_registries_cannot_send_credentials_into_the_open() {
        let endpoint = |base: &str| {
            let registry = base.split("://").nth(1).unwrap().split('/').next().unwrap();
            let mut found = crate::registry::hosts::endpoints(None, registry, &[]).unwrap().remove(0);
            found.base = base.to_owned();
            found
        };
        let tls = endpoint("https://r.io/v2");
        assert!(check_realm("https://auth.r.io/token", &tls).is_ok());
        for bad in ["http://auth.r.io/token", "file:///etc/passwd", "ftp://x", "not a url", ""] {
            assert!(check_realm(bad, &tls).is_err(), "{bad}");
        }
        assert!(check_realm("http://127.0.0.1:1/token", &endpoint("http://127.0.0.1:1/v2")).is_ok());
    }

    #[test]
    fn encodes() {
        assert_eq!(encode(&[("a", "x:y/z w"), ("b", "")]), "a=x%3Ay%2Fz%20w");
    }
}
