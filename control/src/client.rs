//! A `kube::Client` whose transport is the server itself: no socket, no TLS, and a user that is known beforehand.

use crate::authn::User;
use crate::server::{Answer, OmitOwners, Server, TransportUser};
use http::Request;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Requests of one user to the server of this process.
#[derive(Clone)]
struct InProcess {
    server: Arc<Server>,
    user: User,
    /// Who writes, where the request does not say.
    agent: http::HeaderValue,
    /// Lists and watches come without the owners of fields.
    omits_owners: bool,
}

impl tower::Service<Request<kube::client::Body>> for InProcess {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<kube::client::Body>) -> Self::Future {
        request.extensions_mut().insert(TransportUser(self.user.clone()));
        if self.omits_owners {
            request.extensions_mut().insert(OmitOwners);
        }
        if let http::header::Entry::Vacant(vacant) = request.headers_mut().entry(http::header::USER_AGENT) {
            vacant.insert(self.agent.clone());
        }
        let server = self.server.clone();
        Box::pin(async move { Ok(server.handle(request).await) })
    }
}

/// A client with the rights of `user`, known to owners of fields as `agent`. Must be called within a tokio runtime.
pub(crate) fn in_process(server: Arc<Server>, user: User, agent: &'static str) -> kube::Client {
    let agent = http::HeaderValue::from_static(agent);
    kube::Client::new(InProcess { server, user, agent, omits_owners: false }, "default")
}

/// The same for copies of what is there, which need not say who owns which field: half of the bytes to read.
pub(crate) fn for_copies(server: Arc<Server>, user: User, agent: &'static str) -> kube::Client {
    let agent = http::HeaderValue::from_static(agent);
    kube::Client::new(InProcess { server, user, agent, omits_owners: true }, "default")
}
