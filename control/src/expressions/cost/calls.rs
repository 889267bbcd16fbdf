//! What calls cost that go over all of what they are given: as much as it is large, as Kubernetes counts. Going over a
//! text costs a tenth of its length, a regular expression a quarter of its own for each of these.
//!
//! The arguments of such a call are wrapped: one says how large it is, and the one that is evaluated last, which is the
//! target where there is one, pays for the call before it is made. Where an argument is a literal that says enough,
//! nothing is wrapped.

use super::{call, number, spend};
use crate::expressions::library::argument;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::common::types::{CelBytes, CelInt, CelList, CelMap, CelString, DYN_TYPE, INT_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use std::cell::RefCell;

const SIZE: &str = "__size";
const PAY: &str = "__pay";

/// Of one question to authorization: no expression asks more than two.
const CHECK: u64 = 350_000;

thread_local! {
    /// How large the other arguments of calls were, by the place of the call.
    static SIZES: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// How the cost of a call comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Formula {
    /// So many times over the first argument.
    First(u64),
    /// Once over the last.
    Last,
    /// So many times over the result.
    Result(u64),
    /// Over the smaller of two.
    Least,
    /// Over both, if they are texts.
    Sum,
    /// Over one for each part of the other.
    Product,
    /// By a regular expression.
    Pattern,
    /// Each element with each, so many times.
    Pairs(u64),
    /// Over all that is in the first, however deep.
    Depth,
    /// Over the elements of the last, if it is a list.
    Members,
    /// The same every time.
    Fixed(u64),
}

const FORMULAS: [Formula; 13] = [
    Formula::First(1),
    Formula::First(2),
    Formula::Last,
    Formula::Result(2),
    Formula::Least,
    Formula::Sum,
    Formula::Product,
    Formula::Pattern,
    Formula::Pairs(1),
    Formula::Pairs(2),
    Formula::Depth,
    Formula::Members,
    Formula::Fixed(CHECK),
];

impl Formula {
    /// `None` for what costs one, whatever it is given.
    fn of(function: &str) -> Option<Self> {
        Some(match function {
            "lowerAscii" | "upperAscii" | "substring" | "trim" | "url" | "quantity" | "isQuantity"
            | "cidr" | "isIP" | "isCIDR" | "ip" | "string" | "bytes" | "format" | "strings.quote" => {
                Self::First(1)
            }
            "replace" | "split" | "ip.isCanonical" => Self::First(2),
            "startsWith" | "endsWith" => Self::Last,
            "join" => Self::Result(2),
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS => Self::Least,
            operators::ADD => Self::Sum,
            "contains" => Self::Product,
            "matches" | "find" | "findAll" => Self::Pattern,
            "sets.contains" | "sets.intersects" => Self::Pairs(1),
            "sets.equivalent" => Self::Pairs(2),
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => Self::Depth,
            operators::IN => Self::Members,
            "check" => Self::Fixed(CHECK),
            _ => return None,
        })
    }

    /// Where it stands among all of them: calls can carry numbers only.
    fn code(self) -> u64 {
        let at = FORMULAS.iter().position(|formula| *formula == self);
        at.unwrap_or(FORMULAS.len()) as u64
    }

    /// Of a call whose last argument is `value`, and another one is so large.
    fn cost(self, value: &dyn Val, other: u64, on_target: bool) -> u64 {
        let own = size(value);
        let (text, pattern) = if on_target { (own, other) } else { (other, own) };
        match self {
            Self::First(times) | Self::Result(times) => tenth(own.saturating_mul(times)),
            Self::Last => tenth(own),
            Self::Least => tenth(other.min(own)),
            Self::Sum if is_text(value) => tenth(other.saturating_add(own)),
            Self::Product => tenth(other).saturating_mul(tenth(own)),
            Self::Pattern => tenth(text.saturating_add(1)).saturating_mul(pattern.div_ceil(4)),
            Self::Pairs(times) => other.saturating_mul(own).saturating_mul(times).saturating_add(1),
            Self::Depth => depth(value),
            Self::Members if value.downcast_ref::<CelList<'_>>().is_some() => own,
            Self::Sum | Self::Members => 1,
            Self::Fixed(cost) => cost,
        }
    }

    /// Whether the cost depends on the first argument as well as on the last.
    fn needs_both(self) -> bool {
        matches!(self, Self::Least | Self::Sum | Self::Product | Self::Pattern | Self::Pairs(_))
    }
}

fn tenth(size: u64) -> u64 {
    size.div_ceil(10)
}

/// What is no collection counts as one.
fn size(value: &dyn Val) -> u64 {
    value.as_sizer().map_or(1, |sizer| u64::try_from(*sizer.size().inner()).unwrap_or(0))
}

fn is_text(value: &dyn Val) -> bool {
    value.downcast_ref::<CelString<'_>>().is_some() || value.downcast_ref::<CelBytes<'_>>().is_some()
}

fn depth(value: &dyn Val) -> u64 {
    if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        return list.inner().iter().map(|item| depth(&**item)).fold(0, u64::saturating_add);
    }
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        let each = map.inner().values().map(|item| depth(&**item).saturating_add(1));
        return each.fold(0, u64::saturating_add);
    }
    if is_text(value) { tenth(size(value)) } else { 1 }
}

