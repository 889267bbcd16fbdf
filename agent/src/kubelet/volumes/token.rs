//! Service account tokens for projected volumes: asked of the API server by TokenRequest, bound to the pod, kept
//! until 80 % of their life is over.

use super::VolumeError;
use crate::kubelet::backoff::plus;
use crate::kubelet::pod;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::time::Duration;

/// Gives tokens for pods.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token that is good for a while; the error is for a person.
    async fn token(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<Token, String>;
}

/// Token texts by what was asked for.
pub type Tokens = BTreeMap<(String, i64), String>;

/// Audience (empty for the API server's own) and life in seconds.
type Key = (String, i64);

/// What a projection asks for.
pub(super) fn key(projection: &ServiceAccountTokenProjection) -> Key {
    (projection.audience.clone().unwrap_or_default(), projection.expiration_seconds.unwrap_or(3600))
}

/// Every token that the pod's volumes show; the error names the volume.
pub(super) async fn fetch(source: Option<&dyn TokenSource>, pod: &Pod) -> Result<Tokens, VolumeError> {
    let mut tokens = Tokens::new();
    for volume in pod::spec(pod).volumes.iter().flatten() {
        let fail = |message: String| VolumeError { volume: Some(volume.name.clone()), message };
        let parts = volume.projected.as_ref().and_then(|projected| projected.sources.as_ref());
        for part in parts.into_iter().flatten().filter_map(|part| part.service_account_token.as_ref()) {
            let key = key(part);
            if tokens.contains_key(&key) {
                continue;
            }
            let source = source.ok_or_else(|| fail("service account tokens need a cluster".to_string()))?;
            let token = source.token(pod, &key.0, key.1).await.map_err(fail)?;
            tokens.insert(key, token.text);
        }
    }
    Ok(tokens)
}

/// A token that was issued, and when a new one must be asked for.
#[derive(Clone)]
pub struct Token {
    #[allow(missing_docs)]
    pub text: String,
    renew_at: Timestamp,
    #[allow(missing_docs)]
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("renew_at", &self.renew_at).finish_non_exhaustive()
    }
}

/// Tokens from the cluster.
pub struct ClusterTokens {
    client: kube::Client,
    /// By pod uid and what was asked for; held only for a look-up.
    issued: Mutex<HashMap<(String, Key), Token>>,
}

impl std::fmt::Debug for ClusterTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterTokens").finish_non_exhaustive()
    }
}

impl ClusterTokens {
    /// Asks through this client.
    pub fn new(client: kube::Client) -> Self {
        Self { client, issued: Mutex::new(HashMap::new()) }
    }

    fn known(&self, key: &(String, Key)) -> Option<Token> {
        self.issued.lock().ok()?.get(key).cloned()
    }

    fn keep(&self, key: (String, Key), token: Token) {
        if let Ok(mut issued) = self.issued.lock() {
            let now = Timestamp::now();
            issued.retain(|_, token| token.expires_at > now);
            issued.insert(key, token);
        }
    }

    async fn request(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<Token, String> {
        let account =
            pod::spec(pod).service_account_name.as_deref().filter(|n| !n.is_empty()).unwrap_or("default");
        let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", pod::namespace(pod));
        let audiences: Vec<&str> =
            Some(audience).filter(|audience| !audience.is_empty()).into_iter().collect();
        let body = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": seconds,
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod::name(pod), "uid": pod::uid(pod)}}
        });
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
            .map_err(|error| error.to_string())?;
        let answer: serde_json::Value =
            self.client.request(request).await.map_err(|error| error.to_string())?;
        let text = answer["status"]["token"].as_str().ok_or("the API server answered no token")?.to_string();
        // The server may have given another life than was asked for.
        let until = answer["status"]["expirationTimestamp"].as_str().and_then(|text| text.parse().ok());
        let now = Timestamp::now();
        let asked = plus(now, Duration::from_secs(u64::try_from(seconds).unwrap_or(3600)));
        let expires_at: Timestamp = until.unwrap_or(asked);
        let life = Duration::try_from(expires_at.duration_since(now)).unwrap_or_default();
        Ok(Token { text, renew_at: plus(now, life * 4 / 5), expires_at })
    }
}

#[async_trait]
impl TokenSource for ClusterTokens {
    async fn token(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<Token, String> {
        let key = (pod::uid(pod).to_string(), (audience.to_string(), seconds));
        let known = self.known(&key);
        if let Some(token) = known.as_ref().filter(|token| token.renew_at > Timestamp::now()) {
            return Ok(token.clone());
        }
        match (self.request(pod, audience, seconds).await, known) {
            (Ok(token), _) => {
                self.keep(key, token.clone());
                Ok(token)
            }
            // Due for renewal, but good for a while: an API server that is away takes no token from a pod.
            (Err(_), Some(token)) if token.expires_at > Timestamp::now() => Ok(token),
            (Err(error), _) => Err(format!("failed to fetch token: {error}")),
        }
    }
}
