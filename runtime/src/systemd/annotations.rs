//! `org.systemd.property.NAME` annotations: properties of the scope that no field of the specification has.
//!
//! A value is written as systemd's own tools and runc read it, in GVariant's text format: `true`, `5`, `uint64 5`,
//! `'text'`, `['a', 'b']`, `@as []`. Times are given in seconds (`TimeoutStopSec`) and told to systemd in
//! microseconds (`TimeoutStopUSec`), which is the name it has on the bus.

use super::properties::Value;
use crate::error::{Error, Result};
use std::collections::BTreeMap;

const PREFIX: &str = "org.systemd.property.";
const MICROSECONDS: f64 = 1_000_000.0;

/// All of them.
pub(crate) fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<(String, Value)>> {
    let mut all = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        check_name(name).map_err(|why| Error::invalid(format!("annotation {key} name incorrect: {why}")))?;
        let wrong = |why| Error::invalid(format!("annotation {key}={text} value parse error: {why}"));
        let value = parse(text).map_err(wrong)?;
        all.push(match seconds(name) {
            Some(stem) => (format!("{stem}USec"), microseconds(&value).map_err(wrong)?),
            None => (name.to_string(), value),
        });
    }
    Ok(all)
}

fn check_name(name: &str) -> std::result::Result<(), &'static str> {
    match name {
        _ if name.len() < 3 => Err("name too short"),
        _ if !name.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            Err("name contains non-alphabetic character")
        }
        _ => Ok(()),
    }
}

/// `TimeoutStopSec`, but neither `Sec` alone nor `TimeoutStopUSec`.
fn seconds(name: &str) -> Option<&str> {
    name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()))
}

fn microseconds(value: &Value) -> std::result::Result<Value, &'static str> {
    let seconds = match value {
        Value::Byte(n) => f64::from(*n),
        Value::Int(n) => f64::from(*n),
        Value::Word(n) => f64::from(*n),
        Value::Long(n) => *n as f64,
        Value::Number(n) => *n as f64,
        Value::Real(n) => *n,
        _ => return Err("not a number"),
    };
    Ok(Value::Number((seconds * MICROSECONDS) as u64))
}

/// One value; what stands behind it is an error.
fn parse(text: &str) -> std::result::Result<Value, &'static str> {
    let text = text.trim();
    let (kind, text) = match text.split_once(char::is_whitespace) {
        Some((word, rest)) if word.starts_with('@') || KINDS.contains(&word) => (word, rest.trim()),
        _ => ("", text),
    };
    match text.strip_prefix('[') {
        Some(list) => array(kind, list.strip_suffix(']').ok_or("unterminated array")?),
        None => scalar(kind, text),
    }
}

/// Words and signatures that say what type a number or an empty list has.
const KINDS: &[&str] = &["boolean", "byte", "int32", "uint32", "int64", "uint64", "double", "string"];

fn scalar(kind: &str, text: &str) -> std::result::Result<Value, &'static str> {
    fn number<T: std::str::FromStr>(text: &str) -> std::result::Result<T, &'static str> {
        text.parse().map_err(|_| "invalid number")
    }
    match (kind, text) {
        ("" | "boolean" | "@b", "true") => Ok(Value::Boolean(true)),
        ("" | "boolean" | "@b", "false") => Ok(Value::Boolean(false)),
        ("" | "string" | "@s", _) if text.starts_with(['\'', '"']) => {
            quoted(text).and_then(|(value, rest)| {
                if rest.is_empty() { Ok(Value::Text(value)) } else { Err("unexpected text behind the value") }
            })
        }
        ("byte" | "@y", _) => number(text).map(Value::Byte),
        ("uint32" | "@u", _) => number(text).map(Value::Word),
        ("int64" | "@x", _) => number(text).map(Value::Long),
        ("uint64" | "@t", _) => number(text).map(Value::Number),
        ("double" | "@d", _) => number(text).map(Value::Real),
        ("", _) if text.contains(['.', 'e', 'E']) => number(text).map(Value::Real),
        ("" | "int32" | "@i", _) => number(text).map(Value::Int),
        _ => Err("unknown type"),
    }
}

