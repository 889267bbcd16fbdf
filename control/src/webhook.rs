//! The connection to a webhook: HTTPS to a URL, or to a ready endpoint of a service of the cluster. The certificate
//! is verified, by the CA of the configuration or by those of the system.

use crate::registry::fields;
use crate::server::{Server, tls};
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

/// A ready endpoint: the way through the service's address needs a node agent on this machine.
async fn of_service(server: &Server, service: &Value) -> Result<Target, String> {
    let (namespace, name) = (fields::text(service, "/namespace"), fields::text(service, "/name"));
    let port = fields::int(service, "/port").unwrap_or(443);
    let found = server.object_at(&format!("core/services/{namespace}/{name}")).await;
    let found = found.map_err(|status| status.message)?;
    let object = found.ok_or_else(|| format!("service {name:?} not found"))?;
    let mut ports = fields::list(&object, "/spec/ports").iter();
    let wanted = ports.find(|one| fields::int(one, "/port") == Some(port));
    let wanted = wanted.ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
    let prefix = format!("discovery.k8s.io/endpointslices/{namespace}/");
    let mut slices = server.objects_below(&prefix).await.map_err(|status| status.message)?;
    slices.retain(|slice| knarr_api::meta::label(slice, "kubernetes.io/service-name") == Some(name));
    let endpoint = slices.iter().find_map(|slice| endpoint(slice, fields::text(wanted, "/name")));
    let (host, port) = endpoint.ok_or_else(|| format!("no endpoints available for service {name:?}"))?;
    let path = fields::text(service, "/path");
    let path = format!("/{}", path.trim_start_matches('/'));
    Ok(Target { host, port, name: format!("{name}.{namespace}.svc"), path })
}

fn endpoint(slice: &Value, port: &str) -> Option<(String, u16)> {
    let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] != false;
    let endpoint = fields::list(slice, "/endpoints").iter().find(ready)?;
    let mut ports = fields::list(slice, "/ports").iter();
    let port = ports.find(|one| fields::text(one, "/name") == port)?;
    let number = u16::try_from(fields::int(port, "/port")?).ok()?;
    Some((fields::text(endpoint, "/addresses/0").to_owned(), number))
}

async fn send(config: &Value, target: &Target, review: &Value) -> Result<Value, String> {
    let bundle = match fields::text(config, "/caBundle") {
        "" => None,
        encoded => Some(STANDARD.decode(encoded).map_err(|error| format!("caBundle: {error}"))?),
    };
    let config = tls::client(bundle.as_deref()).map_err(|error| format!("{error:#}"))?;
    let text = |error: std::io::Error| error.to_string();
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await;
    let stream = stream.map_err(|error| format!("dial tcp {}:{}: {error}", target.host, target.port))?;
    let name = ServerName::try_from(target.name.clone()).map_err(|error| error.to_string())?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(text)?;
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
    use serde_json::json;

    #[test]
    fn urls_and_endpoints() {
        let target = of_url("https://[::1]:8443/deny?a=b").unwrap();
        assert_eq!((&*target.host, target.port, &*target.path), ("::1", 8443, "/deny?a=b"));
        assert!(of_url("http://a/").is_err() && of_url("nonsense").is_err());
        let slice = json!({"ports": [{"name": "https", "port": 8443}],
            "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}, {"addresses": ["10.0.0.2"], "conditions": {"ready": true}}]});
        assert_eq!(endpoint(&slice, "https"), Some(("10.0.0.2".to_owned(), 8443)));
        assert_eq!(endpoint(&slice, "other"), None);
    }
}
