//! Connections to registries, straight or through the proxies that the environment names.
//!
//! TLS goes through a tunnel (CONNECT), so the proxy sees no content; plain HTTP is sent to the proxy with the whole URL.
//! Loopback is never proxied: a registry on this machine is not the proxy's.

use crate::registry::hosts::is_loopback;
use http::{HeaderValue, Uri, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use std::io::{Error, IoSlice, Result};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use tower::Service;

/// Proxies as `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name them; empty where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For plain HTTP: `http://[USER:PASSWORD@]HOST[:PORT]`.
    pub http: String,
    /// For TLS.
    pub https: String,
    /// Hosts that are reached without one: names, `.suffixes`, addresses, networks, or `*`.
    pub none: String,
}

impl Proxies {
    /// Those of this process, as curl understands the variables: lower case wins.
    pub fn from_env() -> Self {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        let either = |name: &str| variable(&name.to_lowercase()).or_else(|| variable(name));
        let all = either("ALL_PROXY");
        let of = |name: &str| either(name).or_else(|| all.clone()).unwrap_or_default();
        let none = either("NO_PROXY").unwrap_or_default();
        Self { http: of("HTTP_PROXY"), https: of("HTTPS_PROXY"), none }
    }
}

/// Connects to where a request goes.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    proxies: Arc<Matcher>,
    tcp: HttpConnector,
}

impl Connector {
    pub(crate) fn new(proxies: &Proxies, tcp: HttpConnector) -> Self {
        let Proxies { http, https, none } = proxies.clone();
        Self { proxies: Arc::new(Matcher::builder().http(http).https(https).no(none).build()), tcp }
    }

    fn proxy(&self, target: &Uri) -> Option<Intercept> {
        if is_loopback(target.authority()?.as_str()) { None } else { self.proxies.intercept(target) }
    }

    /// What a plain request must show the proxy it is sent to. A tunnel is opened with it instead.
    pub(crate) fn authorization(&self, target: &Uri) -> Option<HeaderValue> {
        if target.scheme() == Some(&Scheme::HTTPS) {
            return None;
        }
        self.proxy(target)?.basic_auth().cloned()
    }

    async fn connect(mut self, target: Uri) -> Result<Stream> {
        let Some(proxy) = self.proxy(&target) else {
            let io = self.tcp.call(target).await.map_err(Error::other)?;
            return Ok(Stream { io, proxied: false });
        };
        if proxy.uri().scheme() != Some(&Scheme::HTTP) {
            let scheme = proxy.uri().scheme_str().unwrap_or_default().to_owned();
            return Err(Error::other(format!("proxy: {scheme}:// is not supported, only http://")));
        }
        let failed = |error: String| Error::other(format!("proxy {}: {error}", proxy.uri()));
        if target.scheme() != Some(&Scheme::HTTPS) {
            let io = self.tcp.call(proxy.uri().clone()).await.map_err(|e| failed(e.to_string()))?;
            return Ok(Stream { io, proxied: true });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.tcp);
        if let Some(auth) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(auth.clone());
        }
        let io = tunnel.call(target).await.map_err(|e| failed(e.to_string()))?;
        Ok(Stream { io, proxied: false })
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Stream>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        Box::pin(self.clone().connect(target))
    }
}

/// A connection that knows whether requests on it must name the whole URL.
#[derive(Debug)]
pub(crate) struct Stream {
    io: TokioIo<TcpStream>,
    proxied: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: ReadBufCursor<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_read(context, into)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, pieces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_as_curl_reads_them() {
        let set = [("HTTP_PROXY", "http://a"), ("http_proxy", "http://b"), ("ALL_PROXY", "http://c")];
        let found = Proxies::from(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        });
        assert_eq!(found, Proxies { http: "http://b".into(), https: "http://c".into(), none: String::new() });
    }

    #[test]
    fn who_is_reached_through_a_proxy() {
        let proxies = Proxies {
            http: "http://proxy:3128".into(),
            https: "http://user:pw@proxy:3128".into(),
            none: "inside.example,.corp,10.0.0.0/8".into(),
        };
        let connector = Connector::new(&proxies, HttpConnector::new());
        for (target, proxied) in [
            ("https://r.io/v2", true),
            ("http://r.io/v2", true),
            ("http://127.0.0.1:5000/v2", false),
            ("https://localhost/v2", false),
            ("https://inside.example/v2", false),
            ("https://a.corp:5000/v2", false),
            ("https://10.1.2.3/v2", false),
            ("https://11.1.2.3/v2", true),
        ] {
            assert_eq!(connector.proxy(&target.parse().unwrap()).is_some(), proxied, "{target}");
        }
        assert_eq!(
            connector.authorization(&"https://r.io".parse().unwrap()),
            None,
            "goes into the tunnel's head"
        );
        let none = Connector::new(&Proxies::default(), HttpConnector::new());
        assert!(none.proxy(&"https://r.io".parse().unwrap()).is_none());
    }
}