/// A string in either kind of quotes, and what follows it.
fn quoted(text: &str) -> std::result::Result<(String, &str), &'static str> {
    let mut letters = text.char_indices();
    let Some((_, quote)) = letters.next() else { return Err("not a string") };
    let mut value = String::new();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.push(match letters.next().map(|(_, escaped)| escaped) {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => return Err("unterminated string"),
            }),
            '\0' => return Err("string contains a null byte"),
            _ if letter == quote => return Ok((value, text.get(at + 1..).unwrap_or_default())),
            _ => value.push(letter),
        }
    }
    Err("unterminated string")
}

fn array(kind: &str, list: &str) -> std::result::Result<Value, &'static str> {
    let list = list.trim();
    if kind == "@as" || kind.is_empty() && list.starts_with(['\'', '"']) {
        return strings(list).map(Value::Texts);
    }
    let words: Vec<&str> = list.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let (kind, words) = match (kind, words.split_first()) {
        // The type of the first one holds for all.
        ("", Some((first, rest))) => match first.split_once(' ') {
            Some((kind, first)) => (kind, [&[first.trim()], rest].concat()),
            None => return Err("the type of the numbers is not given"),
        },
        (kind, _) => (kind, words),
    };
    let number = |word: &&str| word.parse::<u32>().map_err(|_| "invalid number");
    let byte = |word: &&str| word.parse::<u8>().map_err(|_| "invalid number");
    match kind {
        "@au" | "uint32" => {
            words.iter().map(number).collect::<std::result::Result<_, _>>().map(Value::Numbers)
        }
        "@ay" | "byte" => words.iter().map(byte).collect::<std::result::Result<_, _>>().map(Value::Bytes),
        _ => Err("unknown type of array"),
    }
}

fn strings(mut list: &str) -> std::result::Result<Vec<String>, &'static str> {
    let mut all = Vec::new();
    while !list.is_empty() {
        let (value, rest) = quoted(list)?;
        all.push(value);
        list = rest.trim_start();
        match list.strip_prefix(',') {
            Some(rest) => list = rest.trim_start(),
            None if list.is_empty() => {}
            None => return Err("a comma is missing"),
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_the_text_format() {
        let texts = |list: &[&str]| Value::Texts(list.iter().map(|text| (*text).to_string()).collect());
        for (text, value) in [
            ("true", Value::Boolean(true)),
            ("5", Value::Int(5)),
            ("-5", Value::Int(-5)),
            ("uint64 5", Value::Number(5)),
            ("@t 5", Value::Number(5)),
            ("1.5", Value::Real(1.5)),
            ("'inactive-or-failed'", Value::Text("inactive-or-failed".into())),
            ("\"it's \\\"x\\\"\"", Value::Text("it's \"x\"".into())),
            ("['a', 'b,c']", texts(&["a", "b,c"])),
            ("@as []", texts(&[])),
            ("[uint32 1, 2]", Value::Numbers(vec![1, 2])),
            ("@ay [1, 255]", Value::Bytes(vec![1, 255])),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
        for bad in ["", "x", "'x", "'x' y", "[", "['a' 'b']", "[1, 2]", "@as [1]", "byte 256", "uint32 -1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_checked_and_seconds_become_microseconds() {
        let read = |key: &str, text: &str| {
            properties(&BTreeMap::from([
                (format!("{PREFIX}{key}"), text.to_string()),
                ("other".into(), "!".into()),
            ]))
        };
        assert_eq!(
            read("TimeoutStopSec", "7").unwrap(),
            [("TimeoutStopUSec".into(), Value::Number(7_000_000))]
        );
        assert_eq!(
            read("TimeoutStopUSec", "uint64 7").unwrap(),
            [("TimeoutStopUSec".into(), Value::Number(7))]
        );
        assert_eq!(read("CollectMode", "'inactive'").unwrap()[0].0, "CollectMode");
        for (key, text, why) in [
            ("ab", "1", "name too short"),
            ("Slice=x", "1", "non-alphabetic"),
            ("TimeoutStopSec", "'x'", "not a number"),
            ("Foo", "nonsense", "value parse error"),
        ] {
            let error = read(key, text).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
