//! Clients whose certificate can be exchanged: everyone holds clones of one client, and what a request is sent with is
//! decided when it is sent. Watches that are open go on with the old certificate until their server ends them, which
//! it does within minutes; the old certificate holds for much longer.

use super::{Token, kept::Kept};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use kube::client::Body;
use kube::config::Kubeconfig;
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};

impl Kept {
    /// A client with these credentials.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let mut config = config(&self.server, &self.ca_pem)?;
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig())?;
        let user = kubeconfig.auth_infos.into_iter().next().and_then(|named| named.auth_info);
        config.auth_info = user.unwrap_or_default();
        Ok(Client::try_from(config)?)
    }
}

/// A client that shows a bootstrap token.
pub(super) fn with_token(server: &str, ca_pem: &str, token: &Token) -> anyhow::Result<Client> {
    let mut config = config(server, ca_pem)?;
    config.auth_info.token = Some(token.text().into());
    Ok(Client::try_from(config)?)
}

fn config(server: &str, ca_pem: &str) -> anyhow::Result<Config> {
    let mut config = Config::new(server.parse()?);
    let certificates = CertificateDer::pem_slice_iter(ca_pem.as_bytes()).map(|der| Ok(der?.to_vec()));
    config.root_cert = Some(certificates.collect::<anyhow::Result<_>>()?);
    Ok(config)
}

/// The present client, behind all that were given out.
#[derive(Clone)]
pub(super) struct Exchangeable(Arc<RwLock<Client>>);

impl Exchangeable {
    pub(super) fn new(client: Client) -> Self {
        Self(Arc::new(RwLock::new(client)))
    }

    /// Sends each request with what is present then.
    pub(super) fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    pub(super) fn exchange(&self, client: Client) {
        // Nothing panics while it holds the lock.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = client;
    }

    fn present(&self) -> Client {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl tower::Service<Request<Body>> for Exchangeable {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.present();
        Box::pin(async move { client.send(request).await })
    }
}
