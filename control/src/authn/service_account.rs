//! Tokens of service accounts: JSON web tokens (ES256), signed by a key of the cluster, bound to their account and,
//! where asked for, to the pod that uses them (or a secret, or a node). A token is worth nothing once its account or what
//! it is bound to is gone. Those that secrets keep ([`kept`]) do not run out.

mod kept;

use super::{AUTHENTICATED, User};
use crate::pki::Pki;
use crate::random;
use crate::store::Store;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use knarr_api::{Status, meta};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Who issues the tokens, and whom they are for unless another audience is asked for.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// How what a token says beside its account is called in `userInfo.extra`.
const EXTRA: &str = "authentication.kubernetes.io/";

/// Signs and verifies.
pub(crate) struct Issuer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    /// `kid`: lets a verifier find the key.
    key_id: String,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Issuer({})", self.key_id)
    }
}

/// What a token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) iss: String,
    pub(crate) sub: String,
    pub(crate) aud: Vec<String>,
    pub(crate) exp: i64,
    pub(crate) iat: i64,
    pub(crate) nbf: i64,
    pub(crate) jti: String,
    #[serde(rename = "kubernetes.io")]
    pub(crate) kubernetes: Bound,
}

/// To what a token is bound.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bound {
    pub(crate) namespace: String,
    pub(crate) serviceaccount: Reference,
    #[serde(flatten)]
    pub(crate) holder: Option<Holder>,
}

/// What a token dies with besides its account; by its name in the token.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Holder {
    /// That runs as the account.
    Pod(Reference),
    Secret(Reference),
    Node(Reference),
}

