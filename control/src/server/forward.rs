//! A request that somebody else answers: sent on over a connection of its own, the answer passed back as it comes. After
//! a change of protocol both directions are bytes until either side ends.

use super::BoxError;
use super::answer::{self, Answer, Body};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use knarr_api::Status;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends the request and passes the answer back.
pub(crate) async fn forward<S, B>(
    stream: S,
    request: Request<B>,
    upgrade: Option<OnUpgrade>,
) -> Result<Answer, Status>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let failed = |error: hyper::Error| Status::internal(format!("error dialing backend: {error}"));
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!("connection to a backend: {error}");
        }
    });
    let mut response = sender.send_request(request).await.map_err(failed)?;
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) = (response.status(), upgrade) {
        let backend = hyper::upgrade::on(&mut response);
        tokio::spawn(splice(backend, upgrade));
        let mut answer = Response::new(answer::full(Bytes::new()));
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *answer.headers_mut() = response.headers().clone();
        return Ok(answer);
    }
    Ok(passed(response))
}

/// The answer without what belongs to the connection that it came by.
pub(crate) fn passed(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body: Body = body.map_err(Into::into).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = parts.status;
    *answer.headers_mut() = end_to_end(&parts.headers);
    answer
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let hop = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE];
    let kept = headers.iter().filter(|(name, _)| !hop.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

async fn splice(backend: OnUpgrade, client: OnUpgrade) {
    let (backend, client) = match tokio::try_join!(backend, client) {
        Ok(both) => both,
        Err(error) => return tracing::debug!("upgrade: {error}"),
    };
    let (mut backend, mut client) = (TokioIo::new(backend), TokioIo::new(client));
    if let Err(error) = tokio::io::copy_bidirectional(&mut backend, &mut client).await {
        tracing::debug!("upgraded connection: {error}");
    }
}
