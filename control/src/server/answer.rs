//! Responses: bodies, encodings and the shapes an object can be asked in.

use super::negotiate::{Accept, Encoding, Partial, Shape};
use super::{BoxError, Call, go_json, table};
use crate::protobuf::answers;
use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, SizeHint};
use knarr_api::Status;
use serde::Serialize;
use serde_json::Value;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Content type of protobuf answers.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;
/// A response.
pub(crate) type Answer = Response<Body>;

/// A body that is all there.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body of our own kind.
pub(crate) fn boxed(body: impl hyper::body::Body<Data = Bytes, Error = BoxError> + Send + 'static) -> Body {
    body.boxed_unsync()
}

/// A body that comes piece by piece.
pub(crate) fn stream(chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    use futures_util::StreamExt as _;
    StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync()
}

/// A long answer, made while it is sent.
pub(crate) fn stream_of(
    content_type: &'static str,
    chunks: impl Iterator<Item = Bytes> + Send + 'static,
) -> Answer {
    let chunks = chunks.map(Ok::<Bytes, BoxError>);
    with_type(200, content_type, stream(futures_util::stream::iter(chunks)))
}

pub(crate) fn with_type(code: u16, content_type: &'static str, body: Body) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// Encoded JSON.
pub(crate) fn json_bytes(code: u16, bytes: impl Into<Bytes>) -> Answer {
    with_type(code, "application/json", full(bytes))
}

/// Encoded JSON that ends its line, as whatever Kubernetes encodes does.
pub(crate) fn json_line(code: u16, bytes: impl Into<Bytes>) -> Answer {
    with_type(code, "application/json", boxed(Line([bytes.into(), Bytes::from_static(b"\n")].into_iter())))
}

/// Bytes and what ends their line; none of them are copied.
struct Line(std::array::IntoIter<Bytes, 2>);

impl hyper::body::Body for Line {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.next().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.as_slice().iter().map(|bytes| bytes.len() as u64).sum())
    }
}

/// A value in the encoding that the client wants.
pub(crate) fn value(code: u16, encoding: Encoding, value: &Value) -> Answer {
    match encoding {
        Encoding::Json => json_line(code, value.to_string()),
        // Documents of discovery have no message: Go's clients read JSON where the answer says so.
        Encoding::Protobuf => match answers::encode(value) {
            Some(bytes) => with_type(code, PROTOBUF, full(bytes)),
            None => json_line(code, value.to_string()),
        },
        Encoding::Yaml => match serde_saphyr::to_string(value) {
            Ok(text) => with_type(code, "application/yaml", full(text)),
            Err(error) => json_bytes(500, Status::internal(error).to_json()),
        },
    }
}

/// A document whose fields have an order of their own; there is no message of it, so it is JSON unless YAML is asked.
pub(crate) fn document(encoding: Encoding, document: &impl Serialize) -> Result<Answer, Status> {
    if encoding == Encoding::Yaml {
        let text = serde_saphyr::to_string(document).map_err(Status::internal)?;
        return Ok(with_type(200, "application/yaml", full(text)));
    }
    Ok(json_line(200, serde_json::to_vec(document).map_err(Status::internal)?))
}

/// The same for people: one line for each field, always JSON.
pub(crate) fn spread(document: &impl Serialize) -> Result<Answer, Status> {
    Ok(json_bytes(200, serde_json::to_vec_pretty(document).map_err(Status::internal)?))
}

/// Plain text.
pub(crate) fn text(code: u16, text: impl Into<Bytes>) -> Answer {
    with_type(code, "text/plain; charset=utf-8", full(text))
}

/// A failure, or a success that is no object.
pub(crate) fn status(encoding: Encoding, status: &Status) -> Answer {
    match encoding {
        Encoding::Json => json_bytes(status.code, status.to_json()),
        other => value(status.code, other, &status.to_value()),
    }
}

/// A failure.
pub(crate) fn refuse(status: &Status, accept: &Accept) -> Answer {
    let mut answer = self::status(accept.encoding(), status);
    if let Some(seconds) = status.details.retry_after_seconds {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

/// One object in the shape that the client wants; `bytes` are sent as they are where nothing is to be changed.
pub(crate) fn object(call: &Call, code: u16, bytes: Bytes) -> Result<Answer, Status> {
    let (encoding, shape) = call.accept.get(&call.resource)?;
    if (encoding, shape) == (Encoding::Json, Shape::Object) {
        return Ok(json_line(code, bytes));
    }
    let object: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
    if let Shape::Metadata(Partial { list: true, .. }) = shape {
        let asked = "PartialObjectMetadataList";
        return Err(Status::unfit_for(format!(
            "you requested {asked}, but the requested object is not a list ({})",
            go_json::type_of(&call.resource.group, &call.resource.kind)
        )));
    }
    Ok(value(code, encoding, &shaped(call, shape, object)?))
}

/// One object as it is, as a Table of one row, or its metadata.
pub(crate) fn shaped(call: &Call, shape: Shape, object: Value) -> Result<Value, Status> {
    match shape {
        Shape::Object => Ok(object),
        Shape::Metadata(partial) => Ok(metadata_only(&object, partial.version)),
        Shape::Table(version) => {
            let include = table::Include::from_query(&call.query)?;
            let resource_version = knarr_api::meta::resource_version(&object).to_owned();
            let rows = vec![table::row(&call.resource, object, include)];
            let list = serde_json::json!({"resourceVersion": resource_version});
            Ok(table::table(&call.resource, version, list, rows, true))
        }
    }
}

/// What stands before the metadata of an encoded PartialObjectMetadata; a brace ends it.
pub(crate) fn metadata_head(version: &str) -> String {
    format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}","metadata":"#)
}

/// PartialObjectMetadata of a version of `meta.k8s.io`.
pub(crate) fn metadata_only(object: &Value, version: &str) -> Value {
    let api_version = format!("meta.k8s.io/{version}");
    serde_json::json!({"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": object["metadata"]})
}

/// Adds a `Warning` header, as kubectl prints them.
pub(crate) fn warn(answer: &mut Answer, warnings: &[String]) {
    for warning in warnings {
        let quoted = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(header) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            answer.headers_mut().append(header::WARNING, header);
        }
    }
}
