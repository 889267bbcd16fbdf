//! Bootstrap tokens: those whose time is over go, and each that may sign signs what `kube-public/cluster-info` says, so
//! that a machine that knows a token and nothing else can tell whether what it reads there is true.

use super::informer::Key;
use super::metadata::Metadata;
use super::runner::{self, Next, Reconcile, ignore_not_found, message_of};
use super::wiring::{Plane, Task};
use super::work_queue::WorkQueue;
use crate::authn::bootstrap_token::{NAMESPACE, TYPE, secret_name};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use ring::hmac;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const PUBLIC: &str = "kube-public";
const INFO: &str = "cluster-info";
/// What is signed.
const CONFIG: &str = "kubeconfig";
/// Before the identifier of the token that signed.
const SIGNATURE: &str = "jws-kubeconfig-";

/// Woken by the tokens and by what they sign; there is one key.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let queue = WorkQueue::new();
    let wake = queue.clone();
    plane.informer::<Metadata<ConfigMap>>().on_change(move |old, new| {
        if new.or(old).is_some_and(|map| Key::of(&**map) == info()) {
            wake.add(info());
        }
    });
    let controller = BootstrapTokens { client: plane.client.clone() };
    let seen = follow(plane.client.clone(), queue.clone());
    Box::pin(async move {
        tokio::join!(seen, runner::run("bootstrap-tokens", queue, 1, Arc::new(controller)));
    })
}

fn info() -> Key {
    Key::new(PUBLIC, INFO)
}

async fn follow(client: Client, queue: WorkQueue<Key>) {
    let config = watcher::Config::default().fields(&format!("type={TYPE}"));
    let secrets = watcher(Api::<Secret>::namespaced(client, NAMESPACE), config).default_backoff();
    let mut secrets = std::pin::pin!(secrets);
    while let Some(event) = secrets.next().await {
        match event {
            Ok(_) => queue.add(info()),
            Err(error) => tracing::debug!(error = message_of(&error), "watching bootstrap tokens"),
        }
    }
}

/// Everything one reconcile needs.
struct BootstrapTokens {
    client: Client,
}

impl Reconcile for BootstrapTokens {
    /// Looks at all tokens: there are few.
    async fn reconcile(&self, _: Key) -> Result<Next, kube::Error> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), NAMESPACE);
        let listed = secrets.list(&ListParams::default().fields(&format!("type={TYPE}"))).await?;
        let now = Timestamp::now();
        let (ended, valid): (Vec<_>, Vec<_>) =
            listed.items.into_iter().partition(|secret| left(secret, now) == Some(SignedDuration::ZERO));
        for secret in ended {
            let preconditions = Preconditions { uid: secret.uid(), resource_version: None };
            let parameters = DeleteParams::default().preconditions(preconditions);
            ignore_not_found(secrets.delete(&secret.name_any(), &parameters).await)?;
        }
        self.sign(&valid).await?;
        let next = valid.iter().filter_map(|secret| left(secret, now)).min();
        Ok(next.map_or(Next::Wait, |left| Next::After(Duration::try_from(left).unwrap_or_default())))
    }
}

impl BootstrapTokens {
    async fn sign(&self, tokens: &[Secret]) -> Result<(), kube::Error> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), PUBLIC);
        let Some(map) = maps.get_opt(INFO).await? else { return Ok(()) };
        let changes = changes(map.data.as_ref().unwrap_or(&BTreeMap::new()), tokens);
        if !changes.is_empty() {
            let metadata = json!({"resourceVersion": map.resource_version()});
            let patch = Patch::Merge(json!({"metadata": metadata, "data": changes}));
            ignore_not_found(maps.patch(INFO, &PatchParams::default(), &patch).await)?;
        }
        Ok(())
    }
}

