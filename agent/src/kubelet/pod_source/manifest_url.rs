//! A manifest on a web server, asked for every 20 seconds: its pods run as static pods. While the server does not
//! answer, or answers with something broken, the pods of its last good answer go on.

use super::manifests::parse::parse_answer;
use super::{Origin, SourceEvent};
use crate::kubelet::pod;
use anyhow::{Context, ensure};
use http::{HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Pod;
use kube::client::Body;
use kube::{Client, Config};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

const PERIOD: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer answers are refused.
const MAX_ANSWER: usize = 10 << 20;

/// One URL.
pub struct ManifestUrl {
    url: String,
    /// Path and query.
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    node: String,
    client: Client,
    reported: Option<String>,
    told: BTreeMap<String, Arc<Pod>>,
}

impl std::fmt::Debug for ManifestUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManifestUrl").field("url", &self.url).finish_non_exhaustive()
    }
}

impl ManifestUrl {
    /// A source for the node of that name; headers are `NAME: VALUE`.
    pub fn new(url: &str, headers: &[String], node: &str) -> anyhow::Result<ManifestUrl> {
        let uri: http::Uri = url.parse().with_context(|| format!("manifest URL {url}"))?;
        ensure!(
            uri.authority().is_some() && uri.scheme().is_some(),
            "manifest URL {url}: not of the form http(s)://HOST/PATH"
        );
        let headers = headers.iter().map(|header| {
            let wrong = || format!("manifest URL header \"{header}\": not of the form NAME: VALUE");
            let (name, value) = header.split_once(':').with_context(wrong)?;
            Ok((name.trim().parse().with_context(wrong)?, value.trim().parse().with_context(wrong)?))
        });
        let headers = headers.collect::<anyhow::Result<_>>()?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        // An ordinary HTTP client; nothing of Kubernetes is on the other side.
        let client = Client::try_from(Config::new(http::Uri::from_parts(parts)?))?;
        let (url, node) = (url.to_owned(), node.to_owned());
        Ok(ManifestUrl { url, path, headers, node, client, reported: None, told: BTreeMap::new() })
    }

    /// Asks until the receiver is gone.
    pub async fn watch(mut self, events: mpsc::UnboundedSender<SourceEvent>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !events.is_closed() {
            ticks.tick().await;
            let answer = tokio::time::timeout(PATIENCE, self.ask()).await;
            let answer = answer.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {PATIENCE:?}")));
            let pods = answer.and_then(|text| {
                parse_answer(&text, &self.url, &self.node)
                    .map(|documents| documents.pods)
                    .map_err(anyhow::Error::msg)
            });
            match pods {
                Ok(pods) => self.tell(pods, &events),
                Err(error) => self.report(&format!("{error:#}")),
            }
        }
    }

    /// An error that goes on is told once.
    fn report(&mut self, error: &str) {
        if self.reported.as_deref() != Some(error) {
            tracing::error!("manifest {}: {error}", self.url);
            self.reported = Some(error.to_owned());
        }
    }

    fn tell(&mut self, pods: Vec<Arc<Pod>>, events: &mpsc::UnboundedSender<SourceEvent>) {
        self.reported = None;
        let mut wanted: BTreeMap<String, Arc<Pod>> =
            pods.into_iter().map(|pod| (pod::uid(&pod).to_owned(), pod)).collect();
        for (uid, pod) in &mut wanted {
            match self.told.get(uid) {
                // The same object: workers hold it, too.
                Some(told) if told == pod => *pod = told.clone(),
                // The loop ends when nobody listens.
                _ => drop(events.send(SourceEvent::Upsert(pod.clone()))),
            }
        }
        let _ = events.send(SourceEvent::All(Origin::Url, wanted.keys().cloned().collect()));
        self.told = wanted;
    }

    async fn ask(&self) -> anyhow::Result<String> {
        let mut request = Request::get(&self.path).body(Body::empty())?;
        request.headers_mut().extend(self.headers.iter().cloned());
        let answer = self.client.send(request).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        let (mut body, mut bytes) = (answer.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            bytes.extend_from_slice(frame?.data_ref().map_or(&[], |data| data));
            ensure!(bytes.len() <= MAX_ANSWER, "the answer is larger than 10 MiB");
        }
        ensure!(!bytes.is_empty(), "the answer is empty");
        Ok(String::from_utf8(bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const POD: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}]}\n";

    async fn serve(listener: TcpListener, status: &str, body: &str) -> String {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).await.unwrap();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&head[..length]).into_owned()
    }

    #[tokio::test]
    async fn pods_come_with_their_source_and_headers_are_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/pods?x=1", listener.local_addr().unwrap());
        let source = ManifestUrl::new(&url, &["X-Key: secret".to_owned()], "n").unwrap();
        let (sender, mut events) = mpsc::unbounded_channel();
        tokio::spawn(source.watch(sender));
        let head = serve(listener, "200 OK", POD).await;
        assert!(
            head.starts_with("GET /pods?x=1 ") && head.to_lowercase().contains("x-key: secret"),
            "{head}"
        );
        let Some(SourceEvent::Upsert(pod)) = events.recv().await else { panic!("no pod") };
        assert_eq!((pod::name(&pod), Origin::of(&pod)), ("a-n", Origin::Url));
        let Some(SourceEvent::All(Origin::Url, uids)) = events.recv().await else { panic!("no end") };
        assert_eq!(uids, [pod::uid(&pod)]);
    }

    #[tokio::test]
    async fn a_bad_answer_changes_nothing() {
        for (status, body) in [("500 Oops", POD), ("200 OK", "kind: ["), ("200 OK", "")] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            let source = ManifestUrl::new(&url, &[], "n").unwrap();
            let (answer, _) = tokio::join!(source.ask(), serve(listener, status, body));
            let parsed = answer.and_then(|text| parse_answer(&text, &url, "n").map_err(anyhow::Error::msg));
            assert!(parsed.is_err(), "{status} {body}");
        }
        assert!(ManifestUrl::new("/no/host", &[], "n").is_err());
        assert!(ManifestUrl::new("http://h/", &["broken".to_owned()], "n").is_err());
    }
}
