//! Secrets of type `kubernetes.io/service-account-token`: each is given a token of the account that it names, with the
//! certificate and the namespace to use it with, and goes when that account does.

use super::informer::Key;
use super::runner::{self, Next, Reconcile, ignore_not_found, message_of};
use super::wiring::{Plane, Task};
use super::work_queue::WorkQueue;
use crate::authn::service_account::Issuer;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::sync::Arc;

const OF_THIS_TYPE: &str = "type=kubernetes.io/service-account-token";
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Woken by secrets of the type, and by accounts that go. The other secrets are nobody's business here, so these are
/// watched apart.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let queue = WorkQueue::new();
    let wake = queue.clone();
    plane.informer::<ServiceAccount>().on_change(move |old, new| {
        if let (Some(gone), None) = (old, new) {
            wake.add(Key::of(&**gone));
        }
    });
    let (issuer, ca_pem) = (plane.options.issuer.clone(), plane.options.ca_pem.clone());
    let controller = TokenSecrets { client: plane.client.clone(), issuer, ca_pem };
    let seen = follow(plane.client.clone(), queue.clone());
    Box::pin(async move {
        tokio::join!(seen, runner::run("service-account-tokens", queue, 1, Arc::new(controller)));
    })
}

async fn follow(client: Client, queue: WorkQueue<Key>) {
    let config = watcher::Config::default().fields(OF_THIS_TYPE);
    let secrets = watcher(Api::<Secret>::all(client), config).default_backoff().applied_objects();
    let mut secrets = std::pin::pin!(secrets);
    while let Some(secret) = secrets.next().await {
        match secret {
            Ok(secret) => queue.add(Key::new(&secret.namespace().unwrap_or_default(), account_of(&secret))),
            Err(error) => tracing::debug!(error = message_of(&error), "watching token secrets"),
        }
    }
}

/// Everything one reconcile needs; keys are service accounts, whether they exist or not.
struct TokenSecrets {
    client: Client,
    issuer: Arc<Issuer>,
    ca_pem: String,
}

impl Reconcile for TokenSecrets {
    /// Looks after the secrets that name one account.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut all = secrets.list(&ListParams::default().fields(OF_THIS_TYPE)).await?.items;
        all.retain(|secret| account_of(secret) == key.name && secret.metadata.deletion_timestamp.is_none());
        if all.is_empty() {
            return Ok(Next::Wait);
        }
        let account = accounts.get_opt(&key.name).await?;
        for secret in all {
            let name = secret.name_any();
            match account.as_ref().filter(|account| is_of(&secret, account)) {
                None => {
                    let preconditions = Preconditions { uid: secret.uid(), resource_version: None };
                    let parameters = DeleteParams::default().preconditions(preconditions);
                    ignore_not_found(secrets.delete(&name, &parameters).await)?;
                }
                Some(account) => {
                    let Some(data) = self.lacks(&secret, account)? else { continue };
                    let annotations = json!({ACCOUNT_NAME: account.name_any(), ACCOUNT_UID: account.uid()});
                    let metadata = json!({"uid": secret.uid(), "resourceVersion": secret.resource_version(),
                        "annotations": annotations});
                    let patch = Patch::Merge(json!({"metadata": metadata, "data": data}));
                    ignore_not_found(secrets.patch(&name, &PatchParams::default(), &patch).await)?;
                }
            }
        }
        Ok(Next::Wait)
    }
}

impl TokenSecrets {
    /// What a secret does not have yet, or not as it should be.
    fn lacks(&self, secret: &Secret, account: &ServiceAccount) -> Result<Option<Value>, kube::Error> {
        let has = |key: &str| {
            secret.data.as_ref().and_then(|data| data.get(key)).map_or(&[][..], |value| value.0.as_slice())
        };
        let mut data = serde_json::Map::new();
        if has("ca.crt") != self.ca_pem.as_bytes() {
            data.insert("ca.crt".to_owned(), STANDARD.encode(&self.ca_pem).into());
        }
        if has("namespace").is_empty() {
            let namespace = secret.namespace().unwrap_or_default();
            data.insert("namespace".to_owned(), STANDARD.encode(namespace).into());
        }
        if has("token").is_empty() {
            let account = serde_json::to_value(account).map_err(kube::Error::SerdeError)?;
            let token = self.issuer.issue_kept(&account, &secret.name_any());
            let token = token.map_err(|status| kube::Error::Service(status.message.into()))?;
            data.insert("token".to_owned(), STANDARD.encode(token).into());
        }
        Ok((!data.is_empty()).then_some(Value::Object(data)))
    }
}

/// The account that a secret names.
fn account_of(secret: &Secret) -> &str {
    secret.annotations().get(ACCOUNT_NAME).map_or("", String::as_str)
}

/// Whether the account is the one that the secret is for, and not a later one of that name.
fn is_of(secret: &Secret, account: &ServiceAccount) -> bool {
    let uid = secret.annotations().get(ACCOUNT_UID).filter(|uid| !uid.is_empty());
    uid.is_none_or(|uid| Some(uid) == account.metadata.uid.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_belongs_to_one_account_for_all_its_life() {
        let secret = |uid: &str| -> Secret {
            let annotations = json!({ACCOUNT_NAME: "robot", ACCOUNT_UID: uid});
            serde_json::from_value(json!({"metadata": {"name": "s", "annotations": annotations}})).unwrap()
        };
        let account: ServiceAccount =
            serde_json::from_value(json!({"metadata": {"name": "robot", "uid": "u"}})).unwrap();
        assert_eq!(account_of(&secret("")), "robot");
        assert!(is_of(&secret(""), &account) && is_of(&secret("u"), &account));
        assert!(!is_of(&secret("before"), &account));
    }
}