/// The signatures that come and go.
fn changes(data: &BTreeMap<String, String>, tokens: &[Secret]) -> Map<String, Value> {
    let Some(config) = data.get(CONFIG) else { return Map::new() };
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    for (id, secret) in tokens.iter().filter_map(signer) {
        wanted.entry(format!("{SIGNATURE}{id}")).or_insert_with(|| signature(config, &id, &secret));
    }
    let gone = data.keys().filter(|key| key.starts_with(SIGNATURE) && !wanted.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Value::Null));
    let new = wanted.iter().filter(|(key, value)| data.get(*key) != Some(value));
    gone.chain(new.map(|(key, value)| (key.clone(), json!(value)))).collect()
}

fn datum(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

/// Identifier and secret of a token that may sign.
fn signer(token: &Secret) -> Option<(String, String)> {
    let (id, secret) = (datum(token, "token-id")?, datum(token, "token-secret")?);
    let may = datum(token, "usage-bootstrap-signing").as_deref() == Some("true");
    (may && token.name_any() == secret_name(&id) && !secret.is_empty()).then_some((id, secret))
}

/// How long a token holds; nothing is said of one that holds for ever, and what says nonsense is over.
fn left(token: &Secret, now: Timestamp) -> Option<SignedDuration> {
    let end = datum(token, "expiration").filter(|text| !text.is_empty())?;
    let left = end.parse::<Timestamp>().map(|end| end.duration_since(now));
    Some(left.unwrap_or_default().max(SignedDuration::ZERO))
}

/// A signature in JSON (RFC 7515) without what it signs.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = encode(format!(r#"{{"alg":"HS256","kid":{}}}"#, json!(id)).as_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = hmac::sign(&key, format!("{header}.{}", encode(content.as_bytes())).as_bytes());
    format!("{header}..{}", encode(signed.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    fn token(id: &str, more: &[(&str, &str)]) -> Secret {
        let mut data = json!({"token-id": STANDARD.encode(id), "token-secret": STANDARD.encode("secret"),
            "usage-bootstrap-signing": STANDARD.encode("true")});
        more.iter().for_each(|(key, value)| data[*key] = STANDARD.encode(value).into());
        serde_json::from_value(json!({"metadata": {"name": secret_name(id)}, "data": data})).unwrap()
    }

    #[test]
    fn a_token_has_so_long_left() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let left = |expiration: &str| left(&token("abcdef", &[("expiration", expiration)]), now);
        assert_eq!(left(""), None);
        assert_eq!(left("2026-01-01T00:01:00Z"), Some(SignedDuration::from_secs(60)));
        assert_eq!(left("2025-12-31T00:00:00Z"), Some(SignedDuration::ZERO));
        assert_eq!(left("soon"), Some(SignedDuration::ZERO));
    }

    #[test]
    fn each_token_that_may_signs() {
        let config = "apiVersion: v1";
        let mut data = BTreeMap::from([(CONFIG.to_owned(), config.to_owned())]);
        data.insert("jws-kubeconfig-gone00".to_owned(), "old".to_owned());
        let silent = token("silent", &[("usage-bootstrap-signing", "false")]);
        let tokens = [token("abcdef", &[]), silent];
        let found = changes(&data, &tokens);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["jws-kubeconfig-abcdef", "jws-kubeconfig-gone00"]);
        assert_eq!(found["jws-kubeconfig-gone00"], Value::Null);
        data.remove("jws-kubeconfig-gone00");
        data.insert("jws-kubeconfig-abcdef".to_owned(), signature(config, "abcdef", "secret"));
        assert!(changes(&data, &tokens).is_empty());
        assert!(changes(&BTreeMap::new(), &tokens).is_empty(), "there is nothing to sign");
    }

    /// As `openssl dgst -sha256 -hmac` computes it.
    #[test]
    fn signatures_are_those_of_others() {
        assert_eq!(
            signature("apiVersion: v1", "abcdef", "0123456789abcdef"),
            "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9.._JqomVYZNRdBX9ISkn1b-g4fbXMmdIzRDvSNbs-ccDE"
        );
    }
}
