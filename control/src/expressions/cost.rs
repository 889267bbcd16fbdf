//! What an expression costs while it is evaluated: about one for each step, as Kubernetes counts, and more for calls that
//! go over what is large ([`calls`]). One that goes over its limit ends at once, so that nobody keeps a processor busy by a rule and an object that do not fit together.
//!
//! The evaluator knows no costs, so a compiled expression is given calls that count: one in the condition of each loop,
//! or around what a loop that cannot end early goes over. The count is the thread's: an evaluation stays on it.

mod calls;

use super::walk;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::{CelBool, CelInt, DYN_TYPE, INT_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};
use std::cell::Cell;

/// Of one evaluation.
pub(super) const LIMIT: u64 = 1_000_000;
/// What is said of one that goes over it.
pub(super) const EXCEEDED: &str = "operation cancelled: actual cost limit exceeded";

const TICK: &str = "__tick";
const CHARGE: &str = "__charge";

thread_local! {
    /// Of the evaluation that goes on, or ended last.
    static SPENT: Cell<u64> = const { Cell::new(0) };
}

/// Declares the calls that count.
pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    calls::extend(env)?;
    env.add_overload(TICK, "__tick(int)", vec![INT_TYPE], |arguments| {
        spend(count(&arguments, 0)?)?;
        Ok(CowVal::owned(CelBool::from(true)))
    })?;
    env.add_overload(CHARGE, "__charge(dyn,int)", vec![DYN_TYPE, INT_TYPE], |mut arguments| {
        let size = arguments.first().and_then(|value| value.as_ref().as_sizer());
        let size = size.map_or(1, |sizer| u64::try_from(*sizer.size().inner()).unwrap_or(0));
        spend(size.saturating_mul(count(&arguments, 1)?))?;
        Ok(arguments.swap_remove(0))
    })
}

fn count(arguments: &[CowVal<'_, '_>], at: usize) -> Result<u64, ExecutionError> {
    super::library::argument::<CelInt>(arguments, at).map(|cost| u64::try_from(*cost.inner()).unwrap_or(0))
}

fn spend(cost: u64) -> Result<(), ExecutionError> {
    let spent = SPENT.get().saturating_add(cost);
    SPENT.set(spent);
    if spent > LIMIT { Err(ExecutionError::function_error(TICK, EXCEEDED)) } else { Ok(()) }
}

/// Begins to count.
pub(super) fn begin(base: u64) {
    SPENT.set(base);
}

/// What the evaluation that ended last has cost.
pub(crate) fn spent() -> u64 {
    SPENT.get()
}

/// Whether it went over its limit.
pub(super) fn is_exceeded() -> bool {
    spent() > LIMIT
}

/// What one pass through an expression costs, without the passes of its loops.
pub(super) fn of(expression: &IdedExpr) -> u64 {
    let own = match &expression.expr {
        Expr::Ident(_) | Expr::Select(_) => 1,
        Expr::List(_) => 10,
        Expr::Map(_) => 30,
        Expr::Struct(_) => 40,
        Expr::Call(call) => match call.func_name.as_str() {
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::CONDITIONAL | TICK | CHARGE => 0,
            _ => calls::known_cost(call),
        },
        _ => 0,
    };
    let mut sum = own;
    visit(expression, &mut |inner| sum += of(inner));
    sum
}

/// Calls `see` with every part of an expression that is evaluated as often as it.
fn visit<'a>(expression: &'a IdedExpr, see: &mut dyn FnMut(&'a IdedExpr)) {
    match &expression.expr {
        Expr::Call(call) => {
            call.target.iter().for_each(|target| see(target));
            call.args.iter().for_each(see);
        }
        Expr::Select(select) => see(&select.operand),
        Expr::List(list) => list.elements.iter().for_each(see),
        Expr::Map(map) => map.entries.iter().for_each(|entry| see_entry(&entry.expr, see)),
        Expr::Struct(made) => made.entries.iter().for_each(|entry| see_entry(&entry.expr, see)),
        Expr::Comprehension(run) => [&run.iter_range, &run.accu_init, &run.result].into_iter().for_each(see),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

fn see_entry<'a>(entry: &'a EntryExpr, see: &mut dyn FnMut(&'a IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => see(&field.value),
        EntryExpr::MapEntry(entry) => {
            see(&entry.key);
            see(&entry.value);
        }
    }
}

/// Adds the calls that count to an expression.
pub(super) fn priced(expression: &mut IdedExpr) {
    walk::parts(expression, &mut priced);
    match &mut expression.expr {
        Expr::Comprehension(run) => price_loop(run),
        _ => calls::priced(expression),
    }
}

fn price_loop(run: &mut ComprehensionExpr) {
    let pass = of(&run.loop_cond) + of(&run.loop_step);
    // A loop without a condition ends with what it goes over.
    if matches!(run.loop_cond.expr, Expr::Literal(_)) {
        return charge(&mut run.iter_range, pass);
    }
    let condition = std::mem::take(&mut run.loop_cond);
    let tick = call(condition.id, TICK, vec![number(condition.id, pass)]);
    run.loop_cond = call(condition.id, operators::LOGICAL_AND, vec![tick, condition]);
}

/// Lets a value cost something for each of its elements.
fn charge(value: &mut IdedExpr, each: u64) {
    let inner = std::mem::take(value);
    let id = inner.id;
    *value = call(id, CHARGE, vec![inner, number(id, each)]);
}

fn call(id: u64, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}

fn number(id: u64, value: u64) -> IdedExpr {
    let value = CelInt::from(i64::try_from(value).unwrap_or(i64::MAX));
    IdedExpr { id, expr: Expr::Literal(LiteralValue::Int(value)) }
}

#[cfg(test)]
mod tests {
    use super::super::{Expression, Variables};
    use super::*;
    use serde_json::json;

    fn run(source: &str, size: usize) -> (Result<bool, String>, u64) {
        let list: Vec<usize> = (0..size).collect();
        let expression = Expression::compile(source).unwrap();
        (expression.holds(&Variables::default().with("self", &json!(list))), spent())
    }

    #[test]
    fn loops_cost_what_they_pass() {
        for (source, least, most) in [
            ("self.all(x, x >= 0)", 400, 700),
            ("self.exists(x, x == 1)", 5, 30),
            ("self.map(x, x * 2).size() == 100", 300, 2000),
            ("self.filter(x, x in self).size() == 100", 10_000, 13_000),
            ("self.all(x, self.all(y, x + y >= 0))", 50_000, 80_000),
        ] {
            let (held, cost) = run(source, 100);
            assert_eq!(held, Ok(true), "{source}");
            assert!((least..=most).contains(&cost), "{source}: {cost}");
        }
    }

    #[test]
    fn what_costs_too_much_ends() {
        for source in [
            "self.all(x, self.all(y, x + y >= 0))",
            "self.exists(x, self.exists(y, x + y < 0)) || true",
            "self.map(x, self.map(y, x + y)).size() > 0",
            "self.all(x, self.all(y, self.all(z, x + y + z >= 0)))",
        ] {
            assert_eq!(run(source, 725).0, Err(EXCEEDED.to_owned()), "{source}");
        }
    }
}
