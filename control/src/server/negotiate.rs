//! Content negotiation: in which encoding and which shape (object, Table, metadata only) a client wants its answer.

use http::{HeaderMap, header};
use knarr_api::Status;

/// What the client accepts, as the first of its wishes that the server can fulfil.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    /// `None` when nothing fits: 406.
    chosen: Option<(Encoding, Shape)>,
    /// The header as sent, for documents that know further types.
    pub(crate) header: String,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
}

/// What is made of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As they are.
    Object,
    /// `meta.k8s.io/v1` (or v1beta1) Table: columns and cells for people.
    Table(&'static str),
    /// PartialObjectMetadata.
    Metadata,
}

impl Accept {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        let header = values.collect::<Vec<_>>().join(",");
        let chosen = match header.trim() {
            "" => Some((Encoding::Json, Shape::Object)),
            text => text.split(',').find_map(parse_range),
        };
        Self { chosen, header }
    }

    pub(crate) fn get(&self) -> Result<(Encoding, Shape), Status> {
        self.chosen.ok_or_else(Status::not_acceptable)
    }

    /// For errors, which must be written somehow.
    pub(crate) fn encoding(&self) -> Encoding {
        self.chosen.map_or(Encoding::Json, |(encoding, _)| encoding)
    }
}

fn parse_range(range: &str) -> Option<(Encoding, Shape)> {
    let mut parts = range.split(';').map(str::trim);
    let encoding = match parts.next()? {
        "application/json" | "application/*" | "*/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        _ => return None,
    };
    let (mut kind, mut version) = ("", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", value)) => kind = value,
            Some(("v", value)) => version = value,
            _ => {}
        }
    }
    let shape = match (kind, version) {
        ("", _) => Shape::Object,
        ("Table", "v1") => Shape::Table("v1"),
        ("Table", "v1beta1") => Shape::Table("v1beta1"),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "v1" | "v1beta1") => Shape::Metadata,
        _ => return None,
    };
    Some((encoding, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> Option<(Encoding, Shape)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().unwrap());
        Accept::from_headers(&headers).chosen
    }

    #[test]
    fn the_first_wish_that_can_be_fulfilled_is() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let cases = [
            ("", Some((Encoding::Json, Shape::Object))),
            ("*/*", Some((Encoding::Json, Shape::Object))),
            ("application/vnd.kubernetes.protobuf,application/json", Some((Encoding::Json, Shape::Object))),
            ("application/yaml", Some((Encoding::Yaml, Shape::Object))),
            (table, Some((Encoding::Json, Shape::Table("v1")))),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                Some((Encoding::Json, Shape::Metadata)),
            ),
            ("text/html", None),
        ];
        for (header, expected) in cases {
            assert_eq!(accept(header), expected, "{header}");
        }
    }
}
