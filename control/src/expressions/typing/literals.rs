//! Literals that no evaluation could use: durations, times and patterns that are none, lists and maps of different
//! things. Looked for once everything else fits, as CEL does.

use super::of_literal;
use crate::expressions::Expression;
use crate::expressions::Variables;
use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo};
use regex::Regex;

/// Where each fault is, and what it is.
pub(super) fn faults(expression: &IdedExpr, info: &SourceInfo) -> Vec<(usize, String)> {
    let mut search = Search { info, faults: Vec::new() };
    search.visit(expression, false);
    search.faults
}

struct Search<'a> {
    info: &'a SourceInfo,
    faults: Vec<(usize, String)>,
}

impl Search<'_> {
    fn fault(&mut self, at: &IdedExpr, what: String) {
        let place = self.info.offset_for(at.id).map_or(0, |(start, _)| start as usize);
        self.faults.push((place, what));
    }

    /// `mixed`: inside of arguments that are shown as texts, which may be of all kinds.
    fn visit(&mut self, one: &IdedExpr, mixed: bool) {
        match &one.expr {
            Expr::Call(call) => {
                let mixed = mixed || call.func_name == "format";
                if let Some(first) = call.args.first().filter(|first| is_unusable(&call.func_name, first)) {
                    self.fault(first, format!("invalid {} argument", call.func_name));
                }
                call.target.iter().for_each(|target| self.visit(target, mixed));
                call.args.iter().for_each(|argument| self.visit(argument, mixed));
            }
            Expr::List(list) => {
                if !mixed {
                    self.alike(&list.elements.iter().collect::<Vec<_>>());
                }
                list.elements.iter().for_each(|element| self.visit(element, mixed));
            }
            Expr::Map(map) => {
                let pairs: Vec<_> = map
                    .entries
                    .iter()
                    .filter_map(|entry| match &entry.expr {
                        EntryExpr::MapEntry(pair) => Some((&pair.key, &pair.value)),
                        EntryExpr::StructField(_) => None,
                    })
                    .collect();
                if !mixed {
                    self.alike(&pairs.iter().map(|(key, _)| *key).collect::<Vec<_>>());
                    self.alike(&pairs.iter().map(|(_, value)| *value).collect::<Vec<_>>());
                }
                for (key, value) in pairs {
                    self.visit(key, mixed);
                    self.visit(value, mixed);
                }
            }
            Expr::Select(select) => self.visit(&select.operand, mixed),
            Expr::Comprehension(one) => {
                for part in [&one.iter_range, &one.accu_init, &one.loop_cond, &one.loop_step, &one.result] {
                    self.visit(part, mixed);
                }
            }
            Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) | Expr::Struct(_) => {}
        }
    }

    /// Values of one kind, as far as that is written down.
    fn alike(&mut self, all: &[&IdedExpr]) {
        let kind = |one: &IdedExpr| match &one.expr {
            Expr::Literal(literal) => Some(of_literal(literal).name()),
            _ => None,
        };
        let Some(first) = all.first().and_then(|first| kind(first)) else { return };
        let other =
            all.iter().find_map(|one| kind(one).filter(|kind| *kind != first).map(|kind| (one, kind)));
        if let Some((one, kind)) = other {
            self.fault(one, format!("expected type '{first}' but found '{kind}'"));
        }
    }
}

fn is_unusable(function: &str, argument: &IdedExpr) -> bool {
    let Expr::Literal(LiteralValue::String(text)) = &argument.expr else { return false };
    let text = text.inner();
    match function {
        "duration" | "timestamp" => {
            let variables = Variables::default().with("text", &text.into());
            let made = Expression::compile(&format!("{function}(text)"));
            made.is_ok_and(|made| made.evaluate(&variables).is_err())
        }
        "matches" => Regex::new(text).is_err(),
        _ => false,
    }
}
