//! What loops with two names are compiled to: CEL's comprehensions.

use super::INSERT;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, Expr, IdedExpr, ListExpr, LiteralValue, MapExpr, operators,
};
use cel::common::types::{CelBool, CelInt};
use cel::parser::{Macro, MacroExprHelper, ParseError};
use cel::{DeclarationError, Env};

/// What a loop has collected so far: no name of CEL's begins like this.
const RESULT: &str = "@result";
/// What older versions of CEL called it.
const OLD_RESULT: &str = "__result__";

/// What a loop makes of each pair.
type Step = fn(&mut Nodes<'_, '_>, &str, IdedExpr) -> IdedExpr;

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_macro(quantifier(operators::ALL, all))?;
    env.add_macro(quantifier(operators::EXISTS, exists))?;
    env.add_macro(quantifier("existsOne", exists_one))?;
    env.add_macro(quantifier(operators::EXISTS_ONE, exists_one))?;
    for (name, start, step) in [
        ("transformList", Expr::List(ListExpr::default()), appended as Step),
        ("transformMap", Expr::Map(MapExpr::default()), keyed),
        ("transformMapEntry", Expr::Map(MapExpr::default()), merged),
    ] {
        for arguments in [3, 4] {
            env.add_macro(transformation(name, arguments, start.clone(), step))?;
        }
    }
    Ok(())
}

fn quantifier(name: &str, parts: fn(&mut Nodes<'_, '_>, IdedExpr) -> Parts) -> Macro {
    Macro::receiver(name, 3, move |helper, target, arguments| {
        let mut nodes = Nodes(helper);
        let (Some(range), Some(condition)) = (target.take(), arguments.pop()) else { return Ok(None) };
        let names = nodes.names(arguments)?;
        let parts = parts(&mut nodes, condition);
        Ok(Some(nodes.comprehension(range, names, parts)))
    })
}

/// With four arguments the third says which pairs count.
fn transformation(name: &str, arguments: usize, start: Expr, step: Step) -> Macro {
    Macro::receiver(name, arguments, move |helper, target, arguments| {
        let mut nodes = Nodes(helper);
        let (Some(range), Some(made)) = (target.take(), arguments.pop()) else { return Ok(None) };
        let filter = (arguments.len() == 3).then(|| arguments.pop()).flatten();
        let names = nodes.names(arguments)?;
        let mut step = step(&mut nodes, &names.0, made);
        if let Some(filter) = filter {
            let unchanged = nodes.result();
            step = nodes.call(operators::CONDITIONAL, vec![filter, step, unchanged]);
        }
        let parts = Parts {
            start: nodes.0.next_expr(start.clone()),
            go_on: nodes.flag(true),
            step,
            result: nodes.result(),
        };
        Ok(Some(nodes.comprehension(range, names, parts)))
    })
}

/// What a loop begins with, how long it goes on, what it does each time, and what comes of it.
struct Parts {
    start: IdedExpr,
    go_on: IdedExpr,
    step: IdedExpr,
    result: IdedExpr,
}

fn all(nodes: &mut Nodes<'_, '_>, condition: IdedExpr) -> Parts {
    let (so_far, before, result) = (nodes.result(), nodes.result(), nodes.result());
    Parts {
        start: nodes.flag(true),
        go_on: nodes.call(operators::NOT_STRICTLY_FALSE, vec![so_far]),
        step: nodes.call(operators::LOGICAL_AND, vec![before, condition]),
        result,
    }
}

fn exists(nodes: &mut Nodes<'_, '_>, condition: IdedExpr) -> Parts {
    let (so_far, before, result) = (nodes.result(), nodes.result(), nodes.result());
    let none = nodes.call(operators::LOGICAL_NOT, vec![so_far]);
    Parts {
        start: nodes.flag(false),
        go_on: nodes.call(operators::NOT_STRICTLY_FALSE, vec![none]),
        step: nodes.call(operators::LOGICAL_OR, vec![before, condition]),
        result,
    }
}

fn exists_one(nodes: &mut Nodes<'_, '_>, condition: IdedExpr) -> Parts {
    let (so_far, one, unchanged) = (nodes.result(), nodes.number(1), nodes.result());
    let more = nodes.call(operators::ADD, vec![so_far, one]);
    let (count, one) = (nodes.result(), nodes.number(1));
    Parts {
        start: nodes.number(0),
        go_on: nodes.flag(true),
        step: nodes.call(operators::CONDITIONAL, vec![condition, more, unchanged]),
        result: nodes.call(operators::EQUALS, vec![count, one]),
    }
}

fn appended(nodes: &mut Nodes<'_, '_>, _key: &str, made: IdedExpr) -> IdedExpr {
    let (so_far, element) = (nodes.result(), nodes.0.next_expr(Expr::List(ListExpr::new(vec![made]))));
    nodes.call(operators::ADD, vec![so_far, element])
}

fn keyed(nodes: &mut Nodes<'_, '_>, key: &str, made: IdedExpr) -> IdedExpr {
    let (so_far, key) = (nodes.result(), nodes.0.next_expr(Expr::Ident(key.to_owned())));
    nodes.call(INSERT, vec![so_far, key, made])
}

fn merged(nodes: &mut Nodes<'_, '_>, _key: &str, made: IdedExpr) -> IdedExpr {
    let so_far = nodes.result();
    nodes.call(INSERT, vec![so_far, made])
}

/// Makes the parts of a loop.
struct Nodes<'a, 'h>(&'a mut MacroExprHelper<'h>);

impl Nodes<'_, '_> {
    fn call(&mut self, name: &str, args: Vec<IdedExpr>) -> IdedExpr {
        self.0.next_expr(Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }))
    }

    fn result(&mut self) -> IdedExpr {
        self.0.next_expr(Expr::Ident(RESULT.to_owned()))
    }

    fn flag(&mut self, value: bool) -> IdedExpr {
        self.0.next_expr(Expr::Literal(LiteralValue::Boolean(CelBool::from(value))))
    }

    fn number(&mut self, value: i64) -> IdedExpr {
        self.0.next_expr(Expr::Literal(LiteralValue::Int(CelInt::from(value))))
    }

    /// The two names that the loop has for a key and its value.
    fn names(&self, arguments: &[IdedExpr]) -> Result<(String, String), ParseError> {
        let [first, second] = arguments else { return Err(self.0.new_error(0, "two names are expected")) };
        let (key, value) = (self.name(first)?, self.name(second)?);
        if key == value {
            return Err(self.0.new_error(second.id, format!("duplicate variable name: {key}")));
        }
        match [(key, first), (value, second)].into_iter().find(|(name, _)| *name == OLD_RESULT) {
            Some((_, at)) => {
                Err(self.0.new_error(at.id, "iteration variable overwrites accumulator variable"))
            }
            None => Ok((key.to_owned(), value.to_owned())),
        }
    }

    fn name<'e>(&self, argument: &'e IdedExpr) -> Result<&'e str, ParseError> {
        match &argument.expr {
            Expr::Ident(name) => Ok(name),
            _ => Err(self.0.new_error(argument.id, "argument must be a simple name")),
        }
    }

    fn comprehension(&mut self, iter_range: IdedExpr, names: (String, String), parts: Parts) -> IdedExpr {
        self.0.next_expr(Expr::Comprehension(Box::new(ComprehensionExpr {
            iter_range,
            iter_var: names.0,
            iter_var2: Some(names.1),
            accu_var: RESULT.to_owned(),
            accu_init: parts.start,
            loop_cond: parts.go_on,
            loop_step: parts.step,
            result: parts.result,
        })))
    }
}
