//! Variables and quotes in the words of a Dockerfile, by the rules of Docker's own shell-like language (which is not
//! a shell): `$x`, `${x}`, `${x:-word}`, `${x:+word}`, `${x:?word}`, the same without colon, `${x#pattern}`,
//! `${x%pattern}`, `${x/pattern/word}`; single quotes keep everything, double quotes keep spaces.

use crate::build::glob;
use crate::error::{Error, Result};
use std::iter::Peekable;
use std::str::Chars;

/// Nested `${a:-${b:-...}}` goes no deeper.
const MAX_DEPTH: usize = 50;

/// What variables are worth.
pub(crate) trait Variables {
    fn get(&self, name: &str) -> Option<String>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Option<String> {
        self(name)
    }
}

/// Replaces variables and takes quotes away.
pub(crate) fn expand(text: &str, escape: char, variables: &dyn Variables) -> Result<String> {
    Expander { rest: text.chars().peekable(), escape, variables, depth: 0, quotes: Quotes::Removed }
        .until(None)
}

/// Replaces variables in a here-document, where quotes mean nothing.
pub(crate) fn expand_document(text: &str, escape: char, variables: &dyn Variables) -> Result<String> {
    Expander { rest: text.chars().peekable(), escape, variables, depth: 0, quotes: Quotes::Kept }.until(None)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    Removed,
    Kept,
}

struct Expander<'a> {
    rest: Peekable<Chars<'a>>,
    escape: char,
    variables: &'a dyn Variables,
    depth: usize,
    quotes: Quotes,
}

