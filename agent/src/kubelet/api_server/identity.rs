//! Our certificate, and who is behind a client's.

use anyhow::{Context, anyhow};
use http::StatusCode;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::net::IpAddr;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The group whose members may do everything, on nodes as in the cluster.
const MASTERS: &str = "system:masters";

use super::respond::Refusal;

/// Whether a connection's requests are answered.
pub(super) type Admission = Result<(), Refusal>;

/// Who may ask.
pub(super) enum Access {
    /// Clients with a certificate of these.
    Certificates(Arc<RootCertStore>),
    /// Programs on this machine.
    ThisMachine,
}

impl Access {
    pub(super) fn new(client_ca: Option<&str>) -> anyhow::Result<Self> {
        let Some(pem) = client_ca else { return Ok(Self::ThisMachine) };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.context("client CA: not PEM")?).context("client CA: not a certificate")?;
        }
        anyhow::ensure!(!roots.is_empty(), "client CA: no certificate in it");
        Ok(Self::Certificates(Arc::new(roots)))
    }

    /// A client's certificate is asked for but may be missing: it is refused in HTTP, where it can be told why.
    pub(super) fn server_config(
        &self,
        tls: Option<&(String, String)>,
        node_name: &str,
    ) -> anyhow::Result<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match self {
            Self::ThisMachine => builder.with_no_client_auth(),
            Self::Certificates(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            }
        };
        let (chain, key) = match tls {
            Some((certificate, key)) => given(certificate, key)?,
            None => self_signed(node_name)?,
        };
        let mut config = builder.with_single_cert(chain, key).context("kubelet API: serving certificate")?;
        // Streams switch protocols, which HTTP/2 cannot.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Decides for a whole connection.
    pub(super) fn admit(&self, connection: &ServerConnection, peer: IpAddr) -> Admission {
        match self {
            Self::ThisMachine if peer.to_canonical().is_loopback() => Ok(()),
            Self::ThisMachine => Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "Forbidden: without a client CA the kubelet API serves this machine only",
            )),
            Self::Certificates(_) => {
                let certificate = connection.peer_certificates().and_then(|chain| chain.first());
                let certificate =
                    certificate.ok_or_else(|| Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized"))?;
                if is_master(certificate).unwrap_or(false) {
                    return Ok(());
                }
                Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "Forbidden: the client is not in group system:masters",
                ))
            }
        }
    }
}

fn is_master(certificate: &CertificateDer<'_>) -> anyhow::Result<bool> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| anyhow!("{error}"))?;
    let mut organizations = certificate.subject().iter_organization();
    Ok(organizations.any(|organization| organization.as_str() == Ok(MASTERS)))
}

type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn given(certificate: &str, key: &str) -> anyhow::Result<ChainAndKey> {
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).context("kubelet API: key is not PEM")?;
    Ok((chain.context("kubelet API: certificate is not PEM")?, key))
}

/// As a kubelet does that was given none: clients that want to be sure configure one.
fn self_signed(node_name: &str) -> anyhow::Result<ChainAndKey> {
    let names = [node_name.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("kubelet API: make a certificate")?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    Ok((vec![made.cert.der().clone()], key.into()))
}
