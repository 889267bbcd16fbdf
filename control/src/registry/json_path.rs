//! The JSON paths of printer columns and scale subresources: `.spec.a`, `.items[0].b`, `.list[*].c`,
//! `.status.conditions[?(@.type=="Ready")].status`. Anything else finds nothing.

use serde_json::Value;

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(usize),
    All,
    /// Elements whose field has that text.
    Where(String, String),
}

impl JsonPath {
    /// `None` for a path that is not understood.
    pub(crate) fn parse(text: &str) -> Option<JsonPath> {
        let mut steps = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            rest = if let Some(inner) = rest.strip_prefix('[') {
                let end = closing(inner)?;
                steps.push(bracket(inner.get(..end)?)?);
                inner.get(end + 1..)?
            } else {
                let name = rest.strip_prefix('.')?;
                let end = field_end(name);
                let field = name.get(..end)?.replace('\\', "");
                if !field.is_empty() {
                    steps.push(Step::Field(field));
                }
                name.get(end..)?
            };
        }
        Some(JsonPath { steps })
    }

    /// Everything that the path finds.
    pub(crate) fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        self.steps.iter().fold(vec![object], |found, step| {
            found.into_iter().flat_map(|value| apply(step, value)).collect()
        })
    }

    /// For tests: the names of a path of plain fields, `["spec", "replicas"]`.
    #[cfg(test)]
    pub(crate) fn fields(&self) -> Option<Vec<&str>> {
        let plain = self.steps.iter().map(|step| match step {
            Step::Field(name) => Some(name.as_str()),
            _ => None,
        });
        plain.collect()
    }
}

/// A dot inside a name is escaped.
fn field_end(name: &str) -> usize {
    let mut escaped = false;
    for (at, character) in name.char_indices() {
        match character {
            '.' | '[' if !escaped => return at,
            _ => escaped = character == '\\' && !escaped,
        }
    }
    name.len()
}

/// The bracket that closes this one, past quoted text.
fn closing(inner: &str) -> Option<usize> {
    let mut quote = None;
    for (at, character) in inner.char_indices() {
        match (quote, character) {
            (None, ']') => return Some(at),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step> {
    if inner == "*" {
        return Some(Step::All);
    }
    if let Ok(index) = inner.parse() {
        return Some(Step::Index(index));
    }
    if let Some(condition) = inner.strip_prefix("?(@.").and_then(|inner| inner.strip_suffix(')')) {
        let (field, value) = condition.split_once("==")?;
        return Some(Step::Where(field.trim().to_owned(), unquoted(value.trim())?.to_owned()));
    }
    Some(Step::Field(unquoted(inner)?.to_owned()))
}

fn unquoted(text: &str) -> Option<&str> {
    let quoted = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\''))
}

fn apply<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => items.get(*index).into_iter().collect(),
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Where(field, text), Value::Array(items)) => {
            let matches =
                |item: &&Value| item.get(field).is_some_and(|found| found.as_str() == Some(text.as_str()));
            items.iter().filter(matches).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn paths_find_what_they_say() {
        let object = json!({"spec": {"a": 1, "x.y": 2, "list": [{"b": 3}, {"b": 4}]}, "status": {"conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Other", "status": "False"}]}});
        let table = [
            (".spec.a", json!([1])),
            (".spec.x\\.y", json!([2])),
            (".spec['x.y']", json!([2])),
            (".spec.list[1].b", json!([4])),
            (".spec.list[*].b", json!([3, 4])),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='None')].status", json!([])),
            (".gone.too", json!([])),
        ];
        for (path, expected) in table {
            assert_eq!(json!(JsonPath::parse(path).unwrap().find(&object)), expected, "{path}");
        }
        assert_eq!(JsonPath::parse("spec"), None);
        assert_eq!(JsonPath::parse(".a[0"), None);
        assert_eq!(JsonPath::parse(".spec.replicas").unwrap().fields(), Some(vec!["spec", "replicas"]));
    }

    proptest! {
        #[test]
        fn no_path_panics(text in "[.\\[\\]a-c0-9?(@='\"*)\\\\ä]{0,24}") {
            if let Some(path) = JsonPath::parse(&text) {
                path.find(&json!({"a": [{"b": 1}]}));
            }
        }
    }
}
