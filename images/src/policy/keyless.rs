//! Signatures without a key of one's own: somebody shows who he is to an authority (Fulcio), which certifies a key that is
//! used once, within minutes, and the signature is entered into a public log (Rekor), which says when.
//!
//! Everything that proves this lies beside the signature, so nothing is asked of any network: the certificate and its
//! chain, and what the log has signed (the bundle). A rule names whom it believes: roots, keys of the logs, and who may
//! sign. In the order in which it is checked, since nothing is believed before it is known who said it:
//!
//! 1. the log has signed entry and time;
//! 2. the entry is of this text, this signature and this certificate;
//! 3. the certificate led to a root at that time, and is one for signing code;
//! 4. it is in a log of certificates, where the rule names one;
//! 5. it names somebody who may sign, and who vouches for that;
//! 6. its key made the signature.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::policy::certificate::Leaf;
use crate::policy::key::{self, PublicKey};
use crate::policy::pattern;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `1.3.6.1.5.5.7.3.3`: a certificate for signing code.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];
/// A chain is a few certificates.
const MAX_CHAIN: usize = 8;
const MAX_PEM: usize = 256 << 10;

/// What a rule says about keyless signatures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Believed {
    /// Files with the certificates of authorities.
    pub(crate) roots: Vec<PathBuf>,
    /// Files with the keys of logs of signatures.
    pub(crate) rekor: Vec<PathBuf>,
    /// Files with the keys of logs of certificates; not asked for where there are none.
    pub(crate) ctlog: Vec<PathBuf>,
    /// Who may sign.
    pub(crate) signers: Vec<Signer>,
}

/// Somebody who may sign.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signer {
    /// A mail address or URI as the certificate has it; `*` is anything within a part, `**` anything.
    identity: String,
    /// Who says that it is him.
    issuer: String,
}

impl Believed {
    /// What is missing of it, if anything of it is there.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        match self {
            _ if self.signers.is_empty() => Some("signers: names nobody"),
            _ if self.roots.is_empty() => Some("roots: signers need the certificates of an authority"),
            _ if self.rekor.is_empty() => Some("rekor: signers need the key of a log"),
            _ => None,
        }
    }

    /// Reads the files, whose paths are relative to a directory.
    pub(crate) fn read(&self, directory: &Path) -> Result<Trust> {
        let keys = |files: &[PathBuf]| -> Result<Vec<PublicKey>> {
            let read = files.iter().map(|file| key::read(&directory.join(file)));
            Ok(read.collect::<Result<Vec<_>>>()?.concat())
        };
        let mut roots = Vec::new();
        for file in &self.roots {
            let path = directory.join(file);
            let text = std::fs::read(&path).map_err(|e| Error::path("read", &path, e))?;
            let found = certificates(&text).map_err(|error| error.context(path.display()))?;
            if found.is_empty() {
                return Err(Error::invalid(format!("{}: no certificate in it", path.display())));
            }
            roots.extend(found);
        }
        let (rekor, ctlog) = (keys(&self.rekor)?, keys(&self.ctlog)?);
        Ok(Trust { roots, rekor, ctlog, signers: self.signers.clone() })
    }
}

/// The same with the contents of its files.
#[derive(Debug)]
pub(crate) struct Trust {
    roots: Vec<CertificateDer<'static>>,
    rekor: Vec<PublicKey>,
    ctlog: Vec<PublicKey>,
    signers: Vec<Signer>,
}

/// What lies beside a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// PEM.
    pub(crate) certificate: String,
    /// PEM: the authorities between that and a root, and perhaps the root.
    pub(crate) chain: String,
    /// What the log says, as JSON.
    pub(crate) bundle: String,
}

#[derive(Deserialize)]
struct Bundle {
    #[serde(rename = "SignedEntryTimestamp")]
    signature: String,
    #[serde(rename = "Payload")]
    entry: Entry,
}

/// In the order of its canonical form, which is what the log signs.
#[derive(Serialize, Deserialize)]
struct Entry {
    body: String,
    #[serde(rename = "integratedTime")]
    time: u64,
    #[serde(rename = "logID")]
    log: String,
    #[serde(rename = "logIndex")]
    index: u64,
}

#[derive(Deserialize)]
#[serde(tag = "kind", content = "spec", rename_all = "lowercase")]
enum Body {
    HashedRekord(Spec),
    Dsse(EnvelopeSpec),
}

/// What is entered of an envelope.
#[derive(Deserialize)]
struct EnvelopeSpec {
    #[serde(rename = "payloadHash")]
    payload: Hash,
    signatures: Vec<MadeInEnvelope>,
}

#[derive(Deserialize)]
struct MadeInEnvelope {
    signature: String,
    verifier: String,
}

/// What was signed, and what the key made its signature of: another thing in an envelope.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) signed: &'a [u8],
}

