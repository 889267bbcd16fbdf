//! The functions of Go's templates, and those that Docker adds.

use super::shown::{formatted, is_true, printed, shown};
use anyhow::{Context, bail};
use serde_json::Value;
use std::cmp::Ordering;

/// All of their names.
pub(super) const FUNCTIONS: [&str; 28] = [
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "printf",
    "println", "html", "js", "urlquery", "json", "split", "join", "title", "lower", "upper", "pad",
    "truncate", "call", "table",
];

/// `or` and `and` look no further than they must.
pub(super) fn first_that(
    wanted: bool,
    values: impl Iterator<Item = anyhow::Result<Value>>,
) -> anyhow::Result<Value> {
    let mut last = None;
    for value in values {
        let value = value?;
        if is_true(&value) == wanted {
            return Ok(value);
        }
        last = Some(value);
    }
    last.context("template: wrong number of args: want at least 1 got 0")
}

/// What a function makes of its arguments.
pub(super) fn call(name: &str, given: Vec<Value>, titles: bool) -> anyhow::Result<Value> {
    let least = match name {
        "print" | "println" | "table" => 0,
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" | "split" | "join" | "truncate" => 2,
        "pad" => 3,
        _ => 1,
    };
    if given.len() < least {
        bail!("template: wrong number of args for {name}: want {least} got {}", given.len());
    }
    let first = given.first().cloned().unwrap_or_default();
    let more = given.get(1..).unwrap_or_default();
    if titles && matches!(name, "json" | "split" | "join" | "title" | "lower" | "truncate" | "pad") {
        return Ok(first);
    }
    Ok(match name {
        "not" => (!is_true(&first)).into(),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare(name, &first, more)?.into(),
        "len" => length(&first)?.into(),
        "index" => more.iter().try_fold(first, |value, key| item(&value, key))?,
        "slice" => slice(&first, more)?,
        "printf" => formatted(&shown(&first), more)?.into(),
        "println" => (given.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n").into(),
        "json" => first.to_string().into(),
        "call" => bail!("template: call: {} is no function", shown(&first)),
        "print" => printed(&given).into(),
        _ => of_text(name, &first, more),
    })
}

fn of_text(name: &str, first: &Value, more: &[Value]) -> Value {
    let text = shown(first);
    let second = more.first().map(shown).unwrap_or_default();
    let count =
        |at: usize| more.get(at).and_then(Value::as_u64).map_or(0, |count| count.min(10_000) as usize);
    match name {
        "upper" => text.to_uppercase().into(),
        "lower" => text.to_lowercase().into(),
        "title" => title(&text).into(),
        "split" => text.split(&second).map(Value::from).collect(),
        "join" => match first {
            Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(&second).into(),
            _ => text.into(),
        },
        "truncate" => text.chars().take(count(0)).collect::<String>().into(),
        "pad" if text.is_empty() => text.into(),
        "pad" => format!("{}{text}{}", " ".repeat(count(0)), " ".repeat(count(1))).into(),
        "html" => escaped(&text).into(),
        "urlquery" => queried(&text).into(),
        "js" => text
            .replace('\\', "\\\\")
            .replace('\'', "\\'")
            .replace('"', "\\\"")
            .replace('\n', "\\u000A")
            .into(),
        _ => text.into(),
    }
}

fn title(text: &str) -> String {
    let mut begins = true;
    let change = |char: char| {
        let changed = if begins { char.to_uppercase().to_string() } else { char.to_string() };
        begins = char.is_whitespace();
        changed
    };
    text.chars().map(change).collect()
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('\'', "&#39;").replace('"', "&#34;")
}

fn queried(text: &str) -> String {
    let one = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        byte if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn length(value: &Value) -> anyhow::Result<usize> {
    Ok(match value {
        Value::Array(items) => items.len(),
        Value::Object(items) => items.len(),
        Value::String(text) => text.len(),
        Value::Null => 0,
        other => bail!("template: error calling len: len of {}", shown(other)),
    })
}

/// One step of `index`. What a map has not is the nothing of its values: an empty text where they are texts.
fn item(value: &Value, key: &Value) -> anyhow::Result<Value> {
    Ok(match (value, key) {
        (Value::Array(items), Value::Number(at)) => {
            let found = at.as_u64().and_then(|at| usize::try_from(at).ok()).and_then(|at| items.get(at));
            found
                .cloned()
                .with_context(|| format!("template: error calling index: index out of range: {at}"))?
        }
        (Value::Object(items), Value::String(name)) => match items.get(name) {
            Some(item) => item.clone(),
            None if items.values().all(Value::is_string) => "".into(),
            None => Value::Null,
        },
        (Value::Null, Value::String(_)) => "".into(),
        (Value::Null, _) => bail!("template: error calling index: index of untyped nil"),
        (_, key) => bail!("template: error calling index: cannot index with {}", shown(key)),
    })
}

fn slice(value: &Value, bounds: &[Value]) -> anyhow::Result<Value> {
    let length = length(value)?;
    let bound = |at: usize, otherwise: usize| match bounds.get(at) {
        None => Some(otherwise),
        Some(bound) => bound.as_u64().and_then(|bound| usize::try_from(bound).ok()),
    };
    let range = bound(0, 0).zip(bound(1, length)).map(|(from, to)| from..to);
    let found = range.and_then(|range| match value {
        Value::Array(items) => items.get(range).map(|items| Value::from(items.to_vec())),
        Value::String(text) => text.get(range).map(Value::from),
        _ => None,
    });
    found.context("template: error calling slice: index out of range")
}

/// `eq` is true where any of the others is the same.
fn compare(name: &str, first: &Value, others: &[Value]) -> anyhow::Result<bool> {
    let orders = others.iter().map(|other| order(first, other)).collect::<anyhow::Result<Vec<_>>>()?;
    let ordering = orders.first().copied().flatten();
    Ok(match name {
        "eq" => orders.contains(&Some(Ordering::Equal)),
        "ne" => ordering != Some(Ordering::Equal),
        "lt" => ordering == Some(Ordering::Less),
        "le" => matches!(ordering, Some(Ordering::Less | Ordering::Equal)),
        "gt" => ordering == Some(Ordering::Greater),
        _ => matches!(ordering, Some(Ordering::Greater | Ordering::Equal)),
    })
}

/// None where two are only known to differ.
fn order(a: &Value, b: &Value) -> anyhow::Result<Option<Ordering>> {
    Ok(match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) if a == b => Some(Ordering::Equal),
        (Value::Bool(_), Value::Bool(_)) | (Value::Null, _) | (_, Value::Null) => None,
        _ => bail!("template: incompatible types for comparison"),
    })
}
