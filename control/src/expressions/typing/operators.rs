//! What operators and functions take and give, as far as it matters to the checker.

use super::Kind;

/// An operator does not take such values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoOverload;

/// What an operator or a function gives for its arguments.
pub(super) fn result(name: &str, arguments: &[Kind]) -> Result<Kind, NoOverload> {
    match (name, arguments) {
        ("_&&_" | "_||_" | "!_", _) => conditions(arguments, arguments.len()).map(|()| Kind::Bool),
        ("_?_:_", [_, yes, no]) => {
            conditions(arguments, 1)?;
            Ok(if yes.name() == no.name() { yes.clone() } else { Kind::Any })
        }
        ("_==_" | "_!=_", [left, right]) => same(left, right).map(|()| Kind::Bool),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [left, right]) => ordered(left, right).map(|()| Kind::Bool),
        ("_+_" | "_-_" | "_*_" | "_/_" | "_%_", [left, right]) => computed(name, left, right),
        ("-_", [Kind::Int]) => Ok(Kind::Int),
        ("-_", [Kind::Double]) => Ok(Kind::Double),
        ("-_", [other]) if other.is_simple() => Err(NoOverload),
        ("_[_]", [Kind::List(element), _]) => Ok((**element).clone()),
        ("_[_]", [Kind::Map(value), _]) => Ok((**value).clone()),
        // Fields of objects are named, not looked up.
        ("_[_]", [Kind::Object(_), _]) => Err(NoOverload),
        ("@in", _) => Ok(Kind::Bool),
        ("size" | "int", _) => Ok(Kind::Int),
        ("uint", _) => Ok(Kind::Uint),
        ("double", _) => Ok(Kind::Double),
        ("string", _) => Ok(Kind::Text),
        ("bool" | "has", _) => Ok(Kind::Bool),
        _ => Ok(Kind::Any),
    }
}

/// What a function gives that is called on a value.
pub(super) fn of_method(name: &str, target: &Kind) -> Result<Kind, NoOverload> {
    if let ("sum" | "min" | "max" | "isSorted", Kind::List(element)) = (name, target)
        && !has_order(element, name == "sum")
    {
        return Err(NoOverload);
    }
    Ok(match name {
        "startsWith" | "endsWith" | "matches" | "allowed" | "errored" => Kind::Bool,
        "size" => Kind::Int,
        "lowerAscii" | "upperAscii" | "trim" => Kind::Text,
        _ => Kind::Any,
    })
}

/// Whether elements of a list can be compared, or added.
fn has_order(element: &Kind, added: bool) -> bool {
    match element {
        Kind::List(_) | Kind::Map(_) | Kind::Object(_) => false,
        Kind::Text | Kind::Bytes | Kind::Bool => !added,
        _ => true,
    }
}

/// The first arguments must be conditions.
fn conditions(arguments: &[Kind], first: usize) -> Result<(), NoOverload> {
    let wrong =
        |kind: &Kind| (kind.is_simple() && !matches!(kind, Kind::Bool)) || matches!(kind, Kind::List(_));
    if arguments.iter().take(first).any(wrong) { Err(NoOverload) } else { Ok(()) }
}

fn same(left: &Kind, right: &Kind) -> Result<(), NoOverload> {
    let differ = left.is_simple() && right.is_simple() && left.name() != right.name();
    let is_never_null = |kind: &Kind| kind.is_simple() || matches!(kind, Kind::List(_) | Kind::Map(_));
    let compares_null = matches!(left, Kind::Null) && is_never_null(right)
        || matches!(right, Kind::Null) && is_never_null(left);
    if differ || compares_null { Err(NoOverload) } else { Ok(()) }
}

/// Numbers of all kinds can be compared with each other.
fn ordered(left: &Kind, right: &Kind) -> Result<(), NoOverload> {
    let number = |kind: &Kind| matches!(kind, Kind::Int | Kind::Uint | Kind::Double);
    if number(left) && number(right) { Ok(()) } else { same(left, right) }
}

fn computed(operator: &str, left: &Kind, right: &Kind) -> Result<Kind, NoOverload> {
    if !left.is_simple() || !right.is_simple() {
        return Ok(Kind::Any);
    }
    same(left, right)?;
    let takes = match left {
        Kind::Int | Kind::Uint => true,
        Kind::Double => operator != "_%_",
        Kind::Text | Kind::Bytes => operator == "_+_",
        _ => false,
    };
    if takes { Ok(left.clone()) } else { Err(NoOverload) }
}
