//! The `--name=value` flags that may stand before an instruction's arguments.

use crate::build::expand::Variables;
use crate::build::expand::expand;
use crate::build::near::did_you_mean;
use crate::error::{Error, Result};

/// Flags in the order in which they were given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flags(Vec<(String, String)>);

impl Flags {
    /// Takes the flags off the front of an instruction's arguments and answers the rest.
    pub(crate) fn take(text: &str, escape: char) -> (Self, &str) {
        let mut flags = Vec::new();
        let mut rest = text.trim_start();
        while rest.starts_with("--") {
            let end = word_end(rest, escape);
            let (word, after) = rest.split_at(end);
            rest = after.trim_start();
            if word == "--" {
                break;
            }
            let (name, value) = word[2..].split_once('=').unwrap_or((&word[2..], ""));
            flags.push((name.to_owned(), value.to_owned()));
        }
        (Self(flags), rest)
    }

    /// Fails on one that the instruction does not know.
    pub(crate) fn only(&self, known: &[&str]) -> Result<()> {
        match self.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            Some((name, _)) => {
                let hint = did_you_mean(name, known.iter().copied());
                Err(Error::invalid(format!("unknown flag: --{name}{hint}")))
            }
            None => Ok(()),
        }
    }

    /// The last value of a flag.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a flag that may be repeated.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A flag that is there or not, or says so.
    pub(crate) fn is_set(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("" | "true") => Ok(true),
            Some(other) => Err(Error::invalid(format!("--{name}={other}: expected true or false"))),
        }
    }

    /// With variables replaced in every value.
    pub(crate) fn expanded(&self, escape: char, variables: &dyn Variables) -> Result<Self> {
        let expanded =
            |(name, value): &(String, String)| Ok((name.clone(), expand(value, escape, variables)?));
        Ok(Self(self.0.iter().map(expanded).collect::<Result<_>>()?))
    }
}

/// Where the first word ends: at a space outside quotes.
fn word_end(text: &str, escape: char) -> usize {
    let mut quote = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match quote {
            None if c.is_whitespace() => return at,
            None if c == '"' || c == '\'' => quote = Some(c),
            Some(open) if c == open => quote = None,
            _ if c == escape => {
                chars.next();
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_before_the_arguments() {
        let (flags, rest) = Flags::take("--from=a --link --chown=\"b c\"  x --y", '\\');
        assert_eq!(rest, "x --y");
        assert_eq!(
            (flags.get("from"), flags.get("link"), flags.get("chown")),
            (Some("a"), Some(""), Some("\"b c\""))
        );
        assert!(flags.is_set("link").unwrap() && !flags.is_set("none").unwrap());
        assert!(flags.only(&["from", "link"]).unwrap_err().to_string().contains("unknown flag: --chown"));
        let plain = flags.expanded('\\', &|_: &str| None).unwrap();
        assert_eq!(plain.get("chown"), Some("b c"));
    }
}
