//! Service account tokens for projected volumes: asked of the API server by TokenRequest, bound to the pod, kept
//! until 80 % of their life is over.

use crate::kubelet::backoff::plus;
use crate::kubelet::pod;
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, ServiceAccountTokenProjection};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

/// Gives tokens for pods.
#[async_trait]
pub trait TokenSource: Send + Sync {
    /// A token that is good for a while; the error is for a person.
    async fn token(&self, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<String, String>;
}

/// A token that was issued, and when a new one must be asked for.
#[derive(Clone)]
pub struct Token {
    text: String,
    renew_at: Timestamp,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("renew_at", &self.renew_at).finish_non_exhaustive()
    }
}

/// Tokens from the cluster.
pub struct ClusterTokens {
    client: kube::Client,
    /// By pod uid and audience; held only for a look-up.
    issued: Mutex<HashMap<(String, String), Token>>,
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

    fn known(&self, key: &(String, String)) -> Option<String> {
        let issued = self.issued.lock().ok()?;
        issued.get(key).filter(|token| token.renew_at > Timestamp::now()).map(|token| token.text.clone())
    }

    fn keep(&self, key: (String, String), token: Token) {
        if let Ok(mut issued) = self.issued.lock() {
            let now = Timestamp::now();
            issued.retain(|_, token| token.renew_at > now);
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
        let life = Duration::from_secs(u64::try_from(seconds).unwrap_or(3600));
        Ok(Token { text, renew_at: plus(Timestamp::now(), life * 4 / 5) })
    }
}

#[async_trait]
impl TokenSource for ClusterTokens {
    async fn token(&self, pod: &Pod, projection: &ServiceAccountTokenProjection) -> Result<String, String> {
        let audience = projection.audience.clone().unwrap_or_default();
        let key = (pod::uid(pod).to_string(), audience.clone());
        if let Some(text) = self.known(&key) {
            return Ok(text);
        }
        let token = self.request(pod, &audience, projection.expiration_seconds.unwrap_or(3600)).await?;
        let text = token.text.clone();
        self.keep(key, token);
        Ok(text)
    }
}
