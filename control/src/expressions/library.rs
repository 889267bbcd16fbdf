//! What Kubernetes adds to CEL: quantities, addresses of networks and of pages, searching in texts, and more about lists.
//! Expressions of policies and of custom resources are written with these.

pub(super) mod authorizer;
mod formats;
mod lists;
mod network;
mod quantity;
mod texts;
mod urls;
mod versions;

use cel::common::types::Type;
use cel::common::value::{CowVal, FromVal};
use cel::{DeclarationError, Env, ExecutionError};

/// Arguments and result of a function.
type Arguments<'b, 'v> = Vec<CowVal<'b, 'v>>;
type Outcome<'b, 'v> = Result<CowVal<'b, 'v>, ExecutionError>;

/// Declares all of it.
pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    for extension in [
        cel::extensions::strings,
        cel::extensions::lists,
        cel::extensions::math,
        authorizer::extend,
        formats::extend,
        lists::extend,
        network::extend,
        quantity::extend,
        texts::extend,
        urls::extend,
        versions::extend,
    ] {
        env.add_extension(extension)?;
    }
    Ok(())
}

/// The argument at a place, which the declaration says is there and of that type.
pub(super) fn argument<'a, 'v, T: FromVal<'a, 'v>>(
    arguments: &'a [CowVal<'_, 'v>],
    at: usize,
) -> Result<&'a T, ExecutionError> {
    let value = arguments.get(at).ok_or_else(ExecutionError::missing_argument_or_target)?.as_ref();
    value.downcast_ref::<T>().ok_or_else(|| ExecutionError::UnexpectedType {
        got: value.get_type().name().to_owned(),
        want: std::any::type_name::<T>().to_owned(),
    })
}

/// The text at a place.
fn text<'a>(arguments: &'a [CowVal<'_, '_>], at: usize) -> Result<&'a str, ExecutionError> {
    argument::<cel::common::types::CelString<'_>>(arguments, at).map(|text| text.inner())
}

fn fault<T>(function: &str, why: impl ToString) -> Result<T, ExecutionError> {
    Err(ExecutionError::function_error(function, why))
}

fn flag<'b, 'v>(value: bool) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(cel::common::types::CelBool::from(value)))
}

fn number<'b, 'v>(value: i64) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(cel::common::types::CelInt::from(value)))
}

fn words<'b, 'v>(value: impl Into<String>) -> Outcome<'b, 'v> {
    Ok(CowVal::owned(cel::common::types::CelString::from(value.into())))
}

/// One function of a type: its name, the types of its other arguments, and what it does.
type Method<'a> = (&'static str, &'a [&'a Type], for<'b, 'v> fn(Arguments<'b, 'v>) -> Outcome<'b, 'v>);

/// Declares functions that are called on a value.
fn methods(env: &mut Env, target: &Type, methods: &[Method<'_>]) -> Result<(), DeclarationError> {
    for (name, others, function) in methods {
        let of: Vec<&str> = others.iter().map(|kind| kind.name()).collect();
        let id = format!("{}.{name}({})", target.name(), of.join(","));
        let others = others.iter().map(|kind| (*kind).to_owned()).collect();
        env.add_member_overload(name, &id, target.to_owned(), others, *function)?;
    }
    Ok(())
}

/// Declares functions of one text.
fn of_text(env: &mut Env, functions: &[Method<'_>]) -> Result<(), DeclarationError> {
    for (name, _, function) in functions {
        let id = format!("{name}(string)");
        env.add_overload(name, &id, vec![cel::common::types::STRING_TYPE], *function)?;
    }
    Ok(())
}

/// A value that only its own functions know: its type, and how it is shown to CEL.
macro_rules! opaque {
    ($value:ty, $kind:ident, $name:literal) => {
        /// The type in expressions.
        static $kind: cel::common::types::Type = cel::common::types::Type::new_unspecified_type($name);

        impl cel::common::value::Val for $value {
            fn get_type(&self) -> &cel::common::types::Type {
                &$kind
            }

            fn cel_type() -> &'static cel::common::types::Type {
                &$kind
            }

            fn equals(&self, other: &dyn cel::common::value::Val) -> bool {
                other.downcast_ref::<$value>().is_some_and(|other| self == other)
            }

            fn clone_as_boxed<'v>(&self) -> Box<dyn cel::common::value::Val + 'v> {
                Box::new(self.clone())
            }

            fn as_any(&self) -> Option<&dyn std::any::Any> {
                Some(self)
            }
        }

        impl cel::common::value::StaticVal for $value {}
    };
}
use opaque;

#[cfg(test)]
mod tests {
    use crate::expressions::{Expression, Variables};
    use serde_json::json;

    pub(super) fn holds(source: &str) -> Result<bool, String> {
        let object =
            json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "numbers": [3, 1, 2], "image": "a.io/b:1"});
        Expression::compile(source)?.holds(&Variables::default().with("self", &object))
    }

    pub(super) fn all_hold(sources: &[&str]) {
        for source in sources {
            assert_eq!(holds(source), Ok(true), "{source}");
        }
    }

    #[test]
    fn values_of_the_library_can_be_named() {
        let named = |name: &str, source: &str| (name.to_owned(), Expression::compile(source).unwrap());
        let mut variables = Variables::default();
        let all = [named("most", "quantity('2')"), named("twice", "variables.most.add(variables.most)")];
        crate::expressions::compose(&mut variables, &all);
        let source = "variables.twice.compareTo(quantity('4')) == 0";
        assert_eq!(Expression::compile(source).unwrap().holds(&variables), Ok(true));
    }
}
