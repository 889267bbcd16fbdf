//! Signatures as cosign keeps them beside an image: a small JSON text that names the image's digest, signed by a key.
//!
//! They lie in the image's own repository under the tag `sha256-HEX.sig`: a manifest whose layers are the texts and
//! whose annotations hold the signatures. Anybody who may push there may add some, so all are looked at, up to a
//! limit, and only one that a configured key made counts. What cosign 3 makes instead is in `bundle`.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Descriptor, Document};
use crate::policy::bundle;
use crate::policy::key::PublicKey;
use crate::policy::keyless::{Evidence, Text, Trust};
use crate::reference::Reference;
use crate::registry::Registry;
use crate::registry::download::document;
use crate::registry::retry::Patience;
use base64::Engine as _;
use serde::{Deserialize, Serialize};

const ANNOTATION: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const BUNDLE: &str = "dev.sigstore.cosign/bundle";
const KIND: &str = "cosign container image signature";
pub(crate) const MAX_SIGNATURES: usize = 64;
const MAX_PAYLOAD: u64 = 64 << 10;

/// One signature and what it is of. Kept with the image, so that it can be checked again before every run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Signature {
    /// The signed text, exactly.
    payload: String,
    /// Base64.
    signature: String,
    /// Who made it, where that was nobody's own key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
    /// Type of the text, where it is signed in an envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    envelope: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: SignedIdentity,
    image: SignedImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct SignedIdentity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Signature {
    /// One whose text is in an envelope.
    pub(crate) fn enveloped(
        payload: String,
        kind: String,
        signature: String,
        evidence: Option<Evidence>,
    ) -> Self {
        Self { payload, signature, evidence, envelope: Some(kind) }
    }

    /// Fails unless one of the keys made it, or somebody who may sign, of one of these digests and, where given, in this
    /// repository's name.
    pub(crate) fn check(
        &self,
        keys: &[PublicKey],
        trust: Option<&Trust>,
        digests: &[&Digest],
        repository: Option<&str>,
    ) -> Result<()> {
        let refused = |why: String| Err(Error::new(ErrorKind::Denied, why));
        let signature = base64::engine::general_purpose::STANDARD.decode(&self.signature).unwrap_or_default();
        // Nothing of the text is looked at before it is known to be signed.
        let signed = match &self.envelope {
            Some(kind) => bundle::signed_bytes(kind, &self.payload),
            None => self.payload.clone().into_bytes(),
        };
        if !keys.iter().any(|key| key.verifies(&signed, &signature)) {
            let (Some(trust), Some(evidence)) = (trust, &self.evidence) else {
                return refused("no signature is by a key that the policy names".to_owned());
            };
            let text = Text { payload: self.payload.as_bytes(), signed: &signed };
            trust.check(&text, &signature, evidence)?;
        }
        if self.envelope.is_some() {
            return bundle::is_of(&self.payload, digests, repository);
        }
        let payload: Payload = serde_json::from_str(&self.payload)
            .map_err(|e| Error::new(ErrorKind::Denied, format!("signed text: {e}")))?;
        let critical = payload.critical;
        if critical.kind != KIND {
            return refused(format!("signed text is of type {:?}", critical.kind));
        }
        if !digests.iter().any(|digest| digest.as_str() == critical.image.digest) {
            return refused(format!("the signature is of {}", critical.image.digest));
        }
        let signed =
            Reference::parse(&critical.identity.reference).map(|name| name.name()).unwrap_or_default();
        match repository {
            Some(repository) if repository != signed => {
                refused(format!("the signature is of {:?}", critical.identity.reference))
            }
            _ => Ok(()),
        }
    }
}

/// Every signature of a digest that the repository holds.
pub(crate) async fn fetch(
    registry: &dyn Registry,
    image: &Reference,
    digest: &Digest,
    patience: Patience,
) -> Result<Vec<Signature>> {
    let mut found = bundle::fetch(registry, image, digest, patience).await?;
    let tag = format!("sha256-{}.sig", digest.hex());
    let name = Reference { tag: Some(tag), digest: None, ..image.clone() };
    let resolved = match registry.resolve(&name).await {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        other => other?,
    };
    let Document::Manifest(manifest) = Document::parse(&resolved.bytes, resolved.content_type.as_deref())?
    else {
        return Err(Error::invalid(format!("{name}: signatures are kept in a manifest, this is an index")));
    };
    for layer in manifest.layers.iter().take(MAX_SIGNATURES) {
        let Some(signature) = layer.annotations.get(ANNOTATION) else { continue };
        let payload = text_of(registry, &name, layer, MAX_PAYLOAD, patience).await?;
        let evidence = evidence(layer);
        found.push(Signature { payload, signature: signature.clone(), evidence, envelope: None });
    }
    Ok(found)
}

/// What proves a keyless signature, in the annotations beside it.
fn evidence(layer: &Descriptor) -> Option<Evidence> {
    let (certificate, bundle) = (layer.annotations.get(CERTIFICATE)?, layer.annotations.get(BUNDLE)?);
    let chain = layer.annotations.get(CHAIN).cloned().unwrap_or_default();
    Some(Evidence { certificate: certificate.clone(), chain, bundle: bundle.clone() })
}

/// A small blob, whole.
pub(crate) async fn text_of(
    registry: &dyn Registry,
    name: &Reference,
    layer: &Descriptor,
    most: u64,
    patience: Patience,
) -> Result<String> {
    if layer.size > most {
        return Err(Error::invalid(format!("{name}: a signed text of {} bytes", layer.size)));
    }
    let bytes = document(registry, name, layer, "signed text", patience).await?;
    String::from_utf8(bytes.to_vec())
        .map_err(|_| Error::invalid(format!("{name}: a signed text is not UTF-8")))
}
