//! What a rule of a custom resource may cost at most, before there is any object: as Kubernetes reckons it, from the sizes
//! that the schema allows. Where nobody can know a size this errs towards the cheap: a rule that turns out to be costly
//! ends when it is evaluated.

use super::Expression;
use super::shaped::escaped_name;
use crate::registry::fields;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use serde_json::{Map, Value};

/// Of one rule.
pub(crate) const LIMIT: u64 = 10_000_000;
/// Of all rules of a schema.
pub(crate) const TOTAL: u64 = 100_000_000;
/// Longest request, bytes: what an object without other bounds has.
const REQUEST: u64 = 3 << 20;

/// A value of which an expression makes use: its schema, if it has one, and how large it may be.
#[derive(Clone, Copy)]
struct Sized<'a> {
    schema: Option<&'a Value>,
    size: u64,
}

const PLAIN: Sized<'_> = Sized { schema: None, size: 1 };

impl<'a> Sized<'a> {
    fn of(schema: &'a Value) -> Self {
        Self { schema: Some(schema), size: most_elements(schema) }
    }

    fn plain(size: u64) -> Self {
        Self { schema: None, size }
    }

    fn field(self, name: &str) -> Self {
        let Some(schema) = self.schema else { return PLAIN };
        let known = |properties: &'a Map<String, Value>| {
            properties.iter().find(|(property, _)| escaped_name(property) == name).map(|(_, inner)| inner)
        };
        let property = schema.get("properties").and_then(Value::as_object).and_then(known);
        property.or(inner(schema, "additionalProperties")).map_or(PLAIN, Self::of)
    }

    /// What `[...]` gives.
    fn element(self) -> Self {
        let Some(schema) = self.schema else { return PLAIN };
        inner(schema, "items").or(inner(schema, "additionalProperties")).map_or(PLAIN, Self::of)
    }

    /// What a loop goes over, one by one: the keys of a map.
    fn passed(self) -> Self {
        self.schema.and_then(|schema| inner(schema, "items")).map_or(PLAIN, Self::of)
    }
}

fn inner<'a>(schema: &'a Value, part: &str) -> Option<&'a Value> {
    schema.get(part).filter(|inner| inner.is_object())
}

/// How often a rule may be evaluated that stands at a schema around which nothing bounds the number of its values.
pub(crate) fn most_values(schema: &Value) -> u64 {
    REQUEST / (least_bytes(schema) + 1)
}

/// Elements of a list or a map, bytes of a text.
pub(crate) fn most_elements(schema: &Value) -> u64 {
    let bound = |field: &str| schema.get(field).and_then(Value::as_u64);
    match fields::text(schema, "/type") {
        "array" => bound("maxItems").unwrap_or_else(|| {
            let least = inner(schema, "items").map_or(1, least_bytes);
            (REQUEST - 2) / (least + 1)
        }),
        "object" => match inner(schema, "additionalProperties") {
            Some(values) => {
                bound("maxProperties").unwrap_or_else(|| (REQUEST - 2) / (least_bytes(values) + 6))
            }
            None => 1,
        },
        "string" => most_bytes(schema, bound("maxLength")),
        _ => 1,
    }
}

fn most_bytes(schema: &Value, bound: Option<u64>) -> u64 {
    match (fields::text(schema, "/format"), bound) {
        ("byte", Some(bound)) => bound,
        ("duration", _) => 32,
        ("date", _) => 12,
        ("date-time", _) => 37,
        (_, Some(bound)) => bound.saturating_mul(4),
        (_, None) => {
            let words = fields::list(schema, "/enum").iter().filter_map(Value::as_str);
            words.map(|word| word.len() as u64).max().unwrap_or(REQUEST - 2)
        }
    }
}

