//! Bodies in YAML: they become JSON, with the last of several values of a field; which fields have several is found for
//! who wants to know it (`fieldValidation`).

use knarr_api::Status;
use serde_json::Value;
use serde_saphyr::DuplicateKeyPolicy;
use serde_saphyr::granit_parser::{Event, Parser};
use std::collections::HashSet;

/// What aliases may unfold to, YAML events: enough for repeated labels, too little to keep the server busy.
const MAX_REPLAYED: usize = 10_000;
/// As many are reported as a person reads.
const REPORTED: usize = 100;

/// YAML (and so JSON as well).
pub(super) fn read(body: &[u8]) -> Result<Value, Status> {
    // What says it is YAML is mostly JSON, which is much faster to read.
    if let Ok(object) = serde_json::from_slice(body) {
        return Ok(object);
    }
    let options = serde_saphyr::options! {
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED },
        duplicate_keys: DuplicateKeyPolicy::LastWins,
        // `0644`, as in Kubernetes' own YAML.
        legacy_octal_numbers: true,
    };
    serde_saphyr::from_slice_with_options(body, options)
        .map_err(|error| Status::bad_request(format!("error decoding YAML: {error}")))
}

/// `line 9: key "replicas" already set in map` for each field that has several values.
pub(super) fn duplicates(body: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(body) else { return Vec::new() };
    let mut found = Vec::new();
    let mut open: Vec<Node> = Vec::new();
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        match event {
            Event::MappingStart(..) => open.push(Node::mapping()),
            Event::SequenceStart(..) => open.push(Node::Sequence),
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                value_ends(&mut open);
            }
            Event::Scalar(name, ..) => {
                let again = key_again(&mut open, &name);
                let line = || format!("line {}: key {:?} already set in map", span.start.line(), &*name);
                found.extend(again.then(line));
            }
            Event::Alias(..) | Event::UnresolvedAlias(..) => value_ends(&mut open),
            _ => {}
        }
        if found.len() >= REPORTED {
            break;
        }
    }
    found
}

/// What the decoder says of them all.
pub(super) fn complaint(duplicates: &[String]) -> String {
    format!("yaml: unmarshal errors:\n  {}", duplicates.join("\n  "))
}

/// What the text is inside of.
enum Node {
    Sequence,
    /// The keys so far, and whether the next node is one.
    Mapping(HashSet<String>, bool),
}

impl Node {
    fn mapping() -> Self {
        Node::Mapping(HashSet::new(), true)
    }
}

/// A scalar comes; is it a key that its mapping has?
fn key_again(open: &mut [Node], name: &str) -> bool {
    match open.last_mut() {
        Some(Node::Mapping(keys, next @ true)) => {
            *next = false;
            !keys.insert(name.to_owned())
        }
        _ => {
            value_ends(open);
            false
        }
    }
}

/// A node ends that is no simple key: what follows it is the other half of an entry.
fn value_ends(open: &mut [Node]) {
    if let Some(Node::Mapping(_, next)) = open.last_mut() {
        *next = !*next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_those_before_are_told() {
        let body = b"\nspec:\n  foo: foo1\n  list: [{a: 1, a: 2}, foo]\n  foo: {b: c}\n  more: &x [1]\n  same: *x\n  foo: foo3\n";
        let lines = duplicates(body);
        let expected = ["line 4: key \"a\"", "line 5: key \"foo\"", "line 8: key \"foo\""];
        assert_eq!(lines, expected.map(|line| format!("{line} already set in map")));
        assert_eq!(read(b"a: 1\nb: 2\na: 3\n").unwrap(), serde_json::json!({"a": 3, "b": 2}));
        assert!(duplicates(b"a: 1\nb: [a, a]\nc: {a: 1}\n").is_empty());
        assert!(duplicates(br#"{"a": {"b": "b"}, "b": "a"}"#).is_empty());
        assert_eq!(
            complaint(&duplicates(b"a: 1\na: 2")),
            "yaml: unmarshal errors:\n  line 2: key \"a\" already set in map"
        );
    }
}
