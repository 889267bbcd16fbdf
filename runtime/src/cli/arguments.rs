//! Flags as Go's parser takes them: `--name value`, `--name=value`, `-name value`, `-n value`, anywhere until the point
//! from which the words belong to the container's program.

use crate::error::{Error, Result};
use lexopt::{Arg, Parser};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// One flag of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    name: &'static str,
    short: Option<char>,
    takes_value: bool,
}

impl Flag {
    /// `--name VALUE`
    pub(crate) const fn value(name: &'static str, short: Option<char>) -> Self {
        Flag { name, short, takes_value: true }
    }

    /// `--name`, or `--name=false`
    pub(crate) const fn switch(name: &'static str, short: Option<char>) -> Self {
        Flag { name, short, takes_value: false }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// As a user writes it: `--name string, -n string`.
    pub(crate) fn written(&self) -> String {
        let value = if self.takes_value { " string" } else { "" };
        let short = self.short.map(|letter| format!(", -{letter}{value}")).unwrap_or_default();
        format!("--{}{value}{short}", self.name)
    }
}

const HELP: Flag = Flag::switch("help", Some('h'));

/// What was given.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    values: Vec<(&'static str, OsString)>,
    pub(crate) positionals: Vec<OsString>,
}

impl Arguments {
    /// Reads flags and up to `limit` plain arguments; whatever follows those is kept as it is.
    pub(crate) fn parse(flags: &'static [Flag], args: Vec<OsString>, limit: usize) -> Result<Self> {
        let mut parser = Parser::from_args(args);
        let mut parsed = Arguments::default();
        loop {
            if let Some((flag, inline)) = single_dash(&mut parser, flags) {
                parsed.take(flag, inline, &mut parser)?;
                continue;
            }
            let argument = parser.next().map_err(|error| Error::invalid(error.to_string()))?;
            let (flag, letter) = match argument {
                None => return Ok(parsed),
                Some(Arg::Value(value)) => {
                    parsed.positionals.push(value);
                    if parsed.positionals.len() >= limit.max(1) {
                        parsed
                            .positionals
                            .extend(parser.raw_args().map_err(|e| Error::invalid(e.to_string()))?);
                        return Ok(parsed);
                    }
                    continue;
                }
                Some(Arg::Long(name)) => (find(flags, |flag| flag.name == name, &format!("-{name}"))?, false),
                Some(Arg::Short(letter)) => {
                    (find(flags, |f| f.short == Some(letter), &format!("-{letter}"))?, true)
                }
            };
            // What follows the letter of a switch is the next letter.
            let inline = if letter && !flag.takes_value { None } else { parser.optional_value() };
            parsed.take(flag, inline, &mut parser)?;
        }
    }

    fn take(&mut self, flag: Flag, inline: Option<OsString>, parser: &mut Parser) -> Result<()> {
        let value = match inline {
            Some(value) => value,
            None if flag.takes_value => {
                // Even a value that looks like a flag.
                let mut rest = parser.raw_args().map_err(|error| Error::invalid(error.to_string()))?;
                rest.next()
                    .ok_or_else(|| Error::invalid(format!("flag needs an argument: --{}", flag.name)))?
            }
            None => OsString::from("true"),
        };
        self.values.push((flag.name, value));
        Ok(())
    }

    /// The flags, and the plain arguments for somebody else.
    pub(crate) fn split(self) -> (Self, Vec<OsString>) {
        (Arguments { values: self.values, positionals: vec![] }, self.positionals)
    }

    /// The last value of a flag.
    fn last(&self, name: &str) -> Option<&OsStr> {
        self.values.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.as_os_str())
    }

    /// A switch is on.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.last(name).is_some_and(|value| !matches!(value.as_bytes(), b"false" | b"0" | b"f"))
    }

    /// A value as text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        self.last(name).map(|value| utf8(name, value)).transpose()
    }

    /// All values of a flag that may be given several times.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>> {
        self.values.iter().filter(|(known, _)| *known == name).map(|(_, value)| utf8(name, value)).collect()
    }

    /// A value as a path.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.last(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }

    /// A value as a number.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Error::invalid(format!("invalid value {text:?} for flag --{name}")))
    }
}

fn utf8(name: &str, value: &OsStr) -> Result<String> {
    value
        .to_str()
        .map(String::from)
        .ok_or_else(|| Error::invalid(format!("value of --{name} is not valid UTF-8")))
}

fn find(flags: &[Flag], is_it: impl Fn(&Flag) -> bool, written: &str) -> Result<Flag> {
    let found = flags.iter().chain(std::iter::once(&HELP)).find(|flag| is_it(flag));
    found.copied().ok_or_else(|| Error::invalid(format!("flag provided but not defined: {written}")))
}

/// `-pid-file`, `-pid-file=x`: one dash before a whole name.
fn single_dash(parser: &mut Parser, flags: &[Flag]) -> Option<(Flag, Option<OsString>)> {
    let mut raw = parser.try_raw_args()?;
    let word = raw.peek()?.to_str()?;
    let rest = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'))?;
    let (name, value) = match rest.split_once('=') {
        Some((name, value)) => (name, Some(OsString::from(value))),
        None => (rest, None),
    };
    let flag = *flags.iter().find(|flag| flag.name == name && name.len() > 1)?;
    raw.next();
    Some((flag, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &[Flag] = &[
        Flag::value("bundle", Some('b')),
        Flag::value("env", Some('e')),
        Flag::switch("tty", Some('t')),
        Flag::switch("detach", Some('d')),
    ];

    fn parse(words: &str, limit: usize) -> Result<Arguments> {
        Arguments::parse(FLAGS, words.split_whitespace().map(OsString::from).collect(), limit)
    }

    #[test]
    fn flags_before_and_after_the_id() {
        for words in [
            "--bundle /b id -d",
            "id --bundle=/b --detach",
            "-b /b -d id",
            "-bundle /b -detach id",
            "-bundle=/b id -d",
        ] {
            let parsed = parse(words, usize::MAX).unwrap();
            assert_eq!(parsed.text("bundle").unwrap().unwrap(), "/b", "{words}");
            assert!(parsed.has("detach"), "{words}");
            assert_eq!(parsed.positionals, ["id"], "{words}");
        }
    }

    #[test]
    fn what_follows_the_id_of_an_exec_is_not_ours() {
        let parsed = parse("-t -e A=1 --env B=-2 id ls -b --detach -- x", 1).unwrap();
        assert_eq!(parsed.texts("env").unwrap(), ["A=1", "B=-2"]);
        assert!(parsed.has("tty") && !parsed.has("detach"));
        assert_eq!(parsed.positionals, ["id", "ls", "-b", "--detach", "--", "x"]);
    }

    #[test]
    fn letters_combine_and_switches_can_be_off() {
        let parsed = parse("-td id", usize::MAX).unwrap();
        assert!(parsed.has("tty") && parsed.has("detach"));
        assert!(!parse("--tty=false", 0).unwrap().has("tty"));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(parse("--nope", 0).unwrap_err().to_string().ends_with("not defined: -nope"));
        assert!(parse("--bundle", 0).unwrap_err().to_string().contains("--bundle"));
    }
}
