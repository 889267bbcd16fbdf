//! TLS on both sides of the server: what it shows to its clients, and how it meets agents. The crypto provider is
//! chosen here and nowhere else.

use crate::pki::Identity;
use anyhow::Context as _;
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::sync::{Arc, PoisonError, RwLock};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The server's present certificate; can be replaced while connections come and go.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    current: RwLock<Arc<CertifiedKey>>,
}

impl ServerCertificate {
    pub(crate) fn new(identity: &Identity) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self { current: RwLock::new(Arc::new(certified_key(identity)?)) }))
    }

    pub(crate) fn replace(&self, identity: &Identity) -> anyhow::Result<()> {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified_key(identity)?);
        Ok(())
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

fn parts(identity: &Identity) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(identity.certificate.as_bytes()).collect();
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).context("private key")?;
    Ok((chain.context("certificate")?, key))
}

fn certified_key(identity: &Identity) -> anyhow::Result<CertifiedKey> {
    let (chain, key) = parts(identity)?;
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}

/// The server's side: HTTP/2 and 1.1; a client certificate is verified against the CAs if one is shown.
pub(crate) fn server(ca_pem: &str, certificate: Arc<ServerCertificate>) -> anyhow::Result<ServerConfig> {
    let verifier = client_verifier(ca_pem)?;
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The way to an agent: our client certificate, HTTP/1.1 because connections are upgraded.
pub(crate) fn kubelet_client(identity: &Identity) -> anyhow::Result<ClientConfig> {
    let (chain, key) = parts(identity)?;
    Ok(unverified()?.with_client_auth_cert(chain, key)?)
}

/// The way to a pod or a service: nobody knows who signed what they show, and our certificate is not theirs to see.
pub(crate) fn anonymous_client() -> anyhow::Result<ClientConfig> {
    Ok(unverified()?.with_no_client_auth())
}

fn unverified() -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider()))))
}

/// The way to a webhook: its certificate is verified by the CAs of `bundle` (PEM), or by those of the system.
pub(crate) fn client(bundle: Option<&[u8]>) -> anyhow::Result<ClientConfig> {
    Ok(verified(bundle)?.with_no_client_auth())
}

/// The way to another API server, which is shown who we are; verified like a webhook, or not at all.
pub(crate) fn front_proxy(
    identity: &Identity,
    bundle: Option<&[u8]>,
    verifies: bool,
) -> anyhow::Result<ClientConfig> {
    let (chain, key) = parts(identity)?;
    let builder = if verifies { verified(bundle)? } else { unverified()? };
    let mut config = builder.with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Verifies certificates of clients by the authority of `ca_pem`.
pub(crate) fn client_verifier(ca_pem: &str) -> anyhow::Result<Arc<dyn ClientCertVerifier>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(root?)?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    Ok(builder.allow_unauthenticated().build()?)
}

fn verified(bundle: Option<&[u8]>) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    match bundle {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate?)?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots))
}

/// Why a handshake failed, in the words that people know from programs in Go.
pub(crate) fn told(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(CertificateError::Expired)) => {
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Accepts whatever certificate the other side shows, but not a forged handshake.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