/// One object for all its life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Reference {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Issuer {
    /// Reads the signing key, or makes it.
    pub(crate) fn open(pki: &Pki) -> anyhow::Result<Self> {
        let random = SystemRandom::new();
        let broken = |_| anyhow::anyhow!("generate a key");
        let make = || {
            let key =
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).map_err(broken)?;
            Ok(STANDARD.encode(key.as_ref()))
        };
        let encoded = pki.secret("service-accounts.key", make)?;
        let bytes = STANDARD.decode(encoded.trim()).context("service-accounts.key")?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &bytes, &random)
            .map_err(|error| anyhow::anyhow!("service-accounts.key: {error}"))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        Ok(Self { key_id: URL_SAFE_NO_PAD.encode(digest), key, random })
    }

    /// A signed token.
    pub(crate) fn issue(&self, claims: &Claims) -> Result<String, Status> {
        self.signed(claims)
    }

    fn signed(&self, claims: &impl Serialize) -> Result<String, Status> {
        let header = json!({"alg": "ES256", "kid": self.key_id, "typ": "JWT"});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = serde_json::to_value(claims).map_err(Status::internal)?;
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = self.key.sign(&self.random, signed.as_bytes()).map_err(Status::internal)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What a token says, if we signed it and its time has not passed.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let claims: Claims = self.said(token)?;
        let now = now.as_second();
        (claims.iss == ISSUER && claims.nbf <= now && now < claims.exp).then_some(claims)
    }

    /// What a token says, if we signed it and it is of this form.
    fn said<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (_, payload) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// The public key as a JSON web key set.
    pub(crate) fn key_set(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key().as_ref();
        let (x, y) = point.get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
        json!({"keys": [{
            "use": "sig", "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": self.key_id,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }
}

impl Claims {
    /// Claims about a service account from now for some seconds.
    pub(crate) fn new(account: &Value, holder: Option<Holder>, audiences: Vec<String>, seconds: i64) -> Self {
        let now = Timestamp::now().as_second();
        let (namespace, name) = (meta::namespace(account).to_owned(), meta::name(account).to_owned());
        let audiences = if audiences.is_empty() { vec![ISSUER.to_owned()] } else { audiences };
        Self {
            iss: ISSUER.to_owned(),
            sub: format!("system:serviceaccount:{namespace}:{name}"),
            aud: audiences,
            exp: now + seconds,
            iat: now,
            nbf: now,
            jti: random::uid(),
            kubernetes: Bound {
                namespace,
                serviceaccount: Reference { name, uid: meta::uid(account).to_owned() },
                holder,
            },
        }
    }

    /// The user, if the account and what the token is bound to are still there.
    pub(crate) async fn user(&self, store: &dyn Store) -> Option<User> {
        let bound = &self.kubernetes;
        let namespace = &bound.namespace;
        living(store, &format!("core/serviceaccounts/{namespace}/"), &bound.serviceaccount).await?;
        let mut told = vec![("credential-id", format!("JTI={}", self.jti))];
        match &bound.holder {
            None => {}
            Some(Holder::Pod(pod)) => {
                let found = living(store, &format!("core/pods/{namespace}/"), pod).await?;
                told.extend([("pod-name", pod.name.clone()), ("pod-uid", pod.uid.clone())]);
                told.extend(node_of(&found, store).await);
            }
            Some(Holder::Secret(one)) => {
                living(store, &format!("core/secrets/{namespace}/"), one).await?;
            }
            Some(Holder::Node(node)) => {
                living(store, "core/nodes/", node).await?;
                told.extend([("node-name", node.name.clone()), ("node-uid", node.uid.clone())]);
            }
        }
        let extra = told.into_iter().map(|(key, value)| (format!("{EXTRA}{key}"), vec![value]));
        Some(User {
            uid: bound.serviceaccount.uid.clone(),
            extra: extra.collect(),
            ..user(namespace, &bound.serviceaccount.name)
        })
    }
}

/// The node where a pod runs.
async fn node_of(pod: &Value, store: &dyn Store) -> Vec<(&'static str, String)> {
    let Some(name) = pod["spec"]["nodeName"].as_str() else { return Vec::new() };
    let mut told = vec![("node-name", name.to_owned())];
    if let Ok(Some(node)) = store.get(&format!("core/nodes/{name}")).await {
        told.push(("node-uid", meta::uid(&node.object()).to_owned()));
    }
    told
}

/// The user that an account is.
pub(crate) fn user(namespace: &str, name: &str) -> User {
    let groups = [
        "system:serviceaccounts".to_owned(),
        format!("system:serviceaccounts:{namespace}"),
        AUTHENTICATED.to_owned(),
    ];
    let name = format!("system:serviceaccount:{namespace}:{name}");
    User { name, groups: groups.into(), ..User::default() }
}

/// What a token is bound to, if it is still there.
async fn living(store: &dyn Store, prefix: &str, reference: &Reference) -> Option<Value> {
    let entry = store.get(&format!("{prefix}{}", reference.name)).await.ok()??;
    let object = entry.object();
    (meta::uid(&object) == reference.uid).then_some(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_verified() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let issuer = Issuer::open(&pki).unwrap();
        let account = json!({"metadata": {"name": "a", "namespace": "n", "uid": "u"}});
        let token = issuer.issue(&Claims::new(&account, None, vec![], 600)).unwrap();
        let now = Timestamp::now();
        assert_eq!(Issuer::open(&pki).unwrap().verify(&token, now).unwrap().sub, "system:serviceaccount:n:a");
        let late = now.checked_add(jiff::SignedDuration::from_secs(601)).unwrap();
        assert!(issuer.verify(&token, late).is_none(), "expired");
        let (signed, signature) = token.rsplit_once('.').unwrap();
        for forged in [
            "",
            ".",
            "a.b.c",
            signed,
            &format!("{signed}."),
            &format!("{signed}A.{signature}"),
            &format!("{}.{signature}", signed.replacen('e', "f", 1)),
        ] {
            assert!(issuer.verify(forged, now).is_none(), "{forged}");
        }
        let other = tempfile::tempdir().unwrap();
        let stranger = Issuer::open(&Pki::open(other.path()).unwrap()).unwrap();
        assert!(stranger.verify(&token, now).is_none(), "another cluster's key");
        assert_eq!(issuer.key_set()["keys"][0]["x"].as_str().unwrap().len(), 43);
    }
}
