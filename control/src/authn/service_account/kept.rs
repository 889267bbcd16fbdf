//! Tokens that a secret keeps: whoever makes a secret of type `kubernetes.io/service-account-token` finds one in it. It
//! does not run out, but it is worth nothing without its secret, in which it must stand as it is, or without its account.

use super::{Issuer, Reference, living, user};
use crate::authn::User;
use crate::store::Store;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use knarr_api::{Status, meta};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who issues these, whatever the cluster is called.
const ISSUER: &str = "kubernetes/serviceaccount";

/// What such a token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
}

impl Issuer {
    /// A token of an account for a secret to keep.
    pub(crate) fn issue_kept(&self, account: &Value, secret: &str) -> Result<String, Status> {
        let (namespace, name) = (meta::namespace(account), meta::name(account));
        self.signed(&Kept {
            iss: ISSUER.to_owned(),
            sub: format!("system:serviceaccount:{namespace}:{name}"),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            account: name.to_owned(),
            uid: meta::uid(account).to_owned(),
        })
    }

    /// The user of such a token, if its secret and its account are still there.
    pub(crate) async fn kept(&self, token: &str, store: &dyn Store) -> Option<User> {
        let kept: Kept = self.said(token).filter(|kept: &Kept| kept.iss == ISSUER)?;
        let namespace = &kept.namespace;
        let secret = store.get(&format!("core/secrets/{namespace}/{}", kept.secret)).await.ok()??.object();
        let keeps =
            secret.pointer("/data/token").and_then(Value::as_str).and_then(|data| STANDARD.decode(data).ok());
        if meta::deletion_timestamp(&secret).is_some() || keeps.as_deref() != Some(token.as_bytes()) {
            return None;
        }
        let account = Reference { name: kept.account.clone(), uid: kept.uid.clone() };
        living(store, &format!("core/serviceaccounts/{namespace}/"), &account).await?;
        Some(User { uid: kept.uid, ..user(namespace, &kept.account) })
    }
}