impl Expander<'_> {
    /// Everything up to `end` (taken too) or the end of the text.
    fn until(&mut self, end: Option<&[char]>) -> Result<String> {
        let mut out = String::new();
        loop {
            let Some(c) = self.rest.next() else {
                return if end.is_none() { Ok(out) } else { Err(unterminated()) };
            };
            if end.is_some_and(|end| end.contains(&c)) {
                return Ok(out);
            }
            match c {
                '$' => out.push_str(&self.dollar()?),
                '\'' if self.quotes == Quotes::Removed => out.push_str(&self.single_quoted()?),
                '"' if self.quotes == Quotes::Removed => out.push_str(&self.double_quoted()?),
                c if c == self.escape => self.escaped(&mut out),
                c => out.push(c),
            }
        }
    }

    /// The next character stands for itself, in documents too.
    fn escaped(&mut self, out: &mut String) {
        out.extend(self.rest.next());
    }

    fn single_quoted(&mut self) -> Result<String> {
        let mut out = String::new();
        for c in self.rest.by_ref() {
            if c == '\'' {
                return Ok(out);
            }
            out.push(c);
        }
        Err(Error::invalid("unexpected end of statement while looking for matching single-quote"))
    }

    fn double_quoted(&mut self) -> Result<String> {
        let mut out = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                '"' => return Ok(out),
                '$' => out.push_str(&self.dollar()?),
                c if c == self.escape => match self.rest.next() {
                    Some(next) if next == '"' || next == '$' || next == self.escape => out.push(next),
                    Some(next) => out.extend([c, next]),
                    None => break,
                },
                c => out.push(c),
            }
        }
        Err(Error::invalid("unexpected end of statement while looking for matching double-quote"))
    }

    fn dollar(&mut self) -> Result<String> {
        if self.rest.next_if_eq(&'{').is_some() {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(Error::invalid("variables are nested too deeply"));
            }
            let value = self.braced();
            self.depth -= 1;
            return value;
        }
        let name = self.name();
        Ok(if name.is_empty() { "$".to_owned() } else { self.variables.get(&name).unwrap_or_default() })
    }

    /// Letters, digits and underscores; or a single digit or special parameter.
    fn name(&mut self) -> String {
        let mut name = String::new();
        match self.rest.peek() {
            Some(c) if c.is_ascii_alphabetic() || *c == '_' => {}
            Some(c) if c.is_ascii_digit() || "@*#".contains(*c) => {
                name.extend(self.rest.next());
                return name;
            }
            _ => return name,
        }
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }

    fn braced(&mut self) -> Result<String> {
        let name = self.name();
        if name.is_empty() {
            return Err(Error::invalid("bad substitution: ${...} names no variable"));
        }
        let value = self.variables.get(&name);
        let Some(c) = self.rest.next() else { return Err(unterminated()) };
        match c {
            '}' => Ok(value.unwrap_or_default()),
            ':' => {
                let operator = self.rest.next().ok_or_else(unterminated)?;
                self.conditional(&name, value.filter(|value| !value.is_empty()), operator)
            }
            '+' | '-' | '?' => self.conditional(&name, value, c),
            '#' | '%' => self.trimmed(&value.unwrap_or_default(), c),
            '/' => self.replaced(&value.unwrap_or_default()),
            c => Err(Error::invalid(format!("unsupported modifier ({c}) in substitution of ${{{name}}}"))),
        }
    }

    fn conditional(&mut self, name: &str, value: Option<String>, operator: char) -> Result<String> {
        let word = self.until(Some(&['}']))?;
        match (operator, value) {
            ('-', value) => Ok(value.unwrap_or(word)),
            ('+', value) => Ok(value.map(|_| word).unwrap_or_default()),
            ('?', Some(value)) => Ok(value),
            ('?', None) if word.is_empty() => {
                Err(Error::invalid(format!("{name}: is not allowed to be unset")))
            }
            ('?', None) => Err(Error::invalid(format!("{name}: {word}"))),
            (other, _) => {
                Err(Error::invalid(format!("unsupported modifier (:{other}) in substitution of ${{{name}}}")))
            }
        }
    }

    /// Takes off the shortest match of a pattern from an end; the longest where the sign is doubled.
    fn trimmed(&mut self, value: &str, sign: char) -> Result<String> {
        let longest = self.rest.next_if_eq(&sign).is_some();
        let pattern = self.until(Some(&['}']))?;
        let cuts = value.char_indices().map(|(at, _)| at).chain([value.len()]);
        let mut matching = cuts.filter(|at| {
            let (head, tail) = value.split_at(*at);
            glob::matches_text(&pattern, if sign == '#' { head } else { tail })
        });
        let cut = if longest == (sign == '#') { matching.next_back() } else { matching.next() };
        Ok(match (cut, sign) {
            (None, _) => value.to_owned(),
            (Some(at), '#') => value.split_at(at).1.to_owned(),
            (Some(at), _) => value.split_at(at).0.to_owned(),
        })
    }

    /// `/pattern/word` replaces the first match, `//pattern/word` all of them.
    fn replaced(&mut self, value: &str) -> Result<String> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.until(Some(&['/']))?;
        let word = self.until(Some(&['}']))?;
        let mut out = String::new();
        let mut rest = value;
        while let Some(c) = rest.chars().next() {
            let ends = rest.char_indices().map(|(at, c)| at + c.len_utf8());
            match ends.rev().find(|end| glob::matches_text(&pattern, &rest[..*end])) {
                Some(end) => {
                    out.push_str(&word);
                    rest = &rest[end..];
                    if !all {
                        break;
                    }
                }
                None => {
                    out.push(c);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        Ok(out + rest)
    }
}

fn unterminated() -> Error {
    Error::invalid("syntax error: missing '}'")
}

/// Splits at spaces outside quotes; quotes and escapes stay in the words.
pub(crate) fn words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match quote {
            None if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ => {}
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn variables(name: &str) -> Option<String> {
        match name {
            "x" => Some("value".into()),
            "empty" => Some(String::new()),
            "path" => Some("/a/b.tar.gz".into()),
            _ => None,
        }
    }

    fn expanded(text: &str) -> std::result::Result<String, String> {
        expand(text, '\\', &variables).map_err(|error| error.to_string())
    }

    #[test]
    fn as_docker_does() {
        for (text, expected) in [
            ("$x", "value"),
            ("a${x}b", "avalueb"),
            ("$xy", ""),
            ("\\$x", "$x"),
            ("'$x'", "$x"),
            ("\"$x \\\" \\n\"", "value \" \\n"),
            ("a\\ b", "a b"),
            ("${x:-no}", "value"),
            ("${none:-a ${x}}", "a value"),
            ("${empty:-word}", "word"),
            ("${empty-word}", ""),
            ("${none-word}", "word"),
            ("${x:+set}${none:+set}${empty:+set}${empty+set}", "setset"),
            ("${path#*/}", "a/b.tar.gz"),
            ("${path##*/}", "b.tar.gz"),
            ("${path%.*}", "/a/b.tar"),
            ("${path%%.*}", "/a/b"),
            ("${path/\\//_}", "_a/b.tar.gz"),
            ("${path//./-}", "/a/b-tar-gz"),
            ("$", "$"),
            ("$ a", "$ a"),
            ("${x:?gone}", "value"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
        for (text, words) in [
            ("${x", "missing '}'"),
            ("${x:=a}", "unsupported modifier"),
            ("${none:?gone}", "none: gone"),
            ("'a", "single-quote"),
            ("\"a", "double-quote"),
            ("${}", "names no variable"),
        ] {
            let error = expanded(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn a_document_keeps_its_quotes() {
        let text = "echo \"$x\" '$x' \\$x \\n\n";
        assert_eq!(expand_document(text, '\\', &variables).unwrap(), "echo \"value\" 'value' $x n\n");
    }

    #[test]
    fn words_keep_their_quotes() {
        assert_eq!(words("a \"b c\"  d\\ e 'f \\'", '\\'), ["a", "\"b c\"", "d\\ e", "'f \\'"]);
    }

    proptest! {
        #[test]
        fn anything_is_expanded_or_refused(text in "[a-x{}$:+\\-?#%/*'\"\\\\ ]{0,60}") {
            let _ = expanded(&text);
            let _ = words(&text, '\\');
        }
    }
}
