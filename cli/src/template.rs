//! `--format`: the part of Go's templates that people use with Docker.
//!
//! Fields (`{{.State.Status}}`), `{{json .X}}`, `{{index .Labels "key"}}`, `{{len .X}}`, `{{upper .X}}`, `{{lower .X}}`,
//! `{{range .X}}...{{end}}` (over lists and the values of objects), `{{with .X}}` and `{{if .X}}...{{else}}...{{end}}`.
//! Anything else is an error that names it.

use crate::output;
use anyhow::{Context, bail};
use serde_json::Value;

/// How deep blocks may be in each other: nobody writes more, and the parser recurses.
const DEPTH: usize = 32;

/// A template that was understood.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Print(Expression),
    Range(Expression, Vec<Part>, Vec<Part>),
    With(Expression, Vec<Part>, Vec<Part>),
    If(Expression, Vec<Part>, Vec<Part>),
}

/// A function and what it is given.
#[derive(Debug, Clone, PartialEq)]
struct Expression {
    function: String,
    arguments: Vec<Argument>,
}

#[derive(Debug, Clone, PartialEq)]
enum Argument {
    /// Names from the current value (empty: the value itself), or, with true, from the outermost one.
    Field(Vec<String>, bool),
    Literal(Value),
}

const FUNCTIONS: [&str; 7] = ["json", "index", "len", "upper", "lower", "print", "println"];

impl Template {
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut tokens = tokens(&text)?.into_iter();
        let (parts, end) = block(&mut tokens, 0)?;
        match end {
            None => Ok(Self(parts)),
            Some(word) => bail!("template parsing error: unexpected {{{{{word}}}}}"),
        }
    }

    pub(crate) fn render(&self, value: &Value) -> anyhow::Result<String> {
        let mut text = String::new();
        render(&self.0, value, value, &mut text)?;
        Ok(text)
    }
}

/// Prints rows as columns, through a template (a header first where that begins with "table"), or as JSON lines.
pub(crate) fn print(rows: &[Value], format: Option<&str>, columns: &[(&str, &str)]) -> anyhow::Result<()> {
    match format {
        None | Some("table") => {
            let header: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
            let cells = |row: &Value| {
                columns.iter().map(|(_, field)| row[*field].as_str().unwrap_or_default().to_owned()).collect()
            };
            output::table(&header, &rows.iter().map(cells).collect::<Vec<_>>());
        }
        Some("json") => rows.iter().for_each(|row| output::line(&row.to_string())),
        Some(format) => match format.strip_prefix("table ") {
            None => {
                let template = Template::parse(format)?;
                for row in rows {
                    output::line(&template.render(row)?);
                }
            }
            Some(format) => table(rows, &Template::parse(format)?, columns)?,
        },
    }
    Ok(())
}

/// Cells are separated by tabs; the header is the template on the titles.
fn table(rows: &[Value], template: &Template, columns: &[(&str, &str)]) -> anyhow::Result<()> {
    let titles = columns.iter().map(|(title, field)| ((*field).to_owned(), Value::from(*title)));
    let mut titles: serde_json::Map<String, Value> = titles.collect();
    for name in rows.first().and_then(Value::as_object).into_iter().flat_map(|row| row.keys()) {
        titles.entry(name.clone()).or_insert_with(|| name.to_uppercase().into());
    }
    let cells = |text: String| text.split('\t').map(str::to_owned).collect::<Vec<String>>();
    let header = cells(template.render(&Value::Object(titles))?);
    let rows = rows.iter().map(|row| Ok(cells(template.render(row)?)));
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    output::table(&header, &rows.collect::<anyhow::Result<Vec<_>>>()?);
    Ok(())
}

#[derive(Debug)]
enum Token {
    Text(String),
    Action(String),
}

