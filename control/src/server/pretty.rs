//! JSON for people: curl, wget and browsers get one line for each field, as from any Kubernetes API server, and
//! scripts search what they print for `"phase": "Active"`. `?pretty=true` and `?pretty=false` overrule it.

use super::answer::{self, Answer};
use super::query::Query;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri, header};
use http_body_util::BodyExt as _;

/// Programs that people look at answers with, by how the name that they give begins.
const FOR_PEOPLE: [&str; 3] = ["curl", "Wget", "Mozilla/5.0"];
/// Documents that are sent as they were made, whoever asks.
const AS_THEY_ARE: [&str; 3] = ["/openapi", "/.well-known/", "/openid/"];

/// Whether whoever asks wants to read the answer.
pub(super) fn is_wanted(headers: &HeaderMap, uri: &Uri) -> bool {
    if AS_THEY_ARE.iter().any(|path| uri.path().starts_with(path)) {
        return false;
    }
    let query = uri.query().filter(|query| query.contains("pretty")).map(Query::parse);
    match query.as_ref().and_then(|query| query.get("pretty")).filter(|value| !value.is_empty()) {
        Some(value) => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => {
            let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
            agent.is_some_and(|agent| FOR_PEOPLE.iter().any(|name| agent.starts_with(name)))
        }
    }
}

/// The answer with every field on a line of its own, if it is JSON.
pub(super) fn spread(mut answer: Answer) -> Answer {
    let json = HeaderValue::from_static("application/json");
    if answer.headers().get(header::CONTENT_TYPE) != Some(&json) {
        return answer;
    }
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    let mut lines = Lines::default();
    answer.map(|body| {
        answer::boxed(body.map_frame(move |frame| frame.map_data(|bytes| Bytes::from(lines.spread(&bytes)))))
    })
}

/// Lays out JSON that comes in pieces; a piece may end anywhere.
#[derive(Default)]
struct Lines {
    depth: usize,
    /// Inside a string.
    text: bool,
    /// After a backslash in a string.
    escaped: bool,
    /// After a bracket that has nothing in it yet.
    opened: bool,
}

impl Lines {
    fn spread(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() * 2);
        for byte in bytes {
            if self.text {
                self.in_text(*byte);
                out.push(*byte);
            } else {
                self.between(*byte, &mut out);
            }
        }
        out
    }

    fn in_text(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.text = false,
            _ => {}
        }
    }

    fn between(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b':' => out.extend_from_slice(b": "),
            b',' => {
                out.push(byte);
                self.line(out);
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if !std::mem::take(&mut self.opened) {
                    self.line(out);
                }
                out.push(byte);
            }
            _ => self.begin(byte, out),
        }
    }

    /// The first byte of a value or a key, or one inside a number or a word.
    fn begin(&mut self, byte: u8, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.opened) {
            self.line(out);
        }
        out.push(byte);
        match byte {
            b'"' => self.text = true,
            b'{' | b'[' => {
                self.depth += 1;
                self.opened = true;
            }
            _ => {}
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_field_has_a_line() {
        let value = json!({
            "empty": {}, "none": [], "text": "a \"b\": {c}, \\", "list": [1, -2.5, true, null, "x", {"y": [[]]}],
        });
        let wanted = serde_json::to_string_pretty(&value).unwrap();
        for text in [value.to_string(), wanted.clone()] {
            for size in 1..text.len() {
                let mut lines = Lines::default();
                let pieces: Vec<u8> =
                    text.as_bytes().chunks(size).flat_map(|piece| lines.spread(piece)).collect();
                assert_eq!(String::from_utf8(pieces).unwrap(), wanted, "pieces of {size}");
            }
        }
        assert_eq!(serde_json::from_str::<Value>(&wanted).unwrap(), value);
    }

    #[test]
    fn people_are_told_apart_from_programs() {
        let wanted = |agent: &str, uri: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, agent.parse().unwrap());
            is_wanted(&headers, &uri.parse().unwrap())
        };
        assert!(wanted("curl/7.88.1", "/api/v1"));
        assert!(wanted("Mozilla/5.0 (X11)", "/api/v1"));
        assert!(!wanted("kubectl/v1.33.1", "/api/v1"));
        assert!(wanted("kubectl/v1.33.1", "/api/v1/pods?limit=1&pretty=true"));
        assert!(!wanted("curl/7.88.1", "/api/v1?pretty=0"));
        assert!(wanted("curl/7.88.1", "/api/v1?pretty="));
        assert!(!wanted("curl/7.88.1", "/openapi/v2"));
    }
}
