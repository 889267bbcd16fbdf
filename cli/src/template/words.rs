//! A template as text and actions, and an action as words: Go's own cuts, trims and quotes.

use anyhow::{Context, bail};
use serde_json::Value;
use std::iter::Peekable;
use std::str::Chars;

/// What stands between two cuts.
#[derive(Debug)]
pub(super) enum Piece {
    Text(String),
    Action(Vec<Word>),
}

/// The smallest part of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    /// `.A.B`; none is the value itself.
    Field(Vec<String>),
    /// `$x.A`; the name without its dollar.
    Variable(String, Vec<String>),
    /// `.A` right behind a parenthesis.
    Of(Vec<String>),
    Name(String),
    Literal(Value),
    Open,
    Close,
    Pipe,
    Comma,
    /// `:=`, or with false `=`.
    Set(bool),
}

/// Texts and actions in turn; comments are gone.
pub(super) fn pieces(text: &str) -> anyhow::Result<Vec<Piece>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let (trims, action) = match after.strip_prefix("- ") {
            Some(action) => (true, action),
            None => (false, after),
        };
        let before = if trims { before.trim_end() } else { before };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        let (action, after) = action.split_at(end_of(action)?);
        rest = after.strip_prefix("}}").unwrap_or_default();
        let action = match action.strip_suffix(" -") {
            Some(action) => {
                rest = rest.trim_start();
                action
            }
            None => action,
        };
        if !action.trim().starts_with("/*") {
            pieces.push(Piece::Action(words(action)?));
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

/// Where an action ends: at the first `}}` that is in no quotes.
fn end_of(text: &str) -> anyhow::Result<usize> {
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match (quote, char) {
            (Some('"' | '\''), '\\') => drop(chars.next()),
            (Some(open), _) if open == char => quote = None,
            (None, '"' | '`' | '\'') => quote = Some(char),
            (None, '}') if text.get(at..).is_some_and(|rest| rest.starts_with("}}")) => return Ok(at),
            _ => {}
        }
    }
    bail!(
        "template parsing error: {}",
        if quote.is_some() { "unterminated quoted string" } else { "unclosed action" }
    )
}

/// The words of one action.
fn words(text: &str) -> anyhow::Result<Vec<Word>> {
    let mut chars = text.chars().peekable();
    let mut words = Vec::new();
    let mut behind = false;
    while let Some(char) = chars.next() {
        let word = match char {
            char if char.is_whitespace() => {
                behind = false;
                continue;
            }
            '(' => Word::Open,
            ')' => Word::Close,
            '|' => Word::Pipe,
            ',' => Word::Comma,
            '=' => Word::Set(false),
            ':' if chars.next_if_eq(&'=').is_some() => Word::Set(true),
            '"' => Word::Literal(quoted(&mut chars)?.into()),
            '`' => Word::Literal(up_to(&mut chars, |char| char == '`').into()),
            '\'' => Word::Literal(character(&mut chars)?),
            '.' if behind => Word::Of(path(&mut chars)),
            '.' => Word::Field(path(&mut chars)),
            '$' => variable(&mut chars),
            char if char.is_ascii_digit() || "+-".contains(char) => number(char, &mut chars)?,
            char if char.is_alphabetic() || char == '_' => name(char, &mut chars),
            char => bail!("template parsing error: unexpected {char:?} in command"),
        };
        behind = word == Word::Close;
        words.push(word);
    }
    Ok(words)
}

fn up_to(chars: &mut Peekable<Chars<'_>>, ends: impl Fn(char) -> bool) -> String {
    chars.by_ref().take_while(|char| !ends(*char)).collect()
}

fn is_word(char: &char) -> bool {
    char.is_alphanumeric() || *char == '_'
}

fn rest_of(chars: &mut Peekable<Chars<'_>>) -> String {
    std::iter::from_fn(|| chars.next_if(is_word)).collect()
}

/// Names behind a dot, with the dots between them.
fn path(chars: &mut Peekable<Chars<'_>>) -> Vec<String> {
    let mut names = vec![rest_of(chars)];
    while chars.next_if_eq(&'.').is_some() {
        names.push(rest_of(chars));
    }
    names.retain(|name| !name.is_empty());
    names
}

fn variable(chars: &mut Peekable<Chars<'_>>) -> Word {
    let name = rest_of(chars);
    let fields = if chars.next_if_eq(&'.').is_some() { path(chars) } else { Vec::new() };
    Word::Variable(name, fields)
}

fn name(first: char, chars: &mut Peekable<Chars<'_>>) -> Word {
    match format!("{first}{}", rest_of(chars)).as_str() {
        "true" => Word::Literal(true.into()),
        "false" => Word::Literal(false.into()),
        "nil" => Word::Literal(Value::Null),
        name => Word::Name(name.to_owned()),
    }
}

fn number(first: char, chars: &mut Peekable<Chars<'_>>) -> anyhow::Result<Word> {
    let more = std::iter::from_fn(|| chars.next_if(|char| is_word(char) || *char == '.'));
    let text: String = std::iter::once(first).chain(more).collect();
    let whole = text.parse::<i64>().ok().map(Value::from);
    let value = whole.or_else(|| text.parse::<f64>().ok().map(Value::from));
    Ok(Word::Literal(value.with_context(|| format!("template parsing error: bad number syntax: {text:?}"))?))
}

fn quoted(chars: &mut Peekable<Chars<'_>>) -> anyhow::Result<String> {
    let mut text = String::new();
    loop {
        match chars.next().context("template parsing error: unterminated quoted string")? {
            '"' => return Ok(text),
            '\\' => text.push(escaped(chars.next().unwrap_or_default())),
            char => text.push(char),
        }
    }
}

fn escaped(char: char) -> char {
    match char {
        'n' => '\n',
        't' => '\t',
        'r' => '\r',
        other => other,
    }
}

/// A character is its number.
fn character(chars: &mut Peekable<Chars<'_>>) -> anyhow::Result<Value> {
    let text = up_to(chars, |char| char == '\'');
    let mut inside = text.chars();
    let char = match inside.next() {
        Some('\\') => inside.next().map(escaped),
        char => char,
    };
    let char = char.context("template parsing error: malformed character constant")?;
    Ok(u32::from(char).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_gos() {
        let found = words("$a, $b := (index .X.Y \"a \\\"b\\\"\" -1).Z | f `\\` true").unwrap();
        let field = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = [
            Word::Variable("a".into(), Vec::new()),
            Word::Comma,
            Word::Variable("b".into(), Vec::new()),
            Word::Set(true),
            Word::Open,
            Word::Name("index".into()),
            Word::Field(field(&["X", "Y"])),
            Word::Literal("a \"b\"".into()),
            Word::Literal((-1).into()),
            Word::Close,
            Word::Of(field(&["Z"])),
            Word::Pipe,
            Word::Name("f".into()),
            Word::Literal("\\".into()),
            Word::Literal(true.into()),
        ];
        assert_eq!(found, expected);
        assert!(words("a ; b").is_err() && words("1x").is_err());
    }

    #[test]
    fn actions_end_outside_of_quotes() {
        let found = pieces("a {{- \"}}\" -}} b{{/* no */}}{{.}}").unwrap();
        assert!(matches!(&found[0], Piece::Text(text) if text == "a"));
        assert!(matches!(&found[1], Piece::Action(words) if words == &[Word::Literal("}}".into())]));
        assert!(matches!(&found[2], Piece::Text(text) if text == "b"));
        assert_eq!(found.len(), 4);
        assert!(pieces("{{.").is_err() && pieces("{{\"").is_err());
    }
}
