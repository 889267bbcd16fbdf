//! Signatures as cosign 3 makes them: a statement that names the image's digest, in a signed envelope (DSSE), in a bundle
//! together with everything that proves who signed it.
//!
//! Bundles refer to the image: the registry tells which documents do (the referrers API of OCI 1.1), or an index under the
//! tag `sha256-HEX` does, where the registry does not know of that. What is taken from a bundle is the same as what lies
//! beside older signatures, so both are checked alike.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Descriptor, Document};
use crate::policy::keyless::Evidence;
use crate::policy::signature::{MAX_SIGNATURES, Signature, text_of};
use crate::reference::Reference;
use crate::registry::Registry;
use crate::registry::retry::Patience;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::json;

/// Of artifacts and of their layers; a version follows.
const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle";
const STATEMENT: &str = "https://in-toto.io/Statement/";
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";
/// Certificates and a log's proofs are larger than a signed text.
const MAX_BUNDLE: u64 = 256 << 10;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    #[serde(default)]
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Material {
    certificate: Option<Raw>,
    #[serde(rename = "x509CertificateChain")]
    chain: Option<Chain>,
    tlog_entries: Vec<LogEntry>,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Raw>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogEntry {
    #[serde(deserialize_with = "number")]
    log_index: u64,
    log_id: LogId,
    #[serde(default, deserialize_with = "number")]
    integrated_time: u64,
    inclusion_promise: Option<Promise>,
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    signed_entry_timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Made>,
}

#[derive(Deserialize)]
struct Made {
    sig: String,
}

#[derive(Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(rename = "predicateType")]
    predicate: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: Hashes,
}

#[derive(Deserialize)]
struct Hashes {
    #[serde(default)]
    sha256: String,
}

/// Every signature of a digest that bundles beside it hold.
pub(crate) async fn fetch(
    registry: &dyn Registry,
    image: &Reference,
    digest: &Digest,
    patience: Patience,
) -> Result<Vec<Signature>> {
    let mut found = Vec::new();
    let referring = registry.referrers(image, digest).await?;
    let bundles = referring.iter().filter(|one| may_be_bundle(one));
    for descriptor in bundles.take(MAX_SIGNATURES) {
        let name = Reference { tag: None, digest: Some(descriptor.digest.clone()), ..image.clone() };
        let resolved = registry.resolve(&name).await?;
        let document = Document::parse(&resolved.bytes, resolved.content_type.as_deref())?;
        let Document::Manifest(manifest) = document else { continue };
        let is_bundle =
            |layer: &&Descriptor| layer.media_type.starts_with(MEDIA_TYPE) && layer.size <= MAX_BUNDLE;
        if let Some(layer) = manifest.layers.iter().find(is_bundle) {
            let text = text_of(registry, &name, layer, MAX_BUNDLE, patience).await?;
            // Whoever may push may add nonsense; it proves nothing.
            found.extend(signatures(&text).unwrap_or_default());
        }
    }
    Ok(found)
}

/// An index by hand may say nothing of what its documents are.
fn may_be_bundle(descriptor: &Descriptor) -> bool {
    descriptor.artifact_type.is_empty() || descriptor.artifact_type.starts_with(MEDIA_TYPE)
}

/// Those of one bundle; none where it signs something else than a statement.
fn signatures(text: &str) -> Result<Vec<Signature>> {
    let wrong = |why: &dyn std::fmt::Display| Error::invalid(format!("bundle of a signature: {why}"));
    let bundle: Bundle = serde_json::from_str(text).map_err(|e| wrong(&e))?;
    if !bundle.media_type.starts_with(MEDIA_TYPE) {
        return Err(wrong(&format_args!("of type {:?}", bundle.media_type)));
    }
    let Some(envelope) = bundle.dsse_envelope else { return Ok(Vec::new()) };
    let payload = STANDARD.decode(&envelope.payload).map_err(|e| wrong(&e))?;
    let payload = String::from_utf8(payload).map_err(|e| wrong(&e))?;
    let evidence = evidence(&bundle.verification_material);
    let signature = |made: Made| {
        Signature::enveloped(payload.clone(), envelope.payload_type.clone(), made.sig, evidence.clone())
    };
    Ok(envelope.signatures.into_iter().take(MAX_SIGNATURES).map(signature).collect())
}

