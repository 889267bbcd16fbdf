//! Searching in texts by regular expressions.

use super::{Arguments, Outcome, argument, fault, methods, text, words};
use cel::common::types::{CelInt, CelList, CelString, INT_TYPE, STRING_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use regex::Regex;

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    let own: &[super::Method<'_>] = &[
        ("find", &[&STRING_TYPE], find),
        ("findAll", &[&STRING_TYPE], |all| find_all(&all, usize::MAX)),
        ("findAll", &[&STRING_TYPE, &INT_TYPE], |all| {
            // A negative number of matches is all of them.
            let most = usize::try_from(*argument::<CelInt>(&all, 2)?.inner()).unwrap_or(usize::MAX);
            find_all(&all, most)
        }),
    ];
    methods(env, &STRING_TYPE, own)
}

fn pattern(all: &[CowVal<'_, '_>]) -> Result<Regex, ExecutionError> {
    Regex::new(text(all, 1)?).or_else(|error| fault("find", format!("Illegal regex: {error}")))
}

fn find<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let pattern = pattern(&all)?;
    words(pattern.find(text(&all, 0)?).map_or("", |found| found.as_str()))
}

fn find_all<'b, 'v>(all: &[CowVal<'b, 'v>], most: usize) -> Outcome<'b, 'v> {
    let pattern = pattern(all)?;
    let found = pattern.find_iter(text(all, 0)?).take(most);
    let texts = found.map(|found| Box::new(CelString::from(found.as_str().to_owned())) as Box<dyn Val + 'v>);
    Ok(CowVal::owned(CelList::from(texts.collect::<Vec<_>>())))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_hold, holds};

    #[test]
    fn texts_are_searched() {
        all_hold(&[
            "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
            "'123 abc 456'.findAll('[0-9]+') == ['123', '456'] && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
            "'1 2'.findAll('[0-9]', -1).size() == 2 && self.image.find('^[^/]+') == 'a.io'",
        ]);
        assert!(holds("'a'.find('(') == ''").is_err());
    }
}
