//! Answers to health checks over plain HTTP: one request to a connection, and an answer that is at hand.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// A client that has not sent its request by then is let go.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Out of descriptors, most likely: accepting at once again would spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

pub(super) type Answer = Response<Full<Bytes>>;

/// Answers whoever connects, by the path that is asked for; never ends.
pub(super) async fn serve(
    listener: TcpListener,
    answer: impl Fn(&str) -> Answer + Clone + Send + Sync + 'static,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve_one(stream, answer.clone()))),
            Err(error) => {
                tracing::warn!(%error, "health check not accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve_one(stream: TcpStream, answer: impl Fn(&str) -> Answer) {
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        std::future::ready(Ok::<_, Infallible>(answer(request.uri().path())))
    });
    // One answer each: a connection must not outlive what it asks about.
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "health check");
    }
}

pub(super) fn plain(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}

/// 200 or 503, and why.
pub(super) fn json(is_well: bool, text: String) -> Answer {
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = plain(status, text);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
