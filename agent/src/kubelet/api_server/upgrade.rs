//! A request that switches protocols, passed on to another server: its headers as they are, then bytes both ways.

use super::respond::{Body, Refusal};
use http::header::HOST;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::net::TcpStream;

/// Sends the request to `url` and connects both sides when it agrees to switch.
pub(super) async fn pass_on(mut request: Request<Incoming>, url: &str) -> Result<Response<Body>, Refusal> {
    let url: Uri = url.parse().map_err(Refusal::internal)?;
    let authority = url.authority().filter(|_| url.scheme_str() == Some("http"));
    let authority =
        authority.ok_or_else(|| Refusal::internal("the runtime's streaming URL is not a plain HTTP URL"))?;
    let stream = TcpStream::connect(authority.as_str()).await.map_err(Refusal::internal)?;
    // Interactive bytes go out at once; a socket that refuses the option still works.
    let _ = stream.set_nodelay(true);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(Refusal::internal)?;
    tokio::spawn(connection.with_upgrades());

    let mut onward = Request::new(Empty::<Bytes>::new());
    *onward.method_mut() = request.method().clone();
    *onward.uri_mut() = url.path().parse().map_err(Refusal::internal)?;
    *onward.headers_mut() = request.headers().clone();
    onward.headers_mut().insert(HOST, HeaderValue::from_str(authority.as_str()).map_err(Refusal::internal)?);
    let mut response = sender.send_request(onward).await.map_err(Refusal::internal)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let theirs = hyper::upgrade::on(&mut response);
        let ours = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Err(error) = join(ours, theirs).await {
                tracing::debug!(%error, "kubelet API: stream");
            }
        });
    }
    Ok(response.map(|body| body.map_err(io::Error::other).boxed()))
}

async fn join(ours: hyper::upgrade::OnUpgrade, theirs: hyper::upgrade::OnUpgrade) -> io::Result<()> {
    let (ours, theirs) = tokio::try_join!(ours, theirs).map_err(io::Error::other)?;
    tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await?;
    Ok(())
}
