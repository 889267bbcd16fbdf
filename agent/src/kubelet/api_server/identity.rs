//! Who asks: the client's certificate, and what the kubelet may decide on its own about it. Everything else is asked
//! of the cluster (`delegated`).

use super::delegated::{self, Delegated, User};
use super::respond::Refusal;
use super::serving::Serving;
use anyhow::{Context, anyhow};
use http::header::AUTHORIZATION;
use http::{Method, Request, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::net::IpAddr;
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The group whose members may do everything, on nodes as in the cluster.
const MASTERS: &str = "system:masters";

/// What a connection says about who is behind it.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    certificate: Option<User>,
    loopback: bool,
}

impl Caller {
    /// The certificate has been verified by the handshake.
    pub(super) fn of(connection: &ServerConnection, peer: IpAddr) -> Self {
        let certificate = connection.peer_certificates().and_then(|chain| chain.first());
        // One that cannot be read is as good as none.
        let certificate = certificate.and_then(|certificate| user(certificate).ok());
        Self { certificate, loopback: peer.to_canonical().is_loopback() }
    }
}

/// Who may ask.
pub(super) struct Access {
    /// Who signs clients' certificates.
    roots: Option<Arc<RootCertStore>>,
    /// The cluster that knows the rest.
    delegated: Option<Delegated>,
}

impl Access {
    pub(super) fn new(client_ca: Option<&str>, delegated: Option<Delegated>) -> anyhow::Result<Self> {
        let Some(pem) = client_ca else { return Ok(Self { roots: None, delegated }) };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.context("client CA: not PEM")?).context("client CA: not a certificate")?;
        }
        anyhow::ensure!(!roots.is_empty(), "client CA: no certificate in it");
        Ok(Self { roots: Some(Arc::new(roots)), delegated })
    }

    /// A client's certificate is asked for but may be missing: it is refused in HTTP, where it can be told why.
    pub(super) fn server_config(&self, serving: Arc<Serving>) -> anyhow::Result<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
        let builder = match &self.roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            }
        };
        let mut config = builder.with_cert_resolver(serving);
        // Streams switch protocols, which HTTP/2 cannot.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Decides about one request.
    pub(super) async fn admit<B>(&self, caller: &Caller, request: &Request<B>) -> Result<(), Refusal> {
        let user = match (&caller.certificate, &self.delegated, bearer(request)) {
            (Some(user), _, _) => user.clone(),
            (None, Some(delegated), Some(token)) => delegated.who(token).await?,
            (None, _, _) if self.roots.is_none() && caller.loopback => return Ok(()),
            (None, _, _) if self.roots.is_none() => {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "Forbidden: without a client CA the kubelet API serves this machine only",
                ));
            }
            _ => return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized")),
        };
        if user.groups.iter().any(|group| group == MASTERS) {
            return Ok(());
        }
        let (verb, parts) = (verb(request.method()), delegated::subresources(request.uri().path()));
        let allowed = match &self.delegated {
            Some(delegated) => delegated.may(&user, verb, parts).await?,
            None => false,
        };
        if allowed {
            return Ok(());
        }
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            user.name,
            parts.join(" ")
        );
        Err(Refusal::new(StatusCode::FORBIDDEN, text))
    }
}

fn bearer<B>(request: &Request<B>) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

fn user(certificate: &CertificateDer<'_>) -> anyhow::Result<User> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| anyhow!("{error}"))?;
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let organizations = certificate.subject().iter_organization().filter_map(|name| name.as_str().ok());
    let groups = organizations.chain(["system:authenticated"]).map(str::to_owned).collect();
    Ok(User { name: name.unwrap_or_default().to_owned(), uid: String::new(), groups })
}
