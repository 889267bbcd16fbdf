//! Faults that an expression shows before it is ever evaluated: fields that a type does not have, names that nobody
//! declared, operators between types that do not go together. In the words of CEL's own checker.
//!
//! What is not known for certain is [`Kind::Any`], and nothing is said of it: better silent than wrong.

mod kinds;
mod literals;
mod operators;
pub(crate) mod policies;

pub(crate) use kinds::{Kind, Shape};

use super::Expression;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo,
};

/// Names that are no variables: types, and what functions are called by.
const KNOWN: [&str; 29] = [
    "bool",
    "bytes",
    "double",
    "dyn",
    "duration",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "timestamp",
    "type",
    "uint",
    "base64",
    "cidr",
    "format",
    "ip",
    "semver",
    "cel",
    "google",
    "kubernetes",
    "lists",
    "math",
    "net",
    "optional",
    "regex",
    "sets",
    "strings",
    "jsonpatch",
];

/// Variables, and what is known of them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    variables: Vec<(String, Kind)>,
}

impl Scope {
    /// One more variable, in the place of an older one of that name.
    pub(crate) fn with(mut self, name: &str, kind: Kind) -> Self {
        self.variables.push((name.to_owned(), kind));
        self
    }

    fn find(&self, name: &str) -> Option<&Kind> {
        self.variables.iter().rev().find(|(known, _)| known == name).map(|(_, kind)| kind)
    }
}

impl Expression {
    /// What kind of value the expression gives, or all its faults.
    pub(crate) fn kind_in(&self, scope: &Scope) -> Result<Kind, String> {
        let info = self.program.source_info();
        let mut checker = Checker { scope: scope.clone(), info, faults: Vec::new() };
        let kind = checker.kind(self.program.expression());
        if checker.faults.is_empty() {
            checker.faults = literals::faults(self.program.expression(), info);
        }
        if checker.faults.is_empty() {
            return Ok(kind);
        }
        checker.faults.sort();
        let told = checker.faults.iter().map(|(at, what)| told(&info.source, *at, what));
        Err(told.collect::<Vec<_>>().join("\n"))
    }
}

/// A fault as CEL shows it, with the line it is in.
fn told(source: &str, at: usize, what: &str) -> String {
    let before: String = source.chars().take(at).collect();
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count());
    let text = source.split('\n').nth(line).unwrap_or_default().replace('\t', " ");
    format!("ERROR: <input>:{}:{}: {what}\n | {text}\n | {}^", line + 1, column + 1, ".".repeat(column))
}

struct Checker<'a> {
    scope: Scope,
    info: &'a SourceInfo,
    faults: Vec<(usize, String)>,
}

impl Checker<'_> {
    fn fault(&mut self, id: u64, what: String) -> Kind {
        let at = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        self.faults.push((at, what));
        Kind::Any
    }

    fn kind(&mut self, expression: &IdedExpr) -> Kind {
        match &expression.expr {
            Expr::Unspecified => Kind::Any,
            Expr::Literal(literal) => of_literal(literal),
            Expr::Ident(name) => self.named(expression.id, name),
            Expr::Select(select) => self.selected(expression.id, select),
            Expr::Call(call) => self.called(expression.id, call),
            Expr::Comprehension(comprehension) => self.comprehended(comprehension),
            Expr::List(list) => {
                let mut kinds: Vec<Kind> = list.elements.iter().map(|element| self.kind(element)).collect();
                kinds.dedup_by(|a, b| a.name() == b.name());
                let element = if kinds.len() == 1 { kinds.remove(0) } else { Kind::Any };
                Kind::List(Box::new(element))
            }
            Expr::Map(map) => self.entries(map.entries.iter().map(|entry| &entry.expr)),
            Expr::Struct(object) => self.entries(object.entries.iter().map(|entry| &entry.expr)),
        }
    }

    fn entries<'e>(&mut self, entries: impl Iterator<Item = &'e EntryExpr>) -> Kind {
        for entry in entries {
            match entry {
                EntryExpr::StructField(field) => self.kind(&field.value),
                EntryExpr::MapEntry(pair) => {
                    self.kind(&pair.key);
                    self.kind(&pair.value)
                }
            };
        }
        Kind::Any
    }

    fn named(&mut self, id: u64, name: &str) -> Kind {
        match self.scope.find(name) {
            Some(kind) => kind.clone(),
            None if KNOWN.contains(&name) || name.starts_with(['@', '.']) => Kind::Any,
            None => self.fault(id, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    fn selected(&mut self, id: u64, select: &SelectExpr) -> Kind {
        let kind = match self.kind(&select.operand).field(&select.field) {
            Ok(Some(kind)) => kind,
            Ok(None) => self.fault(id, format!("undefined field '{}'", select.field)),
            Err(name) => self.fault(id, format!("type '{name}' does not support field selection")),
        };
        if select.test { Kind::Bool } else { kind }
    }

    fn called(&mut self, id: u64, call: &CallExpr) -> Kind {
        let target = call.target.as_ref().map(|target| self.kind(target));
        let arguments: Vec<Kind> = call.args.iter().map(|argument| self.kind(argument)).collect();
        match (target, operators::result(&call.func_name, &arguments)) {
            (Some(target), _) => operators::of_method(&call.func_name, &target).unwrap_or_else(|_| {
                let (name, of) = (&call.func_name, target.name());
                self.fault(id, format!("found no matching overload for '{name}' applied to '{of}.()'"))
            }),
            (None, Ok(kind)) => kind,
            (None, Err(operators::NoOverload)) => {
                let names: Vec<String> = arguments.iter().map(Kind::name).collect();
                let (operator, names) = (&call.func_name, names.join(", "));
                self.fault(id, format!("found no matching overload for '{operator}' applied to '({names})'"))
            }
        }
    }

    fn comprehended(&mut self, one: &ComprehensionExpr) -> Kind {
        let range = self.kind(&one.iter_range);
        if range.is_simple() {
            let name = range.name();
            let what = "cannot be range of a comprehension (must be list, map, or dynamic)";
            self.fault(one.iter_range.id, format!("expression of type '{name}' {what}"));
        }
        let (first, second) = match range {
            Kind::List(element) if one.iter_var2.is_some() => (Kind::Int, *element),
            Kind::List(element) => (*element, Kind::Any),
            Kind::Map(value) => (Kind::Text, *value),
            _ => (Kind::Any, Kind::Any),
        };
        let start = self.kind(&one.accu_init);
        let outside = self.scope.variables.len();
        let mut inner = vec![(one.iter_var.clone(), first), (one.accu_var.clone(), Kind::Any)];
        inner.extend(one.iter_var2.clone().map(|name| (name, second)));
        self.scope.variables.extend(inner);
        for part in [&one.loop_cond, &one.loop_step, &one.result] {
            self.kind(part);
        }
        self.scope.variables.truncate(outside);
        match start {
            Kind::Bool => Kind::Bool,
            Kind::List(_) => Kind::List(Box::new(Kind::Any)),
            _ => Kind::Any,
        }
    }
}

fn of_literal(literal: &LiteralValue) -> Kind {
    match literal {
        LiteralValue::Boolean(_) => Kind::Bool,
        LiteralValue::Bytes(_) => Kind::Bytes,
        LiteralValue::Double(_) => Kind::Double,
        LiteralValue::Int(_) => Kind::Int,
        LiteralValue::Null => Kind::Null,
        LiteralValue::String(_) => Kind::Text,
        LiteralValue::UInt(_) => Kind::Uint,
    }
}

#[cfg(test)]
mod tests;
