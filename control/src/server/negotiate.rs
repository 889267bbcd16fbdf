//! Content negotiation: in which encoding and which shape (object, Table, metadata only) a client wants its answer.

use crate::protobuf::answers;
use crate::registry::Resource;
use http::{HeaderMap, header};
use knarr_api::Status;

/// Wishes of one request that are looked at.
const MAX_WISHES: usize = 16;

/// What the client accepts: its wishes that the server can fulfil for some kind, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    wishes: Vec<(Encoding, Shape)>,
    /// The header as sent, for documents that know further types.
    pub(crate) header: String,
}

/// How the answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    /// Only for kinds that have a message, and never as a Table.
    Protobuf,
}

/// What is made of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As they are.
    Object,
    /// `meta.k8s.io/v1` (or v1beta1) Table: columns and cells for people.
    Table(&'static str),
    /// PartialObjectMetadata, or a list of them.
    Metadata(Partial),
}

/// How a client asks for metadata alone. Who asks for a list where there is one object, or the other way round, gets
/// neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partial {
    pub(crate) list: bool,
    /// Of `meta.k8s.io`.
    pub(crate) version: &'static str,
}

impl Accept {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let values = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        let header = values.collect::<Vec<_>>().join(",");
        let wishes = match header.trim() {
            "" => vec![(Encoding::Json, Shape::Object)],
            text => text.split(',').take(MAX_WISHES).filter_map(parse_range).collect(),
        };
        Self { wishes, header }
    }

    /// The first wish that can be fulfilled for objects of `resource`; none is a 406.
    pub(crate) fn get(&self, resource: &Resource) -> Result<(Encoding, Shape), Status> {
        let speaks = || answers::speaks(&resource.group, &resource.version, &resource.kind);
        let mut wishes = self.wishes.iter().copied();
        wishes
            .find(|wish| match wish {
                (Encoding::Protobuf, Shape::Object) => speaks(),
                // Answers to questions are not stored, so there are no columns for them.
                (_, Shape::Table(_)) => !resource.group.starts_with("auth"),
                _ => true,
            })
            .ok_or_else(Status::not_acceptable)
    }

    /// For errors, which must be written somehow.
    pub(crate) fn encoding(&self) -> Encoding {
        self.wishes.first().map_or(Encoding::Json, |(encoding, _)| *encoding)
    }
}

fn parse_range(range: &str) -> Option<(Encoding, Shape)> {
    let mut parts = range.split(';').map(str::trim);
    let encoding = match parts.next()? {
        "application/json" | "application/*" | "*/*" => Encoding::Json,
        "application/yaml" => Encoding::Yaml,
        "application/vnd.kubernetes.protobuf" => Encoding::Protobuf,
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
        ("Table", _) if encoding == Encoding::Protobuf => return None,
        ("Table", "v1") => Shape::Table("v1"),
        ("Table", "v1beta1") => Shape::Table("v1beta1"),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "v1" | "v1beta1") => {
            let version = if version == "v1" { "v1" } else { "v1beta1" };
            Shape::Metadata(Partial { list: kind.ends_with("List"), version })
        }
        _ => return None,
    };
    Some((encoding, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str, plural: &str) -> Option<(Encoding, Shape)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, value.parse().unwrap());
        let table = crate::registry::Table::builtin();
        let group = match plural {
            "customresourcedefinitions" => "apiextensions.k8s.io",
            "subjectaccessreviews" => "authorization.k8s.io",
            _ => "",
        };
        Accept::from_headers(&headers).get(&table.find(group, "v1", plural).unwrap()).ok()
    }

    const LIST: Shape = Shape::Metadata(Partial { list: true, version: "v1" });

    #[test]
    fn the_first_wish_that_can_be_fulfilled_is() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let protobuf = "application/vnd.kubernetes.protobuf,application/json";
        let definitions = "customresourcedefinitions";
        let cases = [
            ("", "pods", Some((Encoding::Json, Shape::Object))),
            ("*/*", "pods", Some((Encoding::Json, Shape::Object))),
            (protobuf, "pods", Some((Encoding::Protobuf, Shape::Object))),
            (protobuf, definitions, Some((Encoding::Protobuf, Shape::Object))),
            ("application/vnd.kubernetes.protobuf", definitions, Some((Encoding::Protobuf, Shape::Object))),
            (metadata, definitions, Some((Encoding::Protobuf, LIST))),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", "pods", None),
            ("application/yaml", "pods", Some((Encoding::Yaml, Shape::Object))),
            (table, "pods", Some((Encoding::Json, Shape::Table("v1")))),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                "pods",
                Some((Encoding::Json, LIST)),
            ),
            ("text/html", "pods", None),
            (table, "subjectaccessreviews", Some((Encoding::Json, Shape::Object))),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", "subjectaccessreviews", None),
        ];
        for (header, plural, expected) in cases {
            assert_eq!(accept(header, plural), expected, "{header} of {plural}");
        }
    }
}
