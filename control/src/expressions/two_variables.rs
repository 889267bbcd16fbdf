//! Loops with two names: `list.all(i, v, ...)` sees where each value stands, `map.all(k, v, ...)` under which key.
//! `transformList`, `transformMap` and `transformMapEntry` collect what they make of each pair.
//!
//! They are compiled to what CEL makes of them, a loop with a second name, which the checker of types and the estimate
//! of costs know. The evaluator does not, so it is given the same in its own words ([`lowered`]): a loop over pairs,
//! in which each name is a place in the pair. What collects a map collects a list of maps, because the evaluator
//! appends to a list in place, but would copy a map as often as it grows.

mod macros;
mod pairs;

use super::walk;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, IdedExpr, ListExpr, LiteralValue,
    MapEntryExpr, MapExpr, operators,
};
use cel::common::types::CelInt;
use cel::{DeclarationError, Env};
use std::mem::take;

/// Puts a key and its value, or all of a map, into a map.
const INSERT: &str = "cel.@mapInsert";

/// Declares the loops.
pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    macros::extend(env)?;
    pairs::extend(env)
}

/// Says loops with two names in words that the evaluator knows.
pub(super) fn lowered(expression: &mut IdedExpr) {
    walk::parts(expression, &mut lowered);
    let id = expression.id;
    let Expr::Comprehension(run) = &mut expression.expr else { return };
    let Some(second) = run.iter_var2.take() else { return };
    // No name of CEL's begins like this, and no other loop has this number.
    let pair = format!("@pair{id}");
    let first = std::mem::replace(&mut run.iter_var, pair.clone());
    for part in [&mut run.loop_cond, &mut run.loop_step] {
        place(part, &first, &pair, 0);
        place(part, &second, &pair, 1);
    }
    let range = take(&mut run.iter_range);
    run.iter_range = call(range.id, pairs::PAIRS, vec![range]);
    if is_appended(&mut run.loop_step) {
        run.accu_init.expr = Expr::List(ListExpr::default());
        let list = take(expression);
        *expression = call(id, pairs::MERGED, vec![list]);
    }
}

/// Lets a name stand for a place in a pair.
fn place(expression: &mut IdedExpr, name: &str, pair: &str, at: i64) {
    let id = expression.id;
    match &mut expression.expr {
        Expr::Ident(found) if found == name => {
            let pair = IdedExpr { id, expr: Expr::Ident(pair.to_owned()) };
            let at = IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(CelInt::from(at))) };
            *expression = call(id, operators::INDEX, vec![pair, at]);
        }
        Expr::Comprehension(run) if is_hidden(run, name) => {
            place(&mut run.iter_range, name, pair, at);
            place(&mut run.accu_init, name, pair, at);
        }
        _ => walk::parts(expression, &mut |part| place(part, name, pair, at)),
    }
}

/// Whether a loop has a name of its own that is the same.
fn is_hidden(run: &ComprehensionExpr, name: &str) -> bool {
    run.iter_var == name || run.accu_var == name || run.iter_var2.as_deref() == Some(name)
}

/// Turns what is put into a map into a map that is appended to a list; whether there was any.
fn is_appended(step: &mut IdedExpr) -> bool {
    let id = step.id;
    let Expr::Call(made) = &mut step.expr else { return false };
    match (made.func_name.as_str(), made.args.as_mut_slice()) {
        (operators::CONDITIONAL, [_, step, _]) => is_appended(step),
        (INSERT, [collected, parts @ ..]) => {
            let collected = take(collected);
            let entry = match parts {
                [key, value] => single(id, take(key), take(value)),
                [entries] => take(entries),
                _ => return false,
            };
            let list = IdedExpr { id, expr: Expr::List(ListExpr::new(vec![entry])) };
            *step = call(id, operators::ADD, vec![collected, list]);
            true
        }
        _ => false,
    }
}

/// A map of one entry.
fn single(id: u64, key: IdedExpr, value: IdedExpr) -> IdedExpr {
    let entry = EntryExpr::MapEntry(MapEntryExpr { key, value, optional: false });
    IdedExpr { id, expr: Expr::Map(MapExpr { entries: vec![IdedEntryExpr { id, expr: entry }] }) }
}

fn call(id: u64, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}

#[cfg(test)]
mod tests;