/// Declares what arguments are wrapped in.
pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(SIZE, "__size(dyn,int)", vec![DYN_TYPE, INT_TYPE], |mut arguments| {
        let at = place(&arguments, 1)?;
        let large = arguments.first().map_or(1, |value| size(value.as_ref()));
        SIZES.with_borrow_mut(|sizes| {
            if sizes.len() <= at {
                sizes.resize(at + 1, 1);
            }
            sizes[at] = large;
        });
        Ok(arguments.swap_remove(0))
    })?;
    let numbers = vec![DYN_TYPE, INT_TYPE, INT_TYPE, INT_TYPE];
    env.add_overload(PAY, "__pay(dyn,int,int,int)", numbers, |mut arguments| {
        let [at, code, on_target] = [place(&arguments, 1)?, place(&arguments, 2)?, place(&arguments, 3)?];
        let other = SIZES.with_borrow(|sizes| sizes.get(at).copied().unwrap_or(1));
        if let (Some(formula), Some(value)) = (FORMULAS.get(code), arguments.first()) {
            spend(formula.cost(value.as_ref(), other, on_target == 1))?;
        }
        Ok(arguments.swap_remove(0))
    })
}

fn place(arguments: &[CowVal<'_, '_>], at: usize) -> Result<usize, ExecutionError> {
    argument::<CelInt>(arguments, at).map(|place| usize::try_from(*place.inner()).unwrap_or(0))
}

/// What a call costs that is known before it is made; the others pay when they are made.
pub(super) fn known_cost(call: &CallExpr) -> u64 {
    if matches!(call.func_name.as_str(), SIZE | PAY) {
        return 0;
    }
    match formula_of(call) {
        None => 1,
        Some((formula, _)) => by_literal(formula, call).unwrap_or(0),
    }
}

/// With whether its target is a value, and not a part of the function's name.
fn formula_of(call: &CallExpr) -> Option<(Formula, bool)> {
    let Some(target) = &call.target else { return Some((Formula::of(&call.func_name)?, false)) };
    let qualified = match &target.expr {
        Expr::Ident(name) => Formula::of(&format!("{name}.{}", call.func_name)),
        _ => None,
    };
    match qualified {
        Some(formula) => Some((formula, false)),
        None => Some((Formula::of(&call.func_name)?, true)),
    }
}

/// What a literal among the arguments says of the cost.
fn by_literal(formula: Formula, call: &CallExpr) -> Option<u64> {
    let literal = |one: &IdedExpr| match &one.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner().chars().count() as u64),
        Expr::Literal(LiteralValue::Bytes(bytes)) => Some(bytes.inner().len() as u64),
        Expr::Literal(_) => Some(1),
        _ => None,
    };
    match formula {
        // One is the least that two texts cost.
        Formula::Least => call.args.iter().filter_map(literal).min().filter(|size| *size <= 10).map(|_| 1),
        Formula::Last => call.args.last().and_then(literal).map(tenth),
        Formula::Sum => {
            let is_cheap = |one: &IdedExpr| match one.expr {
                Expr::Literal(LiteralValue::String(_) | LiteralValue::Bytes(_)) => false,
                Expr::Literal(_) | Expr::List(_) => true,
                _ => false,
            };
            call.args.iter().any(is_cheap).then_some(1)
        }
        _ => None,
    }
}

