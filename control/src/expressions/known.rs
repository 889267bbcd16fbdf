//! Expressions that were compiled before: every write that a policy is about evaluates the same ones, and compiling is
//! most of the work. Only so many are kept, by the length of their sources; then all are forgotten at once.

use super::Expression;
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

/// Bytes of all sources together: a compiled expression takes a hundred times as much at worst.
const MOST_BYTES: usize = 256 << 10;

/// How an expression may be compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Language {
    /// Of conditions and messages.
    Plain,
    /// That can make objects as well.
    Patch,
}

#[derive(Default)]
struct Known {
    expressions: HashMap<(Language, String), Expression>,
    bytes: usize,
}

/// Short sections without await.
static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// The expression if it was compiled before, else what `compile` makes of it.
pub(super) fn or_compiled(
    language: Language,
    source: &str,
    compile: impl FnOnce() -> Result<Expression, String>,
) -> Result<Expression, String> {
    let key = (language, source.to_owned());
    if let Some(found) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).expressions.get(&key) {
        return Ok(found.clone());
    }
    let made = compile()?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.bytes + source.len() > MOST_BYTES {
        *known = Known::default();
    }
    known.bytes += source.len();
    known.expressions.insert(key, made.clone());
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_compiled_once() {
        let source = "1 + 1 == 2 && 'compiled once' != ''";
        assert!(Expression::compile(source).is_ok());
        let again = or_compiled(Language::Plain, source, || Err("compiled again".to_owned()));
        assert!(again.is_ok());
        let other = or_compiled(Language::Patch, source, || Err("another language".to_owned()));
        assert_eq!(other.err().as_deref(), Some("another language"));
    }
}
