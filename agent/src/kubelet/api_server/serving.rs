//! The certificate that the kubelet API shows; it can be exchanged while connections are served.

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::sync::{Arc, PoisonError, RwLock};

/// The present certificate.
#[derive(Debug)]
pub struct Serving(RwLock<Arc<CertifiedKey>>);

impl Serving {
    /// With the given certificate and key (PEM), or with one that we sign ourselves, as a kubelet does that was given
    /// none: clients that want to be sure configure one.
    pub(super) fn new(given: Option<&(String, String)>, node_name: &str) -> anyhow::Result<Self> {
        let present = match given {
            Some((certificate, key)) => certified(certificate, key)?,
            None => self_signed(node_name)?,
        };
        Ok(Self(RwLock::new(Arc::new(present))))
    }

    /// Shows another certificate (PEM, with its key) from the next connection on.
    pub fn exchange(&self, certificate: &str, key: &str) -> anyhow::Result<()> {
        let next = Arc::new(certified(certificate, key)?);
        // Nothing panics while it holds the lock.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn with_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<CertifiedKey> {
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).context("kubelet API: serving certificate")
}

fn certified(certificate: &str, key: &str) -> anyhow::Result<CertifiedKey> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("kubelet API: key is not PEM")?;
    with_key(chain.context("kubelet API: certificate is not PEM")?, key)
}

fn self_signed(node_name: &str) -> anyhow::Result<CertifiedKey> {
    let names = [node_name.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("kubelet API: make a certificate")?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    with_key(vec![made.cert.der().clone()], key.into())
}
