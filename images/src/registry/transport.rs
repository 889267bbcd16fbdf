//! HTTP connections: one pool per kind of TLS, with a deadline on everything.

use crate::error::{Error, ErrorKind, Result};
use crate::registry::hosts::TlsSettings;
use crate::registry::proxy::{Connector, Proxies};
use crate::registry::retry::Patience;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Most bytes that one read of the network gives. Whoever is slower than the network holds many such pieces, of several
/// layers at once.
const MAX_PIECE: usize = 128 << 10;

/// A request's body.
pub(crate) type Body = UnsyncBoxBody<Bytes, Error>;
type HttpsClient = Client<HttpsConnector<Connector>, Body>;

/// The connections of one kind of TLS, or of none.
#[derive(Debug, Clone)]
struct Pool {
    client: HttpsClient,
    connector: Connector,
}

/// A body of bytes at hand.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Transport {
    patience: Patience,
    proxies: Proxies,
    /// Held only to look up or insert; never across a wait.
    pools: Mutex<HashMap<Option<TlsSettings>, Pool>>,
}

impl Transport {
    pub(crate) fn new(patience: Patience, proxies: Proxies) -> Self {
        Self { patience, proxies, pools: Mutex::new(HashMap::new()) }
    }

    pub(crate) fn patience(&self) -> Patience {
        self.patience
    }

    /// Sends one request and waits for the head of its response. `deadline` is for the whole upload; none for
    /// requests without a body worth mentioning.
    pub(crate) async fn send(
        &self,
        tls: &TlsSettings,
        mut request: Request<Body>,
        uploads: bool,
    ) -> Result<Response<Incoming>> {
        let plain = request.uri().scheme() == Some(&http::uri::Scheme::HTTP);
        let pool = self.pool(Some(tls).filter(|_| !plain)).await?;
        let target = request.uri().clone();
        let host = target.authority().map(ToString::to_string).unwrap_or_default();
        if let Some(proof) = pool.connector.authorization(&target) {
            request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, proof);
        }
        let answer = pool.client.request(request);
        let response = if uploads {
            // The body is paced by its own source; the server may answer only after all of it.
            answer.await
        } else {
            let late = |_| unavailable(format!("{host}: no response within {:?}", self.patience.head));
            tokio::time::timeout(self.patience.head, answer).await.map_err(late)?
        };
        response.map_err(|error| unavailable(format!("{host}: {}", chain(&error))))
    }

    async fn pool(&self, tls: Option<&TlsSettings>) -> Result<Pool> {
        let key = tls.cloned();
        if let Some(pool) = lock(&self.pools).get(&key) {
            return Ok(pool.clone());
        }
        // The system's roots are hundreds of files: plain HTTP does not wait for them.
        let settings = key.clone().unwrap_or(TlsSettings { skip_verify: true, ..TlsSettings::default() });
        let config = tokio::task::spawn_blocking(move || client_config(&settings)).await;
        let config = config.map_err(|e| Error::new(ErrorKind::Io, format!("load certificates: {e}")))??;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(self.patience.connect));
        tcp.set_nodelay(true);
        let connector = Connector::new(&self.proxies, tcp);
        let https = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector.clone());
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(std::time::Duration::from_secs(30))
            .http1_max_buf_size(MAX_PIECE)
            .build(https);
        let pool = Pool { client, connector };
        Ok(lock(&self.pools).entry(key).or_insert(pool).clone())
    }
}

fn unavailable(message: String) -> Error {
    Error::new(ErrorKind::Unavailable, message)
}

/// A poisoned lock only means that another task panicked between two map operations.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// hyper's own text says little; its causes say what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

fn client_config(settings: &TlsSettings) -> Result<rustls::ClientConfig> {
    let failed = |e: rustls::Error| Error::invalid(format!("TLS settings: {e}"));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
    let builder = if settings.skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(AcceptAnything(provider)))
    } else {
        builder.with_root_certificates(roots(settings)?)
    };
    match settings.clients.first() {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let bad = |path: &std::path::Path, e| Error::invalid(format!("{}: {e}", path.display()));
            let certificates: std::result::Result<Vec<_>, _> =
                CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
            let certificates = certificates.map_err(|e| bad(certificate, e))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|e| bad(key, e))?;
            builder.with_client_auth_cert(certificates, key).map_err(failed)
        }
    }
}

/// The system's roots and those that were configured. A certificate of the system that cannot be read is skipped:
/// it can only make fewer servers trusted.
fn roots(settings: &TlsSettings) -> Result<rustls::RootCertStore> {
    let mut store = rustls::RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for path in &settings.roots {
        let bad = |e: rustls::pki_types::pem::Error| Error::invalid(format!("{}: {e}", path.display()));
        for certificate in CertificateDer::pem_file_iter(path).map_err(bad)? {
            let added = store.add(certificate.map_err(bad)?);
            added.map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
        }
    }
    Ok(store)
}

/// `skip_verify = true`: encryption without knowing with whom.
#[derive(Debug)]
struct AcceptAnything(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &rustls::pki_types::ServerName<'_>,
        _ocsp_response: &[u8],
        _now: rustls::pki_types::UnixTime,
    ) -> std::result::Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> std::result::Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
