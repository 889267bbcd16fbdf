//! What a template makes of a value.

use super::functions;
use super::parse::{Kind, Operand, Part, Pipeline};
use super::shown::{is_true, shown};
use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};

/// Objects whose names are data: one that is not there is no mistake.
const MAPS: [&str; 9] = [
    "Annotations",
    "ExposedPorts",
    "Labels",
    "Networks",
    "Options",
    "Ports",
    "Storage",
    "Sysctls",
    "Volumes",
];

/// Numbers that a range may go over: a slip of the pen must not take all memory.
const LONGEST_RANGE: u64 = 1_000_000;

/// How a part ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// One rendering.
pub(super) struct Rendering {
    text: String,
    /// The latest of a name counts; `$` is the outermost value.
    variables: Vec<(String, Value)>,
    /// The value is a row of titles, which functions leave as they are.
    titles: bool,
}

/// Renders the parts for one value.
pub(super) fn render(parts: &[Part], value: &Value, titles: bool) -> anyhow::Result<String> {
    let variables = vec![(String::new(), value.clone())];
    let mut rendering = Rendering { text: String::new(), variables, titles };
    rendering.parts(parts, value)?;
    Ok(rendering.text)
}

impl Rendering {
    fn parts(&mut self, parts: &[Part], dot: &Value) -> anyhow::Result<Flow> {
        let known = self.variables.len();
        let mut flow = Flow::On;
        for part in parts {
            flow = self.part(part, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(known);
        Ok(flow)
    }

    fn part(&mut self, part: &Part, dot: &Value) -> anyhow::Result<Flow> {
        match part {
            Part::Text(text) => self.text.push_str(text),
            Part::Print(pipeline) => {
                let value = self.value(pipeline, dot)?;
                if pipeline.set.is_empty() {
                    self.text.push_str(&shown(&value));
                }
            }
            Part::Block(kind, head, inner, otherwise) => {
                return self.block(*kind, head, (inner, otherwise), dot);
            }
            Part::Break => return Ok(Flow::Break),
            Part::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn block(
        &mut self,
        kind: Kind,
        head: &Pipeline,
        (inner, otherwise): (&[Part], &[Part]),
        dot: &Value,
    ) -> anyhow::Result<Flow> {
        let known = self.variables.len();
        let flow = match kind {
            Kind::Range => self.range(head, (inner, otherwise), dot)?,
            Kind::If | Kind::With => match self.value(head, dot)? {
                value if !is_true(&value) => self.parts(otherwise, dot)?,
                value if kind == Kind::With => self.parts(inner, &value)?,
                _ => self.parts(inner, dot)?,
            },
        };
        self.variables.truncate(known);
        Ok(flow)
    }

    fn range(
        &mut self,
        head: &Pipeline,
        (inner, otherwise): (&[Part], &[Part]),
        dot: &Value,
    ) -> anyhow::Result<Flow> {
        let items = items_of(self.commands(&head.commands, dot)?)?;
        if items.is_empty() {
            return self.parts(otherwise, dot);
        }
        for (key, item) in items {
            let values = if head.set.len() > 1 { vec![key, item.clone()] } else { vec![item.clone()] };
            head.set.iter().zip(values).for_each(|(name, value)| self.set(name, value, head.declares));
            if self.parts(inner, &item)? == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, name: &str, value: Value, declares: bool) {
        match self.variables.iter_mut().rfind(|(known, _)| known == name).filter(|_| !declares) {
            Some((_, known)) => *known = value,
            None => self.variables.push((name.to_owned(), value)),
        }
    }

    fn value(&mut self, pipeline: &Pipeline, dot: &Value) -> anyhow::Result<Value> {
        let value = self.commands(&pipeline.commands, dot)?;
        pipeline.set.iter().for_each(|name| self.set(name, value.clone(), pipeline.declares));
        Ok(value)
    }

    fn commands(&self, commands: &[Vec<Operand>], dot: &Value) -> anyhow::Result<Value> {
        let mut last = None;
        for command in commands {
            last = Some(self.command(command, last, dot)?);
        }
        last.context("template parsing error: missing value for command")
    }

    fn command(&self, command: &[Operand], piped: Option<Value>, dot: &Value) -> anyhow::Result<Value> {
        let (first, arguments) = command.split_first().context("missing value for command")?;
        let given = arguments.iter().map(|argument| self.operand(argument, dot));
        match first {
            Operand::Function(name) if matches!(name.as_str(), "and" | "or") => {
                functions::first_that(name == "or", given.chain(piped.map(Ok)))
            }
            Operand::Function(name) => {
                let given = given.chain(piped.map(Ok)).collect::<anyhow::Result<Vec<_>>>()?;
                functions::call(name, given, self.titles)
            }
            Operand::Field(names)
                if names.len() == 1 && names.concat() == "Label" && !arguments.is_empty() =>
            {
                let given = given.collect::<anyhow::Result<Vec<_>>>()?;
                Ok(label(dot, given.first().and_then(Value::as_str).unwrap_or_default(), self.titles))
            }
            other if arguments.is_empty() && piped.is_none() => self.operand(other, dot),
            other => {
                bail!("template: can't give argument to non-function {}", shown(&self.operand(other, dot)?))
            }
        }
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> anyhow::Result<Value> {
        match operand {
            // What no column shows by itself has a title too.
            Operand::Field(names) if self.titles => {
                field(dot, names).or_else(|_| Ok(title(names.last().map_or("", String::as_str)).into()))
            }
            Operand::Field(names) => field(dot, names),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Function(name) => functions::call(name, Vec::new(), self.titles),
            Operand::Group(pipeline, names) => field(&self.commands(&pipeline.commands, dot)?, names),
            Operand::Variable(name, names) => {
                let known = self.variables.iter().rfind(|(known, _)| known == name);
                let (_, value) =
                    known.with_context(|| format!("template: undefined variable \"${name}\""))?;
                field(value, names)
            }
        }
    }
}

/// What a range goes over, with what it calls each.
fn items_of(value: Value) -> anyhow::Result<Vec<(Value, Value)>> {
    Ok(match value {
        Value::Array(items) => items.into_iter().enumerate().map(|(at, item)| (at.into(), item)).collect(),
        Value::Object(items) => items.into_iter().map(|(name, item)| (name.into(), item)).collect(),
        Value::Null => Vec::new(),
        Value::Number(number) => {
            let count = number.as_u64().unwrap_or_default();
            ensure!(count <= LONGEST_RANGE, "template: range over {count}: more than {LONGEST_RANGE}");
            (0..count).map(|at| (at.into(), at.into())).collect()
        }
        other => bail!("template: range can't iterate over {}", shown(&other)),
    })
}

/// A field by its name; Go's own names of them differ in case (`.ID` of `Id`, `.NanoCPUs` of `NanoCpus`).
fn named<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let like = || fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    fields.get(name).or_else(|| like().map(|(_, value)| value))
}

fn field(value: &Value, names: &[String]) -> anyhow::Result<Value> {
    let (mut value, mut of) = (value, "");
    for name in names {
        value = match value {
            Value::Object(fields) => {
                match named(fields, name).filter(|_| !MAPS.contains(&of) || fields.contains_key(name)) {
                    Some(inner) => inner,
                    None if MAPS.contains(&of) => return Ok(Value::Null),
                    None => bail!("template: can't evaluate field {name}"),
                }
            }
            // A field of nothing is nothing.
            Value::Null => return Ok(Value::Null),
            _ => bail!("template: can't evaluate field {name}"),
        };
        of = name;
    }
    Ok(value.clone())
}

/// `CREATED AT` of `CreatedAt`.
fn title(name: &str) -> String {
    let mut title = String::new();
    for (at, char) in name.char_indices() {
        if char.is_uppercase() && name[..at].ends_with(char::is_lowercase) {
            title.push(' ');
        }
        title.extend(char.to_uppercase());
    }
    title
}

/// `{{.Label "name"}}` of a row, whose labels are one text; its title is the last part of the name.
fn label(row: &Value, wanted: &str, titles: bool) -> Value {
    if titles {
        return wanted.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ").to_uppercase().into();
    }
    let labels = row["Labels"].as_str().unwrap_or_default();
    let found = labels.split(',').filter_map(|label| label.split_once('=')).find(|(name, _)| *name == wanted);
    found.map(|(_, value)| value).unwrap_or_default().into()
}