/// Who made it, in the form that lies beside older signatures.
fn evidence(material: &Material) -> Option<Evidence> {
    let chain = material.chain.as_ref().map_or(&[][..], |chain| &chain.certificates);
    let all: Vec<&Raw> = material.certificate.iter().chain(chain).collect();
    let (leaf, authorities) = all.split_first()?;
    let log = material.tlog_entries.iter().find_map(|entry| Some((entry, entry.inclusion_promise.as_ref()?)));
    let bundle = log.map_or(json!({}), |(entry, promise)| {
        let id = STANDARD.decode(&entry.log_id.key_id).unwrap_or_default();
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        json!({
            "SignedEntryTimestamp": promise.signed_entry_timestamp,
            "Payload": {
                "body": entry.canonicalized_body, "integratedTime": entry.integrated_time,
                "logID": id, "logIndex": entry.log_index,
            },
        })
    });
    Some(Evidence {
        certificate: pem(leaf),
        chain: authorities.iter().map(|raw| pem(raw)).collect(),
        bundle: bundle.to_string(),
    })
}

fn pem(raw: &Raw) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for (place, letter) in raw.raw_bytes.chars().filter(char::is_ascii_graphic).enumerate() {
        if place > 0 && place % 64 == 0 {
            text.push('\n');
        }
        text.push(letter);
    }
    text + "\n-----END CERTIFICATE-----\n"
}

/// What the key has signed: the text, its type and the lengths of both (DSSE's pre-authentication encoding).
pub(crate) fn signed_bytes(kind: &str, payload: &str) -> Vec<u8> {
    format!("DSSEv1 {} {kind} {} {payload}", kind.len(), payload.len()).into_bytes()
}

/// Fails unless a statement, which is known to be signed, is cosign's of one of these digests, and of this repository
/// where one is wanted.
pub(crate) fn is_of(payload: &str, digests: &[&Digest], repository: Option<&str>) -> Result<()> {
    let refused = |why: String| Err(Error::new(ErrorKind::Denied, why));
    let statement: Statement = serde_json::from_str(payload)
        .map_err(|e| Error::new(ErrorKind::Denied, format!("signed statement: {e}")))?;
    if !statement.kind.starts_with(STATEMENT) || statement.predicate != SIGNED {
        return refused(format!("signed statement is of type {:?}", statement.predicate));
    }
    let is_ours = |subject: &&Subject| digests.iter().any(|digest| digest.hex() == subject.digest.sha256);
    let Some(subject) = statement.subject.iter().find(is_ours) else {
        let of: Vec<&str> = statement.subject.iter().map(|one| one.digest.sha256.as_str()).collect();
        return refused(format!("the signature is of {}", of.join(", ")));
    };
    let signed = Reference::parse(&subject.name).map(|name| name.name()).unwrap_or_default();
    match repository {
        Some(_) if subject.name.is_empty() => refused(
            "the signature (cosign 3's) names no repository, so it counts only where the rule says identity = \"any\""
                .to_owned(),
        ),
        Some(repository) if repository != signed => {
            refused(format!("the signature is of {:?}", subject.name))
        }
        _ => Ok(()),
    }
}

/// Numbers of 64 bits are texts in this JSON.
fn number<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Plain(u64),
        Text(String),
    }
    match Number::deserialize(from)? {
        Number::Plain(value) => Ok(value),
        Number::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_documented_one() {
        let signed = signed_bytes("http://example.com/HelloWorld", "hello world");
        assert_eq!(signed, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn what_is_no_bundle_is_no_signature() {
        for wrong in ["", "{}", "[]", r#"{"mediaType":"text/plain"}"#] {
            assert!(signatures(wrong).is_err(), "{wrong}");
        }
        let blob = format!(r#"{{"mediaType":"{MEDIA_TYPE}.v0.3+json","messageSignature":{{}}}}"#);
        assert_eq!(signatures(&blob).unwrap(), []);
    }
}
