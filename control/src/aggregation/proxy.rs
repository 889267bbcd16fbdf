//! A request on its way through: whoever it is from is named in headers, what the client proved itself by stays here.
//! Bodies pass piece by piece in both directions, and a connection that becomes something else than HTTP is bytes.

use super::Remote;
use super::link::Link;
use crate::authn::User;
use crate::authn::front_proxy::vouch;
use crate::random;
use crate::server::{Answer, Body, Server, forward, forwarded, full};
use crate::service_target::Target;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;

/// A request that is to be passed on.
pub(crate) struct Passed {
    pub(crate) method: Method,
    /// Path and query, as they came.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) upgrade: OnUpgrade,
}

/// Passes a request of `user` on; failures are answers too.
pub(crate) async fn pass(server: &Server, remote: &Remote, user: &User, passed: Passed) -> Answer {
    if !remote.is_available() {
        return said(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
    }
    let link = match &remote.link {
        Ok(link) => link,
        Err(why) => return said(StatusCode::INTERNAL_SERVER_ERROR, why),
    };
    let Some(target) = remote.service.targets(server).await.ok().and_then(random::one_of) else {
        return said(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
    };
    match send(link, &target, user, passed).await {
        Ok(answer) => answer,
        Err(why) => said(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

async fn send(link: &Link, target: &Target, user: &User, passed: Passed) -> Result<Answer, String> {
    let upgrades = passed.headers.contains_key(header::UPGRADE);
    let mut request = Request::new(passed.body);
    *request.method_mut() = passed.method;
    *request.uri_mut() = passed.path.parse().map_err(|error| format!("{error}"))?;
    *request.headers_mut() = outgoing(&passed.headers, upgrades);
    vouch(request.headers_mut(), user);
    if upgrades {
        let host = format!("{}:{}", target.0, target.1).parse().map_err(|error| format!("{error}"))?;
        request.headers_mut().insert(header::HOST, host);
        let stream = link.dial(target).await?;
        return forward(stream, request, Some(passed.upgrade)).await.map_err(|status| status.message);
    }
    link.send(target, request).await.map(forwarded)
}

/// Headers that belong to one connection, or by which the client proved who it is.
const DROPPED: [HeaderName; 6] = [
    header::HOST,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::EXPECT,
];

fn outgoing(headers: &HeaderMap, upgrades: bool) -> HeaderMap {
    let of_connection = |name: &HeaderName| matches!(*name, header::CONNECTION | header::UPGRADE);
    let kept = headers.iter().filter(|(name, _)| {
        let private = DROPPED.contains(name) || name.as_str().starts_with("impersonate-");
        !private && (upgrades || !of_connection(name))
    });
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Plain words, as Kubernetes has them here.
fn said(code: StatusCode, words: &str) -> Answer {
    let mut answer = Response::new(full(format!("{words}\n")));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    answer
}