#[derive(Deserialize)]
struct Spec {
    data: Data,
    signature: Made,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
struct Made {
    content: String,
    #[serde(rename = "publicKey")]
    key: Content,
}

#[derive(Deserialize)]
struct Content {
    content: String,
}

impl Trust {
    /// Fails unless somebody who may sign made this signature of this text.
    pub(crate) fn check(&self, text: &Text<'_>, signature: &[u8], evidence: &Evidence) -> Result<()> {
        let der = certificates(evidence.certificate.as_bytes())?;
        let der = der.first().ok_or_else(|| denied("the signature has no certificate"))?;
        let entry = self.entry(&evidence.bundle)?;
        is_about(&entry, text.payload, signature, der)?;
        let mut chain = certificates(evidence.chain.as_bytes())?;
        chain.truncate(MAX_CHAIN);
        self.lead_to_root(der, &chain, entry.time)?;
        let leaf = Leaf::parse(der)?;
        let authorities = chain.iter().chain(&self.roots);
        if !self.ctlog.is_empty() && !leaf.is_logged(&self.ctlog, authorities) {
            return Err(denied("the certificate is in no log of certificates that the policy names"));
        }
        if !leaf.signs_code {
            return Err(denied("the certificate is not for signing code"));
        }
        self.may_sign(&leaf)?;
        match leaf.key.verifies(text.signed, signature) {
            true => Ok(()),
            false => Err(denied("the signature was not made by the key of its certificate")),
        }
    }

    /// The log's entry, once it is known that the log has signed it.
    fn entry(&self, bundle: &str) -> Result<Entry> {
        let bundle: Bundle =
            serde_json::from_str(bundle).map_err(|e| denied(&format!("the log's bundle: {e}")))?;
        let canonical = serde_json::to_vec(&bundle.entry).map_err(|e| denied(&e.to_string()))?;
        let signature = STANDARD.decode(&bundle.signature).unwrap_or_default();
        let mut keys = self.rekor.iter().filter(|key| key.id().hex() == bundle.entry.log);
        match keys.any(|key| key.verifies(&canonical, &signature)) {
            true => Ok(bundle.entry),
            false => Err(denied("no log that the policy names has the signature")),
        }
    }

    fn lead_to_root(&self, der: &CertificateDer<'_>, chain: &[CertificateDer<'_>], time: u64) -> Result<()> {
        let wrong = |error: webpki::Error| {
            denied(&format!("the certificate leads to no root of the policy: {error}"))
        };
        let anchors = self.roots.iter().map(webpki::anchor_from_trusted_cert);
        let anchors: Vec<TrustAnchor<'_>> = anchors.collect::<std::result::Result<_, _>>().map_err(wrong)?;
        let leaf = webpki::EndEntityCert::try_from(der).map_err(wrong)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(time));
        // Authorities need not say what they are for; whoever signs must.
        let usage = webpki::KeyUsage::required_if_present(CODE_SIGNING);
        leaf.verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, chain, time, usage, None, None)
            .map(drop)
            .map_err(wrong)
    }

    fn may_sign(&self, leaf: &Leaf) -> Result<()> {
        let may = |signer: &Signer| {
            leaf.issuer.as_ref() == Some(&signer.issuer)
                && leaf
                    .names
                    .iter()
                    .any(|name| *name == signer.identity || pattern::matches(&signer.identity, name))
        };
        if self.signers.iter().any(may) {
            return Ok(());
        }
        let (names, issuer) = (leaf.names.join(", "), leaf.issuer.as_deref().unwrap_or("nobody"));
        Err(denied(&format!("the signature is by {names} (says {issuer}), who may not sign")))
    }
}

/// Fails unless the log's entry is of this text, signature and certificate.
fn is_about(entry: &Entry, text: &[u8], signature: &[u8], der: &CertificateDer<'_>) -> Result<()> {
    let body = STANDARD.decode(&entry.body).unwrap_or_default();
    let other = || denied("the log's entry is of something else");
    let body: Body = serde_json::from_slice(&body).map_err(|_| other())?;
    let is_made = |content: &str, certificate: &str| {
        let certificate = STANDARD.decode(certificate).unwrap_or_default();
        STANDARD.decode(content).is_ok_and(|made| made == signature)
            && certificates(&certificate).unwrap_or_default().first() == Some(der)
    };
    let (hash, made) = match body {
        Body::HashedRekord(Spec { data, signature }) => {
            (data.hash, is_made(&signature.content, &signature.key.content))
        }
        Body::Dsse(spec) => {
            let mut all = spec.signatures.iter();
            (spec.payload, all.any(|made| is_made(&made.signature, &made.verifier)))
        }
    };
    let same = made && hash.algorithm == "sha256" && hash.value == Digest::of(text).hex();
    if same { Ok(()) } else { Err(other()) }
}

/// Every certificate of a PEM text.
fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    if text.len() > MAX_PEM {
        return Err(Error::invalid("certificates: too many"));
    }
    let found = CertificateDer::pem_slice_iter(text).collect::<std::result::Result<_, _>>();
    found.map_err(|e| Error::invalid(format!("certificate: {e}")))
}

fn denied(why: &str) -> Error {
    Error::new(ErrorKind::Denied, why.to_owned())
}
