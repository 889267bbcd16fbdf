//! Long answers are compressed for clients that accept it: a list of ten thousand pods shrinks to a tenth.

use super::answer::{self, Answer, Body};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};
use hyper::body::{Body as _, Frame};
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Shorter answers are sent as they are, bytes.
const MIN_LENGTH: u64 = 128 << 10;

/// Marks an answer that comes in pieces, and has an end, as worth compressing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compressible;

/// Whether the client takes gzip.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| {
        let (coding, quality) = part.split_once(';').unwrap_or((part, ""));
        coding.trim() == "gzip" && quality.trim() != "q=0"
    })
}

/// Compresses the answer if it is long.
pub(super) fn compress(mut answer: Answer) -> Answer {
    let marked = answer.extensions().get::<Compressible>().is_some();
    let long = answer.body().size_hint().exact().is_some_and(|length| length > MIN_LENGTH);
    if answer.status() != 200 || !(marked || long) || answer.headers().contains_key(header::CONTENT_ENCODING)
    {
        return answer;
    }
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    answer.map(|body| answer::boxed(Compressed { body, encoder: Some(encoder()) }))
}

/// The fastest level: the network is near.
fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::fast())
}

/// A body on its way through the encoder.
struct Compressed {
    body: Body,
    /// Absent after the end.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl hyper::body::Body for Compressed {
    type Data = Bytes;
    type Error = super::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if self.encoder.is_none() {
                return Poll::Ready(None);
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()?;
            let Some(encoder) = self.encoder.as_mut() else { return Poll::Ready(None) };
            let Some(data) = frame else {
                let rest = self.encoder.take().map(GzEncoder::finish).transpose()?.unwrap_or_default();
                return Poll::Ready(Some(Ok(Frame::data(rest.into()))));
            };
            encoder.write_all(data.data_ref().map(|bytes| &bytes[..]).unwrap_or_default())?;
            if !encoder.get_ref().is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(std::mem::take(encoder.get_mut()).into()))));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use std::io::Read as _;

    #[tokio::test]
    async fn long_answers_shrink_and_come_back() {
        let text = "all the same ".repeat(20_000);
        let answer = compress(answer::json_bytes(200, text.clone()));
        assert_eq!(answer.headers()[header::CONTENT_ENCODING], "gzip");
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(bytes.len() < text.len() / 10);
        let mut plain = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut plain).unwrap();
        assert_eq!(plain, text);
        assert!(!compress(answer::json_bytes(200, "short")).headers().contains_key(header::CONTENT_ENCODING));
    }

    #[test]
    fn clients_say_what_they_take() {
        for (value, taken) in
            [("gzip", true), ("br, gzip;q=0.5", true), ("gzip;q=0", false), ("identity", false)]
        {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
            assert_eq!(is_accepted(&headers), taken, "{value}");
        }
    }
}
