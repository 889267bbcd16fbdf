//! What Kubernetes says of a body that is no JSON: the words of Go's decoder, from what ours found. People and tools
//! look for them.

use serde_json::Value;

/// As much of a body is shown, bytes.
const SHOWN: usize = 30;

/// The name that the type of a kind has in Kubernetes' sources; custom kinds have one type for all.
pub(super) fn type_of(group: &str, kind: &str) -> String {
    let package = group.split('.').next().unwrap_or_default();
    match group {
        "" | "events.k8s.io" => format!("*core.{kind}"),
        _ if !group.contains('.') || group.ends_with(".k8s.io") => format!("*{package}.{kind}"),
        _ if kind.ends_with("List") => "*unstructured.UnstructuredList".to_owned(),
        _ => "*unstructured.Unstructured".to_owned(),
    }
}

/// The sentence of Go's decoder about where `body` is broken.
pub(super) fn fault(body: &[u8], error: &serde_json::Error) -> String {
    if error.is_eof() {
        return "unexpected end of JSON input".to_owned();
    }
    let words = error.to_string();
    let Some(at) = offset(body, error).filter(|at| *at < body.len()) else { return words };
    let found = quoted(body[at]);
    let context = match words.split(" at line").next().unwrap_or_default() {
        "key must be a string" => "looking for beginning of object key string",
        "trailing comma" if body[at] == b'}' => "looking for beginning of object key string",
        "expected value" | "trailing comma" => "looking for beginning of value",
        "expected `:`" => "after object key",
        "expected `,` or `}`" => "after object key:value pair",
        "expected `,` or `]`" => "after array element",
        "trailing characters" => "after top-level value",
        "invalid number" if body[at].is_ascii_digit() => "after object key:value pair",
        "invalid number" => "in numeric literal",
        "invalid escape" => {
            return format!("invalid escape sequence `\\{}` in string", char::from(body[at]));
        }
        text if text.starts_with("control character") => "in string",
        "expected ident" => return format!("invalid character {found} {}", literal(&body[..at])),
        "recursion limit exceeded" => return "exceeded max depth".to_owned(),
        _ => return words,
    };
    format!("invalid character {found} {context}")
}

/// Where the reader stood: lines and columns count from one.
fn offset(body: &[u8], error: &serde_json::Error) -> Option<usize> {
    let mut lines = body.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines.by_ref().take(error.line().checked_sub(1)?).map(<[u8]>::len).sum();
    (before + error.column()).checked_sub(1)
}

fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        byte if byte < b' ' => format!("'\\x{byte:02x}'"),
        byte => format!("'{}'", char::from(byte)),
    }
}

/// `in literal true (expecting 'e')`
fn literal(before: &[u8]) -> String {
    let letters = before.iter().rev().take_while(|byte| byte.is_ascii_lowercase()).count();
    let begun = &before[before.len() - letters..];
    let whole = ["true", "false", "null"].into_iter().find(|word| word.as_bytes().starts_with(begun));
    match whole.and_then(|word| Some((word, word.as_bytes().get(letters)?))) {
        Some((word, next)) => format!("in literal {word} (expecting '{}')", char::from(*next)),
        None => "looking for beginning of value".to_owned(),
    }
}

/// The beginning of a body for a message: text where it begins as an object does, else its bytes.
pub(super) fn summary(body: &[u8]) -> String {
    let (shown, more) = (&body[..body.len().min(SHOWN)], if body.len() > SHOWN { " ..." } else { "" });
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => {
            format!("{}{more}", shown.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
    }
}

/// A value as Go prints it: `map[data:map[a:1] list:[x y]]`.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let sorted: std::collections::BTreeMap<_, _> = fields.iter().collect();
            let fields = sorted.into_iter().map(|(name, value)| format!("{name}:{}", printed(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// A value as it would be written in Go: `map[string]interface {}{"a":1}`.
pub(super) fn syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            format!("[]interface {{}}{{{}}}", items.iter().map(syntax).collect::<Vec<_>>().join(", "))
        }
        Value::Object(fields) => {
            let sorted: std::collections::BTreeMap<_, _> = fields.iter().collect();
            let fields = sorted.into_iter().map(|(name, value)| format!("{name:?}:{}", syntax(value)));
            format!("map[string]interface {{}}{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Recorded from kube-apiserver.
    #[test]
    fn faults_are_told_in_gos_words() {
        let cases = [
            (r#"{"a":}"#, "invalid character '}' looking for beginning of value"),
            (r#"{"a" 1}"#, "invalid character '1' after object key"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            (r#"{"a":1,}"#, "invalid character '}' looking for beginning of object key string"),
            (r#"{"a":1 "b"}"#, "invalid character '\"' after object key:value pair"),
            (r#"{"a":"\x"}"#, "invalid escape sequence `\\x` in string"),
            (r#"{"a":01}"#, "invalid character '1' after object key:value pair"),
            ("nul", "unexpected end of JSON input"),
            ("", "unexpected end of JSON input"),
            (r#"{"a":1}}"#, "invalid character '}' after top-level value"),
            ("{\"a\":\"b\n\"}", r"invalid character '\n' in string"),
            (r#"{"a":-}"#, "invalid character '}' in numeric literal"),
            ("tru e", "invalid character ' ' in literal true (expecting 'e')"),
            ("[1 2]", "invalid character '2' after array element"),
            ("x", "invalid character 'x' looking for beginning of value"),
        ];
        for (body, words) in cases {
            let error = serde_json::from_str::<Value>(body).unwrap_err();
            assert_eq!(fault(body.as_bytes(), &error), words, "{body}: {error}");
        }
        assert_eq!(
            (summary(b"[]"), summary(b"{\"a\""), summary(b"")),
            ("5b5d".into(), "{\"a\"".into(), "<empty>".into())
        );
        assert_eq!(printed(&json!({"b": [1, "x"], "a": {"c": null}})), "map[a:map[c:<nil>] b:[1 x]]");
    }
}
