//! Paths to fields that a schema describes: `.spec.color`, `.data['a.b']`. Rules name by them the field that they are
//! about, and definitions those that selectors may name.

use serde_json::Value;

/// The names on the way and the schema that a path leads to, or why it leads nowhere.
pub(crate) fn follow<'a>(
    path: &str,
    schema: &'a Value,
    brackets: bool,
) -> Result<(Vec<String>, &'a Value), String> {
    let mut words = words(path).into_iter();
    let (mut schema, mut names) = (schema, Vec::new());
    let ended = || "unexpected end of JSON path".to_owned();
    while let Some(word) = words.next() {
        let name = match word.as_str() {
            "." => words.next().ok_or_else(ended)?,
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let quoted = words.next().ok_or_else(ended)?;
                let inner = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
                let name = inner.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                match words.next().ok_or_else(ended)?.as_str() {
                    "]" => name.replace("\\'", "'").replace("\\\\", "\\"),
                    other => return Err(format!("expected ] but got {other}")),
                }
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        schema = inner(schema, &name).ok_or("does not refer to a valid field")?;
        names.push(name);
    }
    Ok((names, schema))
}

fn inner<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    match schema
        .get("properties")
        .filter(|properties| properties.as_object().is_some_and(|map| !map.is_empty()))
    {
        Some(properties) => properties.get(name),
        None => schema.get("additionalProperties").filter(|others| others.is_object()),
    }
}

/// Dots, brackets, quoted texts, and what is between them.
fn words(path: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let (mut word, mut quoted, mut before) = (String::new(), false, ' ');
    for character in path.chars() {
        match character {
            '\'' if quoted && before != '\\' => {
                word.push(character);
                words.push(std::mem::take(&mut word));
                quoted = false;
            }
            '\'' if word.is_empty() => {
                word.push(character);
                quoted = true;
            }
            '.' | '[' | ']' if !quoted => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
                words.push(character.into());
            }
            _ => word.push(character),
        }
        before = character;
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_fields() {
        let schema = json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"color": {"type": "string"}, "a.b": {"type": "integer"}}},
            "data": {"type": "object", "additionalProperties": {"type": "boolean"}}}});
        for (path, brackets, wanted) in [
            (".spec.color", false, Ok("string")),
            (".spec['a.b']", true, Ok("integer")),
            (".spec['a.b']", false, Err("array notation is not allowed")),
            (".data.anything", true, Ok("boolean")),
            (".spec.size", true, Err("does not refer to a valid field")),
            (".spec.color.x", true, Err("does not refer to a valid field")),
            ("spec.color", true, Err("expected [ or . but got: spec")),
            (".spec.", true, Err("unexpected end of JSON path")),
            (".spec[color]", true, Err("expected single quoted string but got color")),
        ] {
            let found = follow(path, &schema, brackets);
            let kind = found.as_ref().map(|(_, schema)| schema["type"].as_str().unwrap_or_default());
            assert_eq!(kind.map_err(String::as_str), wanted, "{path}");
        }
    }
}