/// Lets a call pay for itself.
pub(super) fn priced(expression: &mut IdedExpr) {
    let id = expression.id;
    let Expr::Call(made) = &mut expression.expr else { return };
    let Some((formula, on_target)) = formula_of(made) else { return };
    if by_literal(formula, made).is_some() {
        return;
    }
    let pay = [id, formula.code(), u64::from(on_target)];
    if matches!(formula, Formula::Result(_)) {
        return wrap(expression, PAY, &pay);
    }
    let target = made.target.as_deref_mut().filter(|_| on_target);
    match (formula, target, made.args.as_mut_slice()) {
        (Formula::Last, _, [.., last]) | (Formula::Members, None, [_, last]) => wrap(last, PAY, &pay),
        (_, Some(target), arguments) => {
            if let Some(first) = arguments.first_mut().filter(|_| formula.needs_both()) {
                wrap(first, SIZE, &[id]);
            }
            wrap(target, PAY, &pay);
        }
        (_, None, [first, second, ..]) if formula.needs_both() => {
            wrap(first, SIZE, &[id]);
            wrap(second, PAY, &pay);
        }
        (_, None, [first, ..]) => wrap(first, PAY, &pay),
        (_, None, []) => {}
    }
}

fn wrap(value: &mut IdedExpr, function: &str, numbers: &[u64]) {
    let inner = std::mem::take(value);
    let id = inner.id;
    let arguments = std::iter::once(inner).chain(numbers.iter().map(|one| number(id, *one)));
    *value = call(id, function, arguments.collect());
}

#[cfg(test)]
mod tests {
    use super::super::super::{Expression, Variables};
    use super::super::{EXCEEDED, spent};
    use serde_json::{Value, json};

    /// What the call itself costs: `given` is what its arguments and what is around it cost.
    fn cost(source: &str, given: u64) -> u64 {
        let object = json!({"hundred": "x".repeat(100), "other": "y".repeat(55), "empty": "",
            "list": (0..40).collect::<Vec<_>>(), "texts": vec!["x".repeat(25); 4], "map": {"a": 1, "b": 2}});
        let expression = Expression::compile(source).unwrap();
        let names = object.as_object().unwrap().iter();
        let variables = names.fold(Variables::default(), |all, (name, value)| all.with(name, value));
        assert_ne!(expression.evaluate(&variables).err().as_deref(), Some(EXCEEDED), "{source}");
        spent() - given
    }

    #[test]
    fn calls_cost_what_they_go_over() {
        for (source, given, expected) in [
            ("hundred.lowerAscii()", 1, 10),
            ("other.trim()", 1, 6),
            ("hundred.replace('x', 'y')", 1, 20),
            ("hundred.split('')", 1, 20),
            ("texts.join('')", 1, 20),
            ("hundred.startsWith(other)", 2, 6),
            ("hundred.startsWith('y')", 1, 1),
            ("hundred == other", 2, 6),
            ("empty == hundred", 2, 0),
            ("hundred == 'short'", 1, 1),
            ("hundred < other", 2, 6),
            ("list == list", 2, 4),
            ("hundred + other", 2, 16),
            ("list[0] + 5", 2, 1),
            ("list + list", 2, 1),
            ("list + [1]", 11, 1),
            ("hundred.contains(other)", 2, 60),
            ("hundred.matches('xxxxxxxx')", 1, 22),
            ("hundred.find('xxxx')", 1, 11),
            ("empty.matches('xxxx')", 1, 1),
            ("matches(hundred, 'xxxxxxxx')", 1, 22),
            ("sets.contains(list, list)", 3, 1601),
            ("sets.equivalent(list, texts)", 3, 321),
            ("ip.isCanonical('1.1.1.1')", 1, 2),
            ("string(list.size())", 2, 1),
            ("list.sum()", 1, 40),
            ("texts.max()", 1, 12),
            ("hundred.indexOf('y')", 1, 10),
            ("5 in list", 1, 40),
            ("'a' in map", 1, 1),
            ("isIP(hundred)", 1, 10),
            ("list.size()", 1, 1),
        ] {
            assert_eq!(cost(source, given), expected, "{source}");
        }
    }

    #[test]
    fn long_texts_in_loops_end() {
        let loops = |texts: usize, rule: &str| {
            let texts: Value = vec!["x".repeat(1000); texts].into();
            Expression::compile(rule).unwrap().holds(&Variables::default().with("self", &texts))
        };
        let compare = "self.all(a, self.all(b, a.contains(b)))";
        assert_eq!(loops(8, compare), Ok(true));
        assert_eq!(loops(20, compare), Err(EXCEEDED.to_owned()));
        assert_eq!(loops(200, "self.exists(a, self.exists(b, a < b))"), Err(EXCEEDED.to_owned()));
    }
}
