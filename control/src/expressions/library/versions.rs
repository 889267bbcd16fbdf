//! Versions of software: `semver('1.2.3').isLessThan(semver('1.10.0'))`. The strict form has three numbers; with `true`
//! as second argument a `v` before them, leading zeros and missing numbers are forgiven.

use super::{Arguments, Method, Outcome, argument, fault, flag, methods, number, of_text, opaque, text};
use cel::common::types::{BOOL_TYPE, CelBool, STRING_TYPE};
use cel::common::value::CowVal;
use cel::{DeclarationError, Env, ExecutionError};
use std::cmp::Ordering;

/// What builds are called does not count.
#[derive(Debug, Clone, PartialEq)]
struct Version {
    numbers: [i64; 3],
    /// Parts of the name of a release before the real one.
    before: Vec<Part>,
}

/// Numbers come before words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(String),
}

opaque!(Version, VERSION, "kubernetes.Semver");

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(VERSION.to_owned())?;
    of_text(env, &[("isSemver", &[], is_semver), ("semver", &[], semver)])?;
    let kinds = || vec![STRING_TYPE, BOOL_TYPE];
    env.add_overload("isSemver", "isSemver(string,bool)", kinds(), is_semver)?;
    env.add_overload("semver", "semver(string,bool)", kinds(), semver)?;
    let own: &[Method<'_>] = &[
        ("major", &[], |all| number(argument::<Version>(&all, 0)?.numbers[0])),
        ("minor", &[], |all| number(argument::<Version>(&all, 0)?.numbers[1])),
        ("patch", &[], |all| number(argument::<Version>(&all, 0)?.numbers[2])),
        ("isLessThan", &[&VERSION], |all| flag(ordering(&all)? == Ordering::Less)),
        ("isGreaterThan", &[&VERSION], |all| flag(ordering(&all)? == Ordering::Greater)),
        ("compareTo", &[&VERSION], |all| number(ordering(&all)? as i64)),
    ];
    methods(env, &VERSION, own)
}

fn ordering(all: &[CowVal<'_, '_>]) -> Result<Ordering, ExecutionError> {
    let (own, other) = (argument::<Version>(all, 0)?, argument::<Version>(all, 1)?);
    let real = |version: &Version| version.before.is_empty();
    let release = real(own).cmp(&real(other));
    Ok(own.numbers.cmp(&other.numbers).then(release).then_with(|| own.before.cmp(&other.before)))
}

fn is_semver<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    flag(read(&all)?.is_ok())
}

fn semver<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    match read(&all)? {
        Ok(version) => Ok(CowVal::owned(version)),
        Err(why) => fault("semver", why),
    }
}

fn read(all: &[CowVal<'_, '_>]) -> Result<Result<Version, String>, ExecutionError> {
    let forgiving = all.len() > 1 && *argument::<CelBool>(all, 1)?.inner();
    let text = text(all, 0)?;
    Ok(if forgiving { forgiven(text).and_then(|text| parse(&text)) } else { parse(text) })
}

/// The strict form of what somebody wrote.
fn forgiven(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = bare.splitn(3, '.').map(without_zeros).collect();
    let short = parts.len() < 3;
    if short && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
        return Err(format!("{text:?}: a short version has neither pre-release nor build"));
    }
    parts.resize(3, "0".to_owned());
    Ok(parts.join("."))
}

fn without_zeros(part: &str) -> String {
    let rest = part.trim_start_matches('0');
    let begins = rest.starts_with(|first: char| first.is_ascii_digit());
    if part.is_empty() || begins || rest == part { rest.to_owned() } else { format!("0{rest}") }
}

fn parse(text: &str) -> Result<Version, String> {
    let wrong = |what: &str| format!("{text:?} is no version: {what}");
    let (rest, build) = text.split_once('+').map_or((text, None), |(rest, build)| (rest, Some(build)));
    let (numbers, before) = rest.split_once('-').map_or((rest, None), |(rest, before)| (rest, Some(before)));
    if build.is_some_and(|build| !build.split('.').all(is_identifier)) {
        return Err(wrong("the name of the build"));
    }
    let numbers: Option<Vec<i64>> = numbers.split('.').map(|one| i64::try_from(counted(one)?).ok()).collect();
    let numbers = numbers.and_then(|all| <[i64; 3]>::try_from(all).ok());
    let before: Option<Vec<Part>> = before.map_or(Some(Vec::new()), |all| all.split('.').map(part).collect());
    Ok(Version {
        numbers: numbers.ok_or_else(|| wrong("three numbers are wanted"))?,
        before: before.ok_or_else(|| wrong("the name of the pre-release"))?,
    })
}

/// A number without leading zeros.
fn counted(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let bare = text.len() == 1 || !text.starts_with('0');
    if digits && bare { text.parse().ok() } else { None }
}

fn part(text: &str) -> Option<Part> {
    if !is_identifier(text) {
        return None;
    }
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => counted(text).map(Part::Number),
        false => Some(Part::Word(text.to_owned())),
    }
}

fn is_identifier(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_hold, holds};

    #[test]
    fn versions() {
        all_hold(&[
            "isSemver('1.2.3') && isSemver('1.0.0-rc.1+build.7') && !isSemver('v1.0.0') && !isSemver('1.0')",
            "!isSemver('01.0.0') && !isSemver('1.0.0-') && !isSemver('1.0.0-01') && !isSemver('') && !isSemver('a.b.c')",
            "isSemver('v1.0', true) && isSemver('01.02.03', true) && isSemver('v1', true) && !isSemver('v1.0-a', true)",
            "!isSemver('v1.0', false) && !isSemver('', true) && semver('v01', true) == semver('1.0.0')",
            "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
            "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('2.0.0').isGreaterThan(semver('1.10.0'))",
            "semver('1.0.0-rc.2').compareTo(semver('1.0.0-rc.10')) == -1",
            "semver('1.0.0-rc').isLessThan(semver('1.0.0')) && semver('1.0.0-1').isLessThan(semver('1.0.0-a'))",
            "semver('1.0.0+a') == semver('1.0.0+b') && semver('1.0.0').compareTo(semver('1.0.0')) == 0",
        ]);
        assert!(holds("semver('1').major() == 1").unwrap_err().contains("three numbers"));
    }
}