fn tokens(text: &str) -> anyhow::Result<Vec<Token>> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").context("template parsing error: unclosed action")?;
        let (trim_before, action) = match action.strip_prefix("- ") {
            Some(action) => (true, action),
            None => (false, action),
        };
        let before = if trim_before { before.trim_end() } else { before };
        if !before.is_empty() {
            tokens.push(Token::Text(before.to_owned()));
        }
        rest = after;
        let action = match action.strip_suffix(" -") {
            Some(action) => {
                rest = rest.trim_start();
                action
            }
            None => action,
        };
        tokens.push(Token::Action(action.trim().to_owned()));
    }
    if !rest.is_empty() {
        tokens.push(Token::Text(rest.to_owned()));
    }
    Ok(tokens)
}

/// Parts up to `end` or `else` of the surrounding block, which is answered.
fn block(
    tokens: &mut std::vec::IntoIter<Token>,
    depth: usize,
) -> anyhow::Result<(Vec<Part>, Option<String>)> {
    if depth > DEPTH {
        bail!("template parsing error: more than {DEPTH} blocks in each other");
    }
    let mut parts = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                parts.push(Part::Text(text));
                continue;
            }
            Token::Action(action) => action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
        let kind = match word {
            "end" | "else" => return Ok((parts, Some(word.to_owned()))),
            "range" => Part::Range,
            "with" => Part::With,
            "if" => Part::If,
            _ => {
                parts.push(Part::Print(expression(&action)?));
                continue;
            }
        };
        let (inner, end) = block(tokens, depth + 1)?;
        let (otherwise, end) = match end.as_deref() {
            Some("else") => block(tokens, depth + 1)?,
            _ => (Vec::new(), end),
        };
        if end.as_deref() != Some("end") {
            bail!("template parsing error: {{{{{word}}}}} without {{{{end}}}}");
        }
        parts.push(kind(expression(rest)?, inner, otherwise));
    }
    Ok((parts, None))
}

fn expression(text: &str) -> anyhow::Result<Expression> {
    let mut words = words(text)?.into_iter().peekable();
    let function = match words.peek() {
        Some(word) if FUNCTIONS.contains(&word.as_str()) => words.next().unwrap_or_default(),
        _ => "print".to_owned(),
    };
    let arguments = words.map(|word| argument(&word)).collect::<anyhow::Result<Vec<_>>>()?;
    if arguments.is_empty() {
        bail!("template parsing error: missing value for {text:?}");
    }
    Ok(Expression { function, arguments })
}

/// Words, where a quoted text is one.
fn words(text: &str) -> anyhow::Result<Vec<String>> {
    let (mut words, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let end = match rest.strip_prefix('"') {
            Some(quoted) => {
                quoted.find('"').context("template parsing error: unterminated quoted string")? + 2
            }
            None => rest.find(char::is_whitespace).unwrap_or(rest.len()),
        };
        let (word, after) = rest.split_at(end);
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    Ok(words)
}

fn argument(word: &str) -> anyhow::Result<Argument> {
    if let Some(text) = word.strip_prefix('"') {
        return Ok(Argument::Literal(text.trim_end_matches('"').into()));
    }
    if let Ok(number) = word.parse::<i64>() {
        return Ok(Argument::Literal(number.into()));
    }
    let (path, root) = match word.strip_prefix('$') {
        Some(path) => (path, true),
        None => (word, false),
    };
    if !(path.starts_with('.') || (root && path.is_empty())) {
        bail!("template parsing error: function {word:?} not defined");
    }
    Ok(Argument::Field(path.split('.').filter(|name| !name.is_empty()).map(str::to_owned).collect(), root))
}

fn render(parts: &[Part], value: &Value, root: &Value, text: &mut String) -> anyhow::Result<()> {
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Print(expression) => text.push_str(&shown(&evaluate(expression, value, root)?)),
            Part::Range(over, inner, otherwise) => {
                let items: Vec<Value> = match evaluate(over, value, root)? {
                    Value::Array(items) => items,
                    Value::Object(items) => items.into_iter().map(|(_, item)| item).collect(),
                    Value::Null => Vec::new(),
                    other => bail!("range can't iterate over {}", shown(&other)),
                };
                if items.is_empty() {
                    render(otherwise, value, root, text)?;
                }
                items.iter().try_for_each(|item| render(inner, item, root, text))?;
            }
            Part::With(of, inner, otherwise) => match evaluate(of, value, root)? {
                inside if is_true(&inside) => render(inner, &inside, root, text)?,
                _ => render(otherwise, value, root, text)?,
            },
            Part::If(condition, inner, otherwise) => {
                let chosen = if is_true(&evaluate(condition, value, root)?) { inner } else { otherwise };
                render(chosen, value, root, text)?;
            }
        }
    }
    Ok(())
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(items) => !items.is_empty(),
    }
}

