//! Answers that come through a proxy subresource: redirects and HTML are rewritten so that links lead through the
//! proxy again, piece by piece; everything else passes as it came.

use super::html::Page;
use super::links::Links;
use crate::server::answer::{self, Answer, Body};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, MultiGzDecoder};
use http::{HeaderMap, HeaderName, StatusCode, header};
use hyper::body::Frame;
use std::io::{Result, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Compressed pages are expanded in such steps, bytes: each grows a thousandfold at most.
const STEP: usize = 512;

/// What a target says of other origins would hold for the whole API, which has the same origin.
const DROPPED: [HeaderName; 4] = [
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
];

/// The answer as the client must see it.
pub(super) fn through_proxy(mut answer: Answer, links: Links) -> Answer {
    for name in DROPPED {
        answer.headers_mut().remove(name);
    }
    if let Some(location) = text(answer.headers(), &header::LOCATION) {
        let rewritten = links.rewrite(location).and_then(|location| location.parse().ok());
        if let Some(location) = rewritten {
            answer.headers_mut().insert(header::LOCATION, location);
        }
        return answer;
    }
    // A part of a page has its place in the whole, which must not move.
    if !is_html(answer.headers()) || answer.status() == StatusCode::PARTIAL_CONTENT {
        return answer;
    }
    let compressed = match answer.headers().get(header::CONTENT_ENCODING) {
        None => false,
        Some(coding) if coding == "gzip" => true,
        Some(_) => return answer,
    };
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    let coding = compressed.then(|| Box::new(Coding::new()));
    answer.map(|body| answer::boxed(Rewritten { body, pipe: Some(Pipe { page: Page::new(links), coding }) }))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn is_html(headers: &HeaderMap) -> bool {
    let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"))
}

/// A page behind gzip.
struct Coding {
    decoder: MultiGzDecoder<Vec<u8>>,
    encoder: GzEncoder<Vec<u8>>,
    /// Whether anything came at all: no answer to HEAD has a body, whatever its headers say.
    begun: bool,
}

impl Coding {
    fn new() -> Self {
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        Self { decoder: MultiGzDecoder::new(Vec::new()), encoder, begun: false }
    }
}

/// What a page goes through.
struct Pipe {
    page: Page,
    coding: Option<Box<Coding>>,
}

impl Pipe {
    fn feed(&mut self, input: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(input.len());
        let Some(coding) = &mut self.coding else {
            self.page.feed(input, &mut out);
            return Ok(out);
        };
        for piece in input.chunks(STEP) {
            coding.begun = true;
            coding.decoder.write_all(piece)?;
            self.page.feed(&std::mem::take(coding.decoder.get_mut()), &mut out);
            coding.encoder.write_all(&out)?;
            out.clear();
        }
        coding.encoder.flush()?;
        Ok(std::mem::take(coding.encoder.get_mut()))
    }

    fn finish(mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        let Some(mut coding) = self.coding.filter(|coding| coding.begun) else {
            self.page.finish(&mut out);
            return Ok(out);
        };
        coding.decoder.try_finish()?;
        self.page.feed(&std::mem::take(coding.decoder.get_mut()), &mut out);
        self.page.finish(&mut out);
        coding.encoder.write_all(&out)?;
        coding.encoder.finish()
    }
}

/// A page on its way.
struct Rewritten {
    body: Body,
    /// Absent after the end.
    pipe: Option<Pipe>,
}

impl hyper::body::Body for Rewritten {
    type Data = Bytes;
    type Error = crate::server::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if self.pipe.is_none() {
                return Poll::Ready(None);
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()?;
            let out = match (frame, self.pipe.as_mut()) {
                (Some(frame), Some(pipe)) => {
                    pipe.feed(frame.data_ref().map(|bytes| &bytes[..]).unwrap_or_default())?
                }
                _ => self.pipe.take().map(Pipe::finish).transpose()?.unwrap_or_default(),
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out.into()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Read as _;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn gunzip(bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
        plain
    }

    /// An answer with these headers, its body in pieces of a few bytes.
    fn through(headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let pieces: Vec<_> = body.chunks(5).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut answer = http::Response::new(answer::stream(futures_util::stream::iter(pieces)));
        for (name, value) in headers {
            answer.headers_mut().insert(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let client = Some("api:6443".to_owned());
        through_proxy(answer, Links { prefix: "/P".into(), target: "t:80".into(), client })
    }

    async fn collected(answer: Answer) -> std::result::Result<Vec<u8>, crate::server::BoxError> {
        Ok(answer.into_body().collect().await?.to_bytes().to_vec())
    }

    const PAGE: &[u8] = b"<p><a href=/x>t</a><a hr";
    const REWRITTEN: &[u8] = b"<p><a href=/P/x>t</a><a hr";

    #[tokio::test]
    async fn only_pages_change() {
        let html = ("content-type", "Text/html; charset=utf-8");
        for (headers, expected) in [
            (&[html, ("content-length", "24")][..], REWRITTEN),
            (&[("content-type", "text/plain"), ("content-length", "24")], PAGE),
            (&[], PAGE),
            (&[html, ("content-encoding", "br")], PAGE),
        ] {
            let answer = through(headers, PAGE);
            let kept = answer.headers().contains_key("content-length");
            assert!(!(kept && expected == REWRITTEN), "{headers:?}");
            assert_eq!(collected(answer).await.unwrap(), expected, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn compressed_pages_stay_compressed() {
        let headers = [("content-type", "text/html"), ("content-encoding", "gzip")];
        let found = collected(through(&headers, &gzip(PAGE))).await.unwrap();
        assert_eq!(gunzip(&found), REWRITTEN);
        assert_eq!(collected(through(&headers, b"")).await.unwrap(), b"");
        let long = "<a href=/x>".repeat(100_000);
        let found = collected(through(&headers, &gzip(long.as_bytes()))).await.unwrap();
        assert_eq!(gunzip(&found), "<a href=/P/x>".repeat(100_000).as_bytes());
        let broken = gzip(PAGE);
        assert!(collected(through(&headers, &broken[..broken.len() - 9])).await.is_err());
        assert!(collected(through(&headers, PAGE)).await.is_err());
    }

    #[test]
    fn redirects_stay_within_the_proxy() {
        for (location, expected) in [
            ("/login", "/P/login"),
            ("http://t:80/login", "/P/login"),
            ("http://api:6443/login", "http://api:6443/P/login"),
            ("http://other/login", "http://other/login"),
            ("login", "login"),
        ] {
            let answer = through(&[("location", location), ("access-control-allow-origin", "*")], b"");
            assert_eq!(answer.headers()["location"], expected);
            assert!(!answer.headers().contains_key("access-control-allow-origin"));
        }
    }
}
