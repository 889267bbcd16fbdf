//! Where `metadata.managedFields` stands in an encoded object: readers that do not care who owns which field are spared
//! half of the bytes, without anybody decoding them.

use std::ops::Range;

const METADATA: &[u8] = br#""metadata":{"#;
const FIELD: &[u8] = br#""managedFields":"#;

/// The encoded metadata of an object. It is one that [`super::Draft`] encoded.
pub(super) fn metadata(json: &[u8]) -> Option<&[u8]> {
    let begin = json.windows(METADATA.len()).position(|window| window == METADATA)? + METADATA.len() - 1;
    json.get(begin..end_of_value(json, begin)?)
}

/// The bytes to leave out, a comma among them; nothing where there are none. The object is one that [`super::Draft`]
/// encoded: `metadata` comes before every other object, and nothing stands between a name and its value.
pub(super) fn span(json: &[u8]) -> Option<Range<usize>> {
    let begin = json.windows(METADATA.len()).position(|window| window == METADATA)? + METADATA.len();
    let mut at = begin;
    loop {
        if json[at..].starts_with(FIELD) {
            let end = end_of_value(json, at + FIELD.len())?;
            return match (json.get(at - 1), json.get(end)) {
                (Some(b','), _) => Some(at - 1..end),
                (_, Some(b',')) => Some(at..end + 1),
                _ => Some(at..end),
            };
        }
        // A name, its colon, its value, then a comma or the end of the metadata.
        at = end_of_value(json, at)? + 1;
        at = end_of_value(json, at)?;
        match json.get(at)? {
            b',' => at += 1,
            _ => return None,
        }
    }
}

/// Where the value that begins at `at` ends.
fn end_of_value(json: &[u8], at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = at;
    loop {
        match json.get(at)? {
            b'"' => {
                at = end_of_text(json, at)?;
                if depth == 0 {
                    return Some(at);
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 0 => return Some(at),
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

fn end_of_text(json: &[u8], at: usize) -> Option<usize> {
    let mut escaped = false;
    let rest = json.get(at + 1..)?;
    let closing = rest.iter().position(|byte| match (escaped, byte) {
        (true, _) => {
            escaped = false;
            false
        }
        (false, b'\\') => {
            escaped = true;
            false
        }
        (false, byte) => *byte == b'"',
    })?;
    Some(at + closing + 2)
}

#[cfg(test)]
mod tests {
    use super::super::Draft;
    use super::*;
    use serde_json::{Value, json};

    fn without(object: &Value) -> Value {
        let bytes = Draft::of(object).seal(7);
        let Some(span) = span(&bytes) else { return serde_json::from_slice(&bytes).unwrap() };
        let rest = [&bytes[..span.start], &bytes[span.end..]].concat();
        serde_json::from_slice(&rest)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&rest)))
    }

    #[test]
    fn only_the_owners_are_left_out() {
        let owners = json!([{"manager": "a\"}],", "fieldsV1": {"f:metadata": {"f:labels": {}}}}]);
        let text = r#"\"managedFields\":[{}] "metadata":{"managedFields":1} \\"#;
        let metadata = [
            json!({"managedFields": owners}),
            json!({"labels": {"managedFields": "x", "t": text}, "managedFields": owners, "name": "n"}),
            json!({"annotations": {"t": text}, "managedFields": owners}),
            json!({"generation": 3, "managedFields": [], "uid": null, "z": [1, {"managedFields": 2}]}),
            json!({"name": "none", "ownerReferences": [{"managedFields": 1}]}),
            json!({}),
        ];
        for metadata in metadata {
            let object = json!({"apiVersion": "v1", "kind": "T", "metadata": metadata,
                "spec": {"metadata": {"managedFields": [1]}, "managedFields": "kept"}});
            let mut expected = object.clone();
            expected["metadata"].as_object_mut().unwrap().remove("managedFields");
            expected["metadata"]["resourceVersion"] = "7".into();
            assert_eq!(without(&object), expected);
            let bytes = Draft::of(&object).seal(7);
            let mut whole: Value = serde_json::from_slice(super::metadata(&bytes).unwrap()).unwrap();
            whole.as_object_mut().unwrap().remove("managedFields");
            assert_eq!(whole, expected["metadata"]);
        }
    }

    #[test]
    fn broken_bytes_have_no_owners() {
        for bytes in
            [&b""[..], b"{", br#""metadata":{"#, br#""metadata":{"managedFields":[{"#, br#""metadata":{"a"#]
        {
            assert_eq!(span(bytes), None);
        }
    }
}