fn evaluate(expression: &Expression, value: &Value, root: &Value) -> anyhow::Result<Value> {
    let arguments = expression.arguments.iter().map(|argument| match argument {
        Argument::Literal(value) => Ok(value.clone()),
        Argument::Field(names, from_root) => field(if *from_root { root } else { value }, names),
    });
    let mut arguments = arguments.collect::<anyhow::Result<Vec<Value>>>()?.into_iter();
    let first = arguments.next().unwrap_or_default();
    Ok(match expression.function.as_str() {
        "json" => Value::String(first.to_string()),
        "len" => match &first {
            Value::Array(items) => items.len().into(),
            Value::Object(items) => items.len().into(),
            Value::String(text) => text.len().into(),
            _ => 0.into(),
        },
        "upper" => shown(&first).to_uppercase().into(),
        "lower" => shown(&first).to_lowercase().into(),
        "println" => format!("{}\n", shown(&first)).into(),
        "index" => arguments.fold(first, |value, key| match key {
            Value::Number(at) => {
                let at = at.as_u64().and_then(|at| usize::try_from(at).ok());
                at.and_then(|at| value.get(at)).cloned().unwrap_or_default()
            }
            key => value.get(key.as_str().unwrap_or_default()).cloned().unwrap_or_default(),
        }),
        _ => first,
    })
}

fn field(value: &Value, names: &[String]) -> anyhow::Result<Value> {
    let mut value = value;
    for name in names {
        value = match value {
            Value::Object(fields) => match fields.get(name) {
                Some(inner) => inner,
                None => bail!("template: can't evaluate field {name}"),
            },
            // A field of nothing is nothing.
            Value::Null => return Ok(Value::Null),
            _ => bail!("template: can't evaluate field {name}"),
        };
    }
    Ok(value.clone())
}

/// As Go prints it.
fn shown(value: &Value) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(text: &str) -> anyhow::Result<String> {
        let value = json!({
            "Name": "/one", "State": {"Running": true, "ExitCode": 0}, "Labels": {"a.b": "c"},
            "Networks": {"bridge": {"IP": "10.0.0.2"}}, "Args": ["x", "y"], "Empty": [],
        });
        Template::parse(text)?.render(&value)
    }

    #[test]
    fn what_people_write() {
        for (text, expected) in [
            ("{{.Name}}\\t{{ .State.ExitCode }}", "/one\t0"),
            ("{{json .State}}", "{\"ExitCode\":0,\"Running\":true}"),
            ("{{index .Labels \"a.b\"}}", "c"),
            ("{{range .Networks}}{{.IP}}{{end}}", "10.0.0.2"),
            ("{{range .Args}}<{{.}}>{{end}}{{range .Empty}}x{{else}}none{{end}}", "<x><y>none"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            ("{{with .State}}{{.ExitCode}} {{$.Name}}{{end}}", "0 /one"),
            ("{{upper .Name}} {{len .Args}} {{index .Args 1}}", "/ONE 2 y"),
            ("{{.Args}} {{.State}}", "[x y] map[ExitCode:0 Running:true]"),
            ("a {{- .Name -}} b", "a/oneb"),
        ] {
            assert_eq!(rendered(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for (text, words) in [
            ("{{.Name", "unclosed"),
            ("{{.None}}", "can't evaluate field None"),
            ("{{frob .Name}}", "\"frob\" not defined"),
            ("{{range .Args}}", "without {{end}}"),
            ("{{end}}", "unexpected"),
            ("{{}}", "missing value"),
        ] {
            let error = format!("{:#}", rendered(text).unwrap_err());
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(Template::parse(&"{{if .}}".repeat(100)).is_err());
    }
}
