//! How Go prints values, with and without a format.

use anyhow::bail;
use serde_json::Value;

/// What `if` takes for true.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
    }
}

/// Without a format.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        Value::Object(items) => {
            let pairs: Vec<String> =
                items.iter().map(|(name, item)| format!("{name}:{}", shown(item))).collect();
            format!("map[{}]", pairs.join(" "))
        }
        other => other.to_string(),
    }
}

/// Between values, one of which at least is no text, stands a space.
pub(super) fn printed(values: &[Value]) -> String {
    let mut text = String::new();
    for (at, value) in values.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|before| values.get(before));
        if before.is_some_and(|before| !before.is_string() && !value.is_string()) {
            text.push(' ');
        }
        text.push_str(&shown(value));
    }
    text
}

/// `printf`: flags `-` and `0`, a width, a precision, and the verbs that values of ours have.
pub(super) fn formatted(format: &str, values: &[Value]) -> anyhow::Result<String> {
    let (mut text, mut values, mut chars) = (String::new(), values.iter(), format.chars().peekable());
    while let Some(char) = chars.next() {
        if char != '%' {
            text.push(char);
            continue;
        }
        let is_spec = |char: &char| char.is_ascii_digit() || "-+# .".contains(*char);
        let spec: String = std::iter::from_fn(|| chars.next_if(is_spec)).collect();
        match chars.next() {
            Some('%') => text.push('%'),
            None => text.push_str("%!(NOVERB)"),
            Some(verb) => match values.next() {
                Some(value) => text.push_str(&padded(&one(verb, &spec, value)?, &spec)),
                None => text.push_str(&format!("%!{verb}(MISSING)")),
            },
        }
    }
    Ok(text)
}

fn one(verb: char, spec: &str, value: &Value) -> anyhow::Result<String> {
    let precision =
        spec.split_once('.').map(|(_, digits)| digits.parse::<usize>().unwrap_or_default().min(1000));
    Ok(match (verb, value) {
        ('v' | 's', value) => match precision {
            Some(most) => shown(value).chars().take(most).collect(),
            None => shown(value),
        },
        ('q', value) => Value::from(shown(value)).to_string(),
        ('T', value) => kind(value).to_owned(),
        ('d', Value::Number(number)) if !number.is_f64() => number.to_string(),
        ('x', Value::Number(number)) => format!("{:x}", number.as_i64().unwrap_or_default()),
        ('f', Value::Number(number)) => {
            format!("{:.*}", precision.unwrap_or(6), number.as_f64().unwrap_or_default())
        }
        ('t', Value::Bool(value)) => value.to_string(),
        (verb, value) if "dxftc".contains(verb) => format!("%!{verb}({}={})", kind(value), shown(value)),
        (verb, _) => bail!("template: printf: verb %{verb} is not known"),
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// To the width of the spec.
fn padded(text: &str, spec: &str) -> String {
    let width = spec.split('.').next().unwrap_or_default().trim_start_matches(|c: char| "-+# ".contains(c));
    let zeros = width.starts_with('0') && !spec.contains('-');
    let width = width.parse::<usize>().unwrap_or_default().min(1000);
    match (spec.contains('-'), zeros) {
        (true, _) => format!("{text:<width$}"),
        (false, true) => format!("{text:0>width$}"),
        (false, false) => format!("{text:>width$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_printed_as_go_does() {
        for (format, expected) in [
            ("%s|%5s|%-5s|%.1s", "ab|   ab|ab   |a"),
            ("%d %05d %x", "7 00007 7"),
            ("%q %v %T", "\"[x 1]\" [x 1] []interface {}"),
            ("%t%%", "true%"),
            ("%.2f %f", "1.50 1.500000"),
        ] {
            let value = match format.chars().nth(1) {
                Some('s') => json!("ab"),
                Some('d') => json!(7),
                Some('q') => json!(["x", 1]),
                Some('t') => json!(true),
                _ => json!(1.5),
            };
            assert_eq!(formatted(format, &vec![value; 4]).unwrap(), expected);
        }
        assert_eq!(formatted("%d %s", &[json!("a")]).unwrap(), "%!d(string=a) %!s(MISSING)");
        assert_eq!(printed(&[json!("a"), json!(1), json!(2), json!("b")]), "a1 2b");
    }
}