/// The fewest bytes that a value takes in JSON.
fn least_bytes(schema: &Value) -> u64 {
    match fields::text(schema, "/type") {
        "boolean" => 4,
        "integer" | "number" => 1,
        "string" => match fields::text(schema, "/format") {
            "duration" => 4,
            "date" => 12,
            "date-time" => 22,
            _ => 2,
        },
        "array" => 2,
        "object" => {
            let required = fields::list(schema, "/required").iter().filter_map(Value::as_str);
            let cost = |name: &str| {
                let property = schema.get("properties").and_then(|properties| properties.get(name))?;
                let has_default = property.get("default").is_some();
                (!has_default).then(|| name.len() as u64 + least_bytes(property) + 4)
            };
            2 + required.filter_map(cost).sum::<u64>()
        }
        _ => 1,
    }
}

impl Expression {
    /// What it may cost where `self` is of a schema.
    pub(crate) fn estimated_cost(&self, schema: &Value) -> u64 {
        let own = Sized::of(schema);
        let mut names = vec![("self", own), ("oldSelf", own)];
        cost(self.program.expression(), &mut names).0
    }
}

/// Names and what they stand for, the innermost last.
type Names<'a> = Vec<(&'a str, Sized<'a>)>;

/// The cost of an expression, and its value.
fn cost<'a>(expression: &'a IdedExpr, names: &mut Names<'a>) -> (u64, Sized<'a>) {
    match &expression.expr {
        Expr::Literal(LiteralValue::String(text)) => (0, Sized::plain(text.inner().len() as u64)),
        Expr::Literal(_) | Expr::Unspecified => (0, PLAIN),
        Expr::Ident(name) => {
            let found = names.iter().rev().find(|(known, _)| known == name);
            (1, found.map_or(PLAIN, |(_, value)| *value))
        }
        Expr::Select(select) => {
            let (before, operand) = cost(&select.operand, names);
            let value = if select.test { PLAIN } else { operand.field(&select.field) };
            (before.saturating_add(1), value)
        }
        Expr::List(list) => {
            let parts = list.elements.iter().fold(10, |sum: u64, one| sum.saturating_add(cost(one, names).0));
            (parts, Sized::plain(list.elements.len() as u64))
        }
        Expr::Map(map) => (entries(30, map.entries.iter().map(|entry| &entry.expr), names), PLAIN),
        Expr::Struct(made) => (entries(40, made.entries.iter().map(|entry| &entry.expr), names), PLAIN),
        Expr::Call(call) => call_cost(call, names),
        Expr::Comprehension(run) => loop_cost(run, names),
    }
}

fn entries<'a>(own: u64, all: impl Iterator<Item = &'a EntryExpr>, names: &mut Names<'a>) -> u64 {
    all.fold(own, |sum, entry| match entry {
        EntryExpr::StructField(field) => sum.saturating_add(cost(&field.value, names).0),
        EntryExpr::MapEntry(entry) => {
            sum.saturating_add(cost(&entry.key, names).0).saturating_add(cost(&entry.value, names).0)
        }
    })
}

fn loop_cost<'a>(run: &'a ComprehensionExpr, names: &mut Names<'a>) -> (u64, Sized<'a>) {
    let (before, range) = cost(&run.iter_range, names);
    let (init, _) = cost(&run.accu_init, names);
    let outside = names.len();
    match &run.iter_var2 {
        Some(value) => names.extend([(run.iter_var.as_str(), PLAIN), (value.as_str(), range.element())]),
        None => names.push((&run.iter_var, range.passed())),
    }
    names.push((&run.accu_var, PLAIN));
    let pass = cost(&run.loop_cond, names).0.saturating_add(cost(&run.loop_step, names).0);
    let (result, _) = cost(&run.result, names);
    names.truncate(outside);
    let all = range.size.saturating_mul(pass);
    let sum = [before, init, result].into_iter().fold(all, u64::saturating_add);
    // What a loop collects is not more than what it passes.
    let collects = matches!(run.accu_init.expr, Expr::List(_) | Expr::Map(_));
    (sum, if collects { Sized::plain(range.size) } else { PLAIN })
}

/// So much of a size, rounded up.
fn part(size: u64, divisor: u64) -> u64 {
    size.div_ceil(divisor)
}

