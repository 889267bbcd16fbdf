//! The connection to a webhook: HTTPS to a URL, or to a ready endpoint of a service of the cluster. The certificate
//! is verified, by the CA of the configuration or by those of the system.

use crate::random;
use crate::registry::fields;
use crate::server::{Server, tls};
use crate::service_target::{Fault, Service};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const MAX_ANSWER: usize = 8 << 20;

/// Where a webhook is.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// What to connect to.
    host: String,
    port: u16,
    /// What its certificate must say.
    name: String,
    path: String,
}

/// Sends a review and waits for the answer, `timeout` (whole seconds) at most, which the webhook is told. The error is
/// for a person, and names the address.
pub(crate) async fn post(
    server: &Server,
    config: &Value,
    review: &Value,
    timeout: Duration,
) -> Result<Value, String> {
    let mut target = target(server, config).await?;
    let separator = if target.path.contains('?') { '&' } else { '?' };
    target.path.push_str(&format!("{separator}timeout={}s", timeout.as_secs()));
    let shown = format!("Post \"https://{}:{}{}\"", target.name, target.port, target.path);
    let answer = match tokio::time::timeout(timeout, send(config, &target, review)).await {
        Ok(answer) => answer,
        Err(_) => Err("context deadline exceeded".to_owned()),
    };
    answer.map_err(|why| format!("{shown}: {why}"))
}

async fn target(server: &Server, config: &Value) -> Result<Target, String> {
    let url = fields::text(config, "/url");
    if url.is_empty() { of_service(server, &config["service"]).await } else { of_url(url) }
}

fn of_url(url: &str) -> Result<Target, String> {
    let uri: Uri = url.parse().map_err(|error| format!("url {url:?}: {error}"))?;
    if uri.scheme_str() != Some("https") {
        return Err(format!("url {url:?}: must be https"));
    }
    let host = uri.host().ok_or_else(|| format!("url {url:?} has no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    Ok(Target { name: host.clone(), host, port: uri.port_u16().unwrap_or(443), path })
}

/// A ready endpoint of a service.
async fn of_service(server: &Server, reference: &Value) -> Result<Target, String> {
    let service = Service::of(reference);
    let (name, port) = (&service.name, service.port);
    let targets = service.targets(server).await.map_err(|fault| match fault {
        Fault::Access(why) => why,
        Fault::NoService => format!("service {name:?} not found"),
        Fault::NoPort => format!("no service port {port} found for service {name:?}"),
        Fault::NoEndpoints | Fault::NoneReady(_) => format!("no endpoints available for service {name:?}"),
    })?;
    let (host, port) = random::one_of(targets).unwrap_or_default();
    let path = format!("/{}", fields::text(reference, "/path").trim_start_matches('/'));
    Ok(Target { host, port, name: service.dns_name(), path })
}

async fn send(config: &Value, target: &Target, review: &Value) -> Result<Value, String> {
    let bundle = match fields::text(config, "/caBundle") {
        "" => None,
        encoded => Some(STANDARD.decode(encoded).map_err(|error| format!("caBundle: {error}"))?),
    };
    let config = tls::client(bundle.as_deref()).map_err(|error| format!("{error:#}"))?;
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await;
    let stream = stream.map_err(|error| format!("dial tcp {}:{}: {error}", target.host, target.port))?;
    let name = ServerName::try_from(target.name.clone()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = stream.map_err(|error| tls::told(&error))?;
    exchange(TokioIo::new(stream), target, review).await
}

async fn exchange<S>(stream: S, target: &Target, review: &Value) -> Result<Value, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let said = |error: hyper::Error| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(said)?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("connection to a webhook: {error}");
        }
    });
    let request = Request::post(&target.path)
        .header(header::HOST, format!("{}:{}", target.name, target.port))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, "kube-apiserver-admission")
        .body(Full::new(Bytes::from(review.to_string())))
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(said)?;
    let code = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    if !code.is_success() {
        return Err(format!("the server answered {code}"));
    }
    serde_json::from_slice(&body).map_err(|error| format!("the answer is no JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let target = of_url("https://[::1]:8443/deny?a=b").unwrap();
        assert_eq!((&*target.host, target.port, &*target.path), ("::1", 8443, "/deny?a=b"));
        assert!(of_url("http://a/").is_err() && of_url("nonsense").is_err());
    }
}
