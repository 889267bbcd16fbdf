//! The parts of an expression, for those that change it.

use cel::common::ast::{EntryExpr, Expr, IdedExpr};

/// Calls `see` with each part that an expression is directly made of.
pub(super) fn parts(expression: &mut IdedExpr, see: &mut dyn FnMut(&mut IdedExpr)) {
    match &mut expression.expr {
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| see(target));
            call.args.iter_mut().for_each(see);
        }
        Expr::Select(select) => see(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(see),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| of_entry(&mut entry.expr, see)),
        Expr::Struct(made) => made.entries.iter_mut().for_each(|entry| of_entry(&mut entry.expr, see)),
        Expr::Comprehension(run) => {
            let run = run.as_mut();
            let outside = [&mut run.iter_range, &mut run.accu_init];
            let inside = [&mut run.loop_cond, &mut run.loop_step, &mut run.result];
            outside.into_iter().chain(inside).for_each(see);
        }
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
    }
}

fn of_entry(entry: &mut EntryExpr, see: &mut dyn FnMut(&mut IdedExpr)) {
    match entry {
        EntryExpr::StructField(field) => see(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            see(&mut entry.key);
            see(&mut entry.value);
        }
    }
}
