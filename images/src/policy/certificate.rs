//! What a certificate of a keyless signature says: whose it is, who says so, which key it certifies, and which logs of
//! certificates have promised to keep it.

use crate::error::{Error, ErrorKind, Result};
use crate::policy::key::PublicKey;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::SignedCertificateTimestamp;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// Who vouches for the identity, as text; and the same in DER, which newer certificates have.
const ISSUER: &str = "1.3.6.1.4.1.57264.1.1";
const ISSUER_DER: &str = "1.3.6.1.4.1.57264.1.8";
/// The promises of logs.
const PROMISES: &[u8] = b"\x06\x0a\x2b\x06\x01\x04\x01\xd6\x79\x02\x04\x02";
/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const EXTENSIONS: u8 = 0xa3;
const UTF8: u8 = 0x0c;

/// One certificate.
#[derive(Debug)]
pub(crate) struct Leaf {
    /// Mail addresses and URIs.
    pub(crate) names: Vec<String>,
    pub(crate) issuer: Option<String>,
    pub(crate) key: PublicKey,
    /// It is for signing code.
    pub(crate) signs_code: bool,
    promises: Vec<Promise>,
    /// The name of the authority.
    authority: Vec<u8>,
    /// What the authority signed, without the promises: what the logs have promised to keep.
    promised: Option<Vec<u8>>,
}

/// A log's promise.
#[derive(Debug)]
struct Promise {
    log: Vec<u8>,
    /// Milliseconds since 1970.
    time: u64,
    extensions: Vec<u8>,
    signature: Vec<u8>,
}

impl Leaf {
    pub(crate) fn parse(der: &CertificateDer<'_>) -> Result<Self> {
        let wrong = |why: String| Error::new(ErrorKind::Denied, format!("certificate: {why}"));
        let (_, found) = X509Certificate::from_der(der).map_err(|e| wrong(e.to_string()))?;
        let mut leaf = Self {
            names: Vec::new(),
            issuer: None,
            key: PublicKey::of_der(found.public_key().raw)?,
            signs_code: false,
            promises: Vec::new(),
            authority: found.issuer().as_raw().to_vec(),
            promised: without_promises(found.tbs_certificate.as_ref()),
        };
        for extension in found.extensions() {
            match (extension.oid.to_id_string().as_str(), extension.parsed_extension()) {
                (ISSUER_DER, _) => leaf.issuer = utf8(extension.value),
                (ISSUER, _) if leaf.issuer.is_none() => {
                    leaf.issuer = String::from_utf8(extension.value.to_vec()).ok();
                }
                (_, ParsedExtension::ExtendedKeyUsage(usage)) => leaf.signs_code = usage.code_signing,
                (_, ParsedExtension::SubjectAlternativeName(names)) => {
                    leaf.names.extend(names.general_names.iter().filter_map(name));
                }
                (_, ParsedExtension::SCT(promises)) => leaf.promises.extend(promises.iter().map(promise)),
                _ => {}
            }
        }
        Ok(leaf)
    }

    /// Whether one of these logs has promised to keep it, in the name of one of these authorities.
    pub(crate) fn is_logged<'a>(
        &self,
        logs: &[PublicKey],
        authorities: impl Iterator<Item = &'a CertificateDer<'static>>,
    ) -> bool {
        let Some(promised) = &self.promised else { return false };
        let keys: Vec<Vec<u8>> = authorities.filter_map(|der| self.key_of(der)).collect();
        let kept = |promise: &Promise, authority: &[u8]| {
            let text = promise.text(authority, promised);
            let mut logs = logs.iter().filter(|log| log.id().hex() == hex(&promise.log));
            logs.any(|log| log.verifies(&text, &promise.signature))
        };
        self.promises.iter().any(|promise| keys.iter().any(|key| kept(promise, key)))
    }

    /// The hash of an authority's key, if it has the name of ours.
    fn key_of(&self, der: &CertificateDer<'_>) -> Option<Vec<u8>> {
        let (_, found) = X509Certificate::from_der(der).ok()?;
        let ours = found.subject().as_raw() == self.authority;
        ours.then(|| ring::digest::digest(&ring::digest::SHA256, found.public_key().raw).as_ref().to_vec())
    }
}

