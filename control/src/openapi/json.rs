//! Documents encoded as JSON while their parts arrive.

use super::{Sink, v2};
use serde_json::Value;

/// A document of either version, as text.
#[derive(Debug)]
pub(super) struct Document {
    is_v2: bool,
    /// `"name":{...},` of each definition and path so far, without the braces around.
    definitions: Vec<u8>,
    paths: Vec<u8>,
}

impl Document {
    pub(super) fn v3() -> Document {
        Document { is_v2: false, definitions: Vec::new(), paths: Vec::new() }
    }

    pub(super) fn v2() -> Document {
        Document { is_v2: true, ..Document::v3() }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        let info = format!(r#""info":{{"title":"{}","version":"{}"}}"#, super::TITLE, super::VERSION);
        let (head, middle, tail) = if self.is_v2 {
            (format!(r#"{{"swagger":"2.0",{info},"paths":{{"#), r#"},"definitions":{"#, "}}")
        } else {
            (format!(r#"{{"openapi":"3.0.0",{info},"paths":{{"#), r#"},"components":{"schemas":{"#, "}}}")
        };
        [head.as_bytes(), &self.paths, middle.as_bytes(), &self.definitions, tail.as_bytes()].concat()
    }
}

impl Sink for Document {
    fn definition(&mut self, name: &str, schema: Value) -> serde_json::Result<()> {
        let schema = if self.is_v2 { v2::schema(schema) } else { schema };
        entry(&mut self.definitions, name, &schema)
    }

    fn path(&mut self, path: &str, item: Value) -> serde_json::Result<()> {
        let item = if self.is_v2 { v2::path_item(item) } else { item };
        entry(&mut self.paths, path, &item)
    }

    fn ready_path(&mut self, path: &str, item: &Value) -> serde_json::Result<()> {
        entry(&mut self.paths, path, item)
    }
}

fn entry(out: &mut Vec<u8>, name: &str, value: &Value) -> serde_json::Result<()> {
    if !out.is_empty() {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, name)?;
    out.push(b':');
    serde_json::to_writer(out, value)
}
