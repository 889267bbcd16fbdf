//! Public keys in PEM, as `cosign generate-key-pair` and `openssl ec -pubout` write them.

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use base64::Engine as _;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use std::path::Path;

/// The fixed beginning of a SubjectPublicKeyInfo (RFC 5480) for an uncompressed point of P-256.
const P256: &[u8] = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
/// The same for Ed25519 (RFC 8410).
const ED25519_INFO: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
const MAX_FILE: usize = 64 << 10;
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// One key that images may be signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    EcdsaP256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl PublicKey {
    /// A key as it stands in a certificate: a SubjectPublicKeyInfo.
    pub(crate) fn of_der(der: &[u8]) -> Result<Self> {
        match (der.strip_prefix(P256), der.strip_prefix(ED25519_INFO)) {
            (Some(point), _) if point.len() == 65 && point.first() == Some(&4) => {
                Ok(Self::EcdsaP256(point.to_vec()))
            }
            (_, Some(point)) if point.len() == 32 => Ok(Self::Ed25519(point.to_vec())),
            _ => Err(Error::new(
                ErrorKind::Unsupported,
                "public key: only ECDSA P-256 and Ed25519 are supported",
            )),
        }
    }

    /// The name of a log: the digest of its key.
    pub(crate) fn id(&self) -> Digest {
        match self {
            Self::EcdsaP256(point) => Digest::of(&[P256, point].concat()),
            Self::Ed25519(point) => Digest::of(&[ED25519_INFO, point].concat()),
        }
    }

    /// Whether this key made the signature of the message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let (algorithm, key): (&'static dyn VerificationAlgorithm, &[u8]) = match self {
            Self::EcdsaP256(key) => (&ECDSA_P256_SHA256_ASN1, key),
            Self::Ed25519(key) => (&ED25519, key),
        };
        UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
    }
}

/// Every key of a file, which must hold at least one.
pub(crate) fn read(path: &Path) -> Result<Vec<PublicKey>> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::path("read", path, e))?;
    parse(&text).map_err(|error| error.context(path.display()))
}

fn parse(text: &str) -> Result<Vec<PublicKey>> {
    if text.len() > MAX_FILE {
        return Err(Error::invalid("public key: file is too large"));
    }
    let blocks = text.split(BEGIN).skip(1);
    let keys: Vec<PublicKey> = blocks.map(block).collect::<Result<_>>()?;
    if keys.is_empty() {
        return Err(Error::invalid(format!("no public key in it: expected {BEGIN}")));
    }
    Ok(keys)
}

fn block(text: &str) -> Result<PublicKey> {
    let (body, _) = text.split_once(END).ok_or_else(|| Error::invalid("public key: is cut off"))?;
    let base64: String = body.split_whitespace().collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(base64)
        .map_err(|_| Error::invalid("public key: is not base64"))?;
    PublicKey::of_der(&der)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key() {
        let pem = |body: &str| format!("{BEGIN}\n{body}\n{END}\n");
        for bad in ["", "ssh-ed25519 AAAA", BEGIN, &pem("!!"), &pem("AAAA"), &pem("")] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let ed25519 = pem("MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=");
        let both = parse(&(ed25519.clone() + &ed25519)).unwrap();
        assert_eq!(both.len(), 2);
        assert!(!both[0].verifies(b"message", b"signature"));
    }
}
