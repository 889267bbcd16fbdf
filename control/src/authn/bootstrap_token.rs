//! Bootstrap tokens: `ID.SECRET`, kept as secrets of `kube-system`, by which a new node asks for its certificate.

use super::{AUTHENTICATED, User};
use crate::random;
use crate::store::Store;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Where the secrets are.
pub const NAMESPACE: &str = "kube-system";
/// `type` of the secrets.
pub const TYPE: &str = "bootstrap.kubernetes.io/token";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// A new token, and the secret (of `kube-system`) that makes it hold until `expires`.
pub fn create(expires: Option<Timestamp>, description: &str) -> (String, Value) {
    let (id, secret) = (random::suffix(ID_LENGTH), random::suffix(SECRET_LENGTH));
    let mut data = json!({
        "token-id": id, "token-secret": secret, "usage-bootstrap-authentication": "true",
        "usage-bootstrap-signing": "true", "description": description,
    });
    if let Some(expires) = expires {
        data["expiration"] = crate::server::timestamp(expires).into();
    }
    let metadata = json!({"name": secret_name(&id), "namespace": NAMESPACE});
    let object =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": TYPE, "stringData": data});
    (format!("{id}.{secret}"), object)
}

/// Name of the secret of a token, or of its identifier alone.
pub fn secret_name(token: &str) -> String {
    format!("bootstrap-token-{}", token.split('.').next().unwrap_or_default())
}

/// The parts of a token of this form.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (id.len() == ID_LENGTH && secret.len() == SECRET_LENGTH && plain(id) && plain(secret))
        .then_some((id, secret))
}

/// The user of a bootstrap token that holds now.
pub(super) async fn user(token: &str, store: &dyn Store) -> Option<User> {
    let (id, secret) = parts(token)?;
    let entry = store.get(&format!("core/secrets/{NAMESPACE}/bootstrap-token-{id}")).await.ok()??;
    accept(&entry.object(), id, secret, Timestamp::now())
}

fn accept(object: &Value, id: &str, secret: &str, now: Timestamp) -> Option<User> {
    let datum = |name: &str| -> Option<String> {
        let bytes = STANDARD.decode(object["data"][name].as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let fresh = match datum("expiration") {
        None => true,
        Some(text) => text.parse::<Timestamp>().is_ok_and(|end| now < end),
    };
    let found = datum("token-secret")?;
    // Digests, so that the time it takes says nothing about the secret.
    let digest = |text: &str| ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let same = digest(&found).as_ref() == digest(secret).as_ref();
    let usable = datum("usage-bootstrap-authentication").as_deref() == Some("true");
    let whole = object["type"] == TYPE && datum("token-id").as_deref() == Some(id);
    let stays = object["metadata"]["deletionTimestamp"].is_null();
    if !(fresh && same && usable && whole && stays) {
        return None;
    }
    let extra = datum("auth-extra-groups").unwrap_or_default();
    let extra = extra.split(',').map(str::trim).filter(|group| group.starts_with("system:bootstrappers:"));
    let groups = ["system:bootstrappers"].into_iter().chain(extra).chain([AUTHENTICATED]);
    let groups = groups.map(str::to_owned).collect();
    Some(User { groups, ..User::new(format!("system:bootstrap:{id}"), &[]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_holds_until_it_expires() {
        let data = |expiration: &str| {
            let encode = |text: &str| json!(STANDARD.encode(text));
            json!({"type": TYPE, "data": {"token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
                "usage-bootstrap-authentication": encode("true"), "expiration": encode(expiration),
                "auth-extra-groups": encode("system:bootstrappers:x,system:masters")}})
        };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let (id, secret) = parts("abcdef.0123456789abcdef").unwrap();
        let user = accept(&data("2026-01-01T00:00:01Z"), id, secret, now).unwrap();
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:x", AUTHENTICATED]);
        assert!(accept(&data("2026-01-01T00:00:00Z"), id, secret, now).is_none(), "expired");
        assert!(accept(&data("2027-01-01T00:00:00Z"), id, "0123456789abcdee", now).is_none(), "wrong");
        let mut other = data("2027-01-01T00:00:00Z");
        other["type"] = "Opaque".into();
        assert!(accept(&other, id, secret, now).is_none());
        let (made, secret) = create(None, "");
        assert!(parts(&made).is_some() && secret["metadata"]["name"] == secret_name(&made));
        for token in ["", "abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde", "a.b.c"] {
            assert!(parts(token).is_none(), "{token}");
        }
    }
}