impl Promise {
    /// What a log signs (RFC 6962, 3.2): version, type, time, the kind of entry, the authority, the certificate.
    fn text(&self, authority: &[u8], certificate: &[u8]) -> Vec<u8> {
        let length = |value: usize, bytes: usize| value.to_be_bytes()[size_of::<usize>() - bytes..].to_vec();
        [
            &[0, 0][..],
            &self.time.to_be_bytes(),
            &[0, 1],
            authority,
            &length(certificate.len(), 3),
            certificate,
            &length(self.extensions.len(), 2),
            &self.extensions,
        ]
        .concat()
    }
}

fn promise(promise: &SignedCertificateTimestamp<'_>) -> Promise {
    Promise {
        log: promise.id.key_id.to_vec(),
        time: promise.timestamp,
        extensions: promise.extensions.0.to_vec(),
        signature: promise.signature.data.to_vec(),
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::RFC822Name(text) | GeneralName::URI(text) => Some((*text).to_owned()),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn utf8(der: &[u8]) -> Option<String> {
    let (tag, body, _) = element(der)?;
    if tag == UTF8 { String::from_utf8(body.to_vec()).ok() } else { None }
}

/// The first element of DER: its tag, its body, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (body, rest) = rest.split_at_checked(length)?;
    Some((*tag, body, rest))
}

fn wrapped(tag: u8, body: &[u8]) -> Vec<u8> {
    let bytes = body.len().to_be_bytes();
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count().min(bytes.len() - 1)..];
    let length = match body.len() {
        0..=0x7f => bytes.to_vec(),
        _ => [&[0x80 | u8::try_from(bytes.len()).unwrap_or(0x7f)], bytes].concat(),
    };
    [&[tag], &length[..], body].concat()
}

/// A certificate's signed part as it was before the promises came into it.
fn without_promises(signed: &[u8]) -> Option<Vec<u8>> {
    let (_, mut rest, _) = element(signed)?;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (tag, body, after) = element(rest)?;
        match tag {
            EXTENSIONS => fields.extend(wrapped(EXTENSIONS, &extensions_without(body)?)),
            _ => fields.extend_from_slice(&rest[..rest.len() - after.len()]),
        }
        rest = after;
    }
    Some(wrapped(SEQUENCE, &fields))
}

fn extensions_without(list: &[u8]) -> Option<Vec<u8>> {
    let (_, mut rest, _) = element(list)?;
    let mut kept = Vec::new();
    while !rest.is_empty() {
        let (_, body, after) = element(rest)?;
        if !body.starts_with(PROMISES) {
            kept.extend_from_slice(&rest[..rest.len() - after.len()]);
        }
        rest = after;
    }
    Some(wrapped(SEQUENCE, &kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_are_taken_apart_and_put_together() {
        for length in [0, 1, 127, 128, 255, 256, 70_000] {
            let body = vec![7; length];
            let whole = wrapped(SEQUENCE, &body);
            assert_eq!(element(&whole), Some((SEQUENCE, &body[..], &[][..])), "{length}");
        }
        assert_eq!(element(&[SEQUENCE, 5, 1]), None);
        assert_eq!(utf8(&wrapped(UTF8, b"https://a")), Some("https://a".to_owned()));
    }

    #[test]
    fn promises_are_cut_out() {
        let promise = wrapped(SEQUENCE, &[PROMISES, &wrapped(4, b"sct")].concat());
        let other = wrapped(SEQUENCE, b"\x06\x03\x55\x1d\x0f\x04\x01\x00");
        let with = |extensions: &[u8]| {
            let list = wrapped(EXTENSIONS, &wrapped(SEQUENCE, extensions));
            wrapped(SEQUENCE, &[&wrapped(2, b"\x01"), &list[..]].concat())
        };
        let whole = with(&[&other[..], &promise].concat());
        assert_eq!(without_promises(&whole).unwrap(), with(&other));
    }

    proptest! {
        #[test]
        fn anything_is_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = without_promises(&bytes);
            let _ = Leaf::parse(&CertificateDer::from(bytes));
        }
    }
}