fn call_cost<'a>(call: &'a CallExpr, names: &mut Names<'a>) -> (u64, Sized<'a>) {
    let target = call.target.as_ref().map(|target| cost(target, names));
    let arguments: Vec<(u64, Sized<'a>)> = call.args.iter().map(|argument| cost(argument, names)).collect();
    let parts = target.iter().chain(&arguments).fold(0, |sum: u64, (cost, _)| sum.saturating_add(*cost));
    let value = |at: usize| arguments.get(at).map_or(PLAIN, |(_, value)| *value);
    let of_target = target.map_or(PLAIN, |(_, value)| value);
    let costs = |own: u64, value: Sized<'a>| (parts.saturating_add(own), value);
    match call.func_name.as_str() {
        operators::LOGICAL_AND | operators::LOGICAL_OR => costs(0, PLAIN),
        operators::CONDITIONAL => {
            let branches = [1, 2].map(|at| arguments.get(at).map_or(0, |(cost, _)| *cost));
            let larger = if value(1).size >= value(2).size { value(1) } else { value(2) };
            (parts.saturating_sub(branches[0].min(branches[1])), larger)
        }
        operators::INDEX | operators::OPT_INDEX => costs(1, value(0).element()),
        operators::OPT_SELECT => costs(1, PLAIN),
        operators::IN => costs(value(1).size, PLAIN),
        operators::EQUALS | operators::NOT_EQUALS => costs(part(value(0).size.min(value(1).size), 10), PLAIN),
        operators::ADD => costs(1, Sized::plain(value(0).size.saturating_add(value(1).size))),
        "startsWith" | "endsWith" => costs(part(value(0).size, 10), PLAIN),
        "contains" => costs(part(of_target.size, 10).saturating_mul(part(value(0).size, 10)), PLAIN),
        "matches" => {
            let text = part(of_target.size.saturating_add(1), 10);
            costs(text.saturating_mul(part(value(0).size, 4)), PLAIN)
        }
        _ => costs(1, PLAIN),
    }
}

/// That a cost is more than its limit, in the words of Kubernetes.
pub(crate) fn excess(what: &str, cost: u64, limit: u64) -> String {
    let times = cost as f64 / limit as f64;
    let factor = if times > 100.0 {
        "more than 100x".to_owned()
    } else if times < 1.5 {
        format!("{times:.6}x")
    } else {
        format!("{times:.1}x")
    };
    let advice = "try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared";
    format!("{what} exceeds budget by factor of {factor} ({advice})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn estimated(rule: &str, schema: Value) -> u64 {
        Expression::compile(rule).unwrap().estimated_cost(&schema)
    }

    #[test]
    fn sizes_come_from_the_schema() {
        let list = |most: Option<u64>| {
            let mut list = json!({"type": "array", "items": {"type": "integer"}});
            if let Some(most) = most {
                list["maxItems"] = most.into();
            }
            list
        };
        assert_eq!(most_elements(&list(None)), 1_572_863);
        assert_eq!(most_elements(&json!({"type": "string"})), 3_145_726);
        assert_eq!(most_elements(&json!({"type": "string", "maxLength": 10})), 40);
        let nested = "self.all(x, self.all(y, x + y >= 0))";
        assert!(estimated(nested, list(None)) > 100 * LIMIT);
        assert!(estimated(nested, list(Some(100))) < LIMIT);
        assert!(estimated("self.all(x, x > 0)", list(None)) < LIMIT);
        let text = json!({"type": "string"});
        assert!(estimated("self.matches('^[a-z]+$')", text.clone()) < LIMIT);
        assert!(estimated("self.contains(self)", text) > 100 * LIMIT);
    }

    #[test]
    fn excess_is_told_with_its_factor() {
        let told = |cost| excess("estimated rule cost", cost, LIMIT);
        assert!(told(LIMIT * 101).contains("by factor of more than 100x (try"));
        assert!(told(LIMIT * 2).contains("by factor of 2.0x (try"));
        assert!(told(11_000_000).contains("by factor of 1.100000x (try"));
    }
}
