//! One HTTP request to a container, for probes and hooks: no proxy, no pool, no certificate check (the kubelet's
//! rule: it talks to an address, not to a name), at most 10 KiB of the answer. Redirects within the host are followed.

mod redirect;
mod tls;

use http::header::{ACCEPT, CONNECTION, HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPHeader;
use std::time::Duration;
use tokio::net::TcpStream;

/// Most bytes of an answer that are read.
const MAX_BODY: usize = 10 * 1024;
/// Most redirects that one request follows.
const REDIRECTS: usize = 10;

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCall {
    /// TLS.
    pub https: bool,
    /// Address or name.
    pub host: String,
    #[allow(missing_docs)]
    pub port: u16,
    /// With the leading slash and the query.
    pub path: String,
    /// Who asks, without the version.
    pub agent: &'static str,
    /// Beside Host, User-Agent and Accept.
    pub headers: Vec<(String, String)>,
}

/// One answer, as far as anybody looks at it.
struct Answer {
    status: StatusCode,
    location: Option<String>,
    body: String,
}

/// The request that a list of headers of the API asks for.
pub fn headers(list: Option<&Vec<HTTPHeader>>) -> Vec<(String, String)> {
    list.into_iter().flatten().map(|header| (header.name.clone(), header.value.clone())).collect()
}

impl HttpCall {
    /// `scheme://host:port/path`, as messages show it.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority(), self.path)
    }

    fn scheme(&self) -> &'static str {
        if self.https { "https" } else { "http" }
    }

    /// `host:port`
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Status and beginning of the body; the error is a sentence in Go's words.
    pub async fn get(&self, timeout: Duration) -> Result<(StatusCode, String), String> {
        match tokio::time::timeout(timeout, self.follow()).await {
            Ok(result) => result,
            Err(_) => Err(self.failed(
                "context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_string(),
            )),
        }
    }

    fn failed(&self, error: String) -> String {
        format!("Get \"{}\": {error}", self.url())
    }

    /// The answer of where redirects lead to.
    async fn follow(&self) -> Result<(StatusCode, String), String> {
        let mut call = self.clone();
        for _ in 0..REDIRECTS {
            let answer = call.exchange().await.map_err(|error| call.failed(error))?;
            let next = redirect::next(&call, answer.status.as_u16(), answer.location.as_deref());
            match next.map_err(|error| call.failed(error))? {
                Some(next) => call = next,
                None => return Ok((answer.status, answer.body)),
            }
        }
        Err(call.failed(format!("stopped after {REDIRECTS} redirects")))
    }

    async fn exchange(&self) -> Result<Answer, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| dial_error("tcp", &self.authority(), &error))?;
        if self.https {
            let stream = tls::connect(stream, &self.host).await?;
            self.talk(TokioIo::new(stream)).await
        } else {
            self.talk(TokioIo::new(stream)).await
        }
    }

    async fn talk<T>(&self, stream: T) -> Result<Answer, String>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let text = |error: hyper::Error| error.to_string();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.map_err(text)?;
        // The connection ends with the request, or when this future is dropped and takes the sender along.
        let driver = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
        let mut request = http::Request::get(&self.path)
            .body(Empty::<bytes::Bytes>::new())
            .map_err(|error| error.to_string())?;
        *request.headers_mut() = self.header_map()?;
        let answer = sender.send_request(request).await.map_err(text)?;
        let status = answer.status();
        let location = answer.headers().get(http::header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok()).map(str::to_string);
        let mut body = answer.into_body();
        let mut bytes = Vec::new();
        while bytes.len() < MAX_BODY {
            match body.frame().await {
                Some(Ok(frame)) => bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => return Err(text(error)),
                None => break,
            }
        }
        drop(driver);
        bytes.truncate(MAX_BODY);
        Ok(Answer { status, location, body: String::from_utf8_lossy(&bytes).into_owned() })
    }

    fn header_map(&self) -> Result<HeaderMap, String> {
        let mut map = HeaderMap::new();
        let value = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
        for (name, text) in &self.headers {
            let name: HeaderName = name.parse().map_err(|error| format!("header \"{name}\": {error}"))?;
            map.append(name, value(text)?);
        }
        // Of these the first counts, and an empty one is a wish for none.
        let (host, agent) = (self.authority(), format!("{}/1.33", self.agent));
        for (name, default) in [(HOST, host.as_str()), (USER_AGENT, &agent), (ACCEPT, "*/*")] {
            match map.get(&name).cloned() {
                None => drop(map.insert(name, value(default)?)),
                Some(given) if given.is_empty() => drop(map.remove(&name)),
                Some(given) if name != ACCEPT => drop(map.insert(name, given)),
                Some(_) => {}
            }
        }
        map.entry(HOST).or_insert(value(&host)?);
        map.insert(CONNECTION, HeaderValue::from_static("close"));
        Ok(map)
    }
}

/// The server does not speak TLS.
pub fn is_plain(error: &str) -> bool {
    error.ends_with(tls::NO_TLS)
}

/// A failed connect in the words that people search for.
pub fn dial_error(network: &str, address: &str, error: &std::io::Error) -> String {
    let text = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_string(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_string(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_string(),
        _ => error.to_string(),
    };
    format!("dial {network} {address}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_without_tls_is_told_apart() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let serve = async {
            use tokio::io::AsyncWriteExt;
            let (mut stream, _) = server.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            stream
        };
        let call = HttpCall {
            https: true,
            host: "127.0.0.1".into(),
            port,
            path: "/".into(),
            agent: "kube-lifecycle",
            headers: Vec::new(),
        };
        let (answer, _stream) = tokio::join!(call.get(Duration::from_secs(30)), serve);
        let error = answer.unwrap_err();
        assert!(is_plain(&error), "{error}");
        assert!(!is_plain("connect: connection refused"));
    }

    #[test]
    fn headers_of_the_probe_come_before_those_of_every_probe() {
        let sent = |headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            let call = HttpCall {
                https: false,
                host: "10.0.0.9".into(),
                port: 80,
                path: "/".into(),
                agent: "kube-lifecycle",
                headers,
            };
            let map = call.header_map().unwrap();
            let all = |name: &str| -> Vec<String> {
                map.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
            };
            ["host", "user-agent", "accept", "x"].map(|name| all(name).join("|"))
        };
        assert_eq!(sent(&[]), ["10.0.0.9:80", "kube-lifecycle/1.33", "*/*", ""]);
        assert_eq!(sent(&[("X", "1"), ("x", "2")])[3], "1|2");
        let own = [("Host", "a"), ("User-Agent", "b"), ("Accept", "c"), ("Accept", "d")];
        assert_eq!(sent(&own), ["a", "b", "c|d", ""]);
        let none = [("Host", ""), ("User-Agent", ""), ("Accept", "")];
        assert_eq!(sent(&none), ["10.0.0.9:80", "", "", ""]);
    }
}
