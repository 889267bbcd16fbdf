//! A command line that is not understood, told in Docker's words and with its exit codes, by which scripts know: 125 for
//! an option, 1 for what else is wrong. A group of commands without a command is no mistake, it shows its commands.

use crate::args::Arguments;
use crate::output;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, CommandFactory, Error};
use std::ffi::OsString;
use std::process::ExitCode;

/// What is wrong with an option.
const OPTION: u8 = 125;

/// Tells what was wrong, or the help that was asked for.
pub(crate) fn tell(words: &[OsString], error: &Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe (`knarr --help | head -1`) is no error of ours.
            let _closed_pipe = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            output::line(error.render().to_string().trim_end());
            ExitCode::SUCCESS
        }
        _ => {
            let (path, command) = named(words);
            let complaint = Complaint { error, path: &path, command: &command };
            let (text, code) = complaint.of_option().map_or_else(
                || (complaint.of_arguments().unwrap_or_else(|| complaint.own()), 1),
                |text| (text, OPTION),
            );
            output::complain(&complaint.whole(&text));
            ExitCode::from(code)
        }
    }
}

/// The command that the words name, with all its options, and how it is called.
fn named(words: &[OsString]) -> (String, Command) {
    let mut command = Arguments::command();
    let mut path = command.get_name().to_owned();
    let mut words = words.iter().skip(1).map(|word| word.to_string_lossy());
    loop {
        // The options of a command are made when it is asked for.
        command.build();
        let Some(word) = words.next() else { return (path, command) };
        if word.starts_with('-') {
            if option(&command, &word).is_some_and(|option| option.get_action().takes_values()) {
                words.next();
            }
            continue;
        }
        let Some(next) = command.find_subcommand(word.as_ref()) else { return (path, command) };
        let next = next.clone();
        path = format!("{path} {}", next.get_name());
        command = next;
    }
}

/// The option that a word is, when its value is another word.
fn option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let long = word.strip_prefix("--");
    command.get_arguments().find(|option| match long {
        Some(long) => option.get_long() == Some(long),
        None => word.len() == 2 && option.get_short() == word.chars().nth(1),
    })
}

struct Complaint<'a> {
    error: &'a Error,
    path: &'a str,
    command: &'a Command,
}

impl Complaint<'_> {
    fn context(&self, kind: ContextKind) -> &str {
        match self.error.get(kind) {
            Some(ContextValue::String(text)) => text,
            _ => "",
        }
    }

    /// What is wrong with an option, if it is about one.
    fn of_option(&self) -> Option<String> {
        let said = self.context(ContextKind::InvalidArg);
        if !said.starts_with('-') {
            return None;
        }
        Some(match self.error.kind() {
            ErrorKind::UnknownArgument => match said.strip_prefix("--") {
                Some(_) => format!("unknown flag: {said}"),
                None => format!("unknown shorthand flag: '{}' in {said}", &said[1..]),
            },
            ErrorKind::InvalidValue if self.context(ContextKind::InvalidValue).is_empty() => {
                format!("flag needs an argument: {}", self.flag(said).0)
            }
            ErrorKind::ValueValidation => {
                let why = std::error::Error::source(self.error).map(ToString::to_string).unwrap_or_default();
                let value = self.context(ContextKind::InvalidValue);
                format!("invalid argument {value:?} for \"{}\" flag: {why}", self.flag(said).1)
            }
            _ => self.own(),
        })
    }

    /// `--memory` and `-m, --memory` of `--memory <BYTES>`.
    fn flag(&self, said: &str) -> (String, String) {
        let long = said.split([' ', '=']).next().unwrap_or_default().to_owned();
        match option(self.command, &long).and_then(Arg::get_short) {
            Some(short) => (long.clone(), format!("-{short}, {long}")),
            None => (long.clone(), long),
        }
    }

    /// What is wrong with the other words, if it is how many there are or what command they name.
    fn of_arguments(&self) -> Option<String> {
        match self.error.kind() {
            ErrorKind::InvalidSubcommand => {
                let word = self.context(ContextKind::InvalidSubcommand);
                Some(format!("unknown command: {} {word}", self.path))
            }
            ErrorKind::MissingRequiredArgument | ErrorKind::UnknownArgument => {
                Some(format!("'{}' {}", self.path, wanted(self.command)?))
            }
            _ => None,
        }
    }

    /// In the parser's own words.
    fn own(&self) -> String {
        let text = self.error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text);
        text.split("\n\n").next().unwrap_or_default().to_owned()
    }

    fn whole(&self, text: &str) -> String {
        let meant = match self.error.get(ContextKind::SuggestedArg) {
            Some(ContextValue::String(word)) => format!("\n\nDid you mean {word}?"),
            _ => String::new(),
        };
        let usage = self.command.clone().bin_name(self.path).render_usage().to_string();
        let usage = usage.strip_prefix("Usage: ").unwrap_or(&usage);
        let path = self.path;
        format!("knarr: {text}{meant}\n\nUsage:  {usage}\n\nRun '{path} --help' for more information")
    }
}

/// How many words a command wants, where it can be said in numbers.
fn wanted(command: &Command) -> Option<String> {
    let (mut least, mut most) = (0, 0_usize);
    for place in command.get_positionals() {
        let many = place.get_num_args().is_some_and(|number| number.max_values() > 1)
            || matches!(place.get_action(), clap::ArgAction::Append);
        least += usize::from(place.is_required_set());
        most = if many { usize::MAX } else { most.saturating_add(1) };
    }
    let words = |number: usize| match number {
        1 => "1 argument".to_owned(),
        number => format!("{number} arguments"),
    };
    Some(match (least, most) {
        (0, 0) => "accepts no arguments".to_owned(),
        (0, usize::MAX) => return None,
        (least, usize::MAX) => format!("requires at least {}", words(least)),
        (0, most) => format!("requires at most {}", words(most)),
        (least, most) if least == most => format!("requires {}", words(least)),
        (least, most) => format!("requires at least {least} and at most {}", words(most)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn said(line: &str) -> (String, bool) {
        let words: Vec<OsString> = format!("knarr {line}").split(' ').map(OsString::from).collect();
        let error = Arguments::try_parse_from(&words).unwrap_err();
        let (path, command) = named(&words);
        let complaint = Complaint { error: &error, path: &path, command: &command };
        let of_option = complaint.of_option();
        let is = of_option.is_some();
        (of_option.or_else(|| complaint.of_arguments()).unwrap_or_else(|| complaint.own()), is)
    }

    #[test]
    fn in_dockers_words() {
        for (line, text, of_option) in [
            ("ps --bogus", "unknown flag: --bogus", true),
            ("ps -Z", "unknown shorthand flag: 'Z' in -Z", true),
            ("run --memory", "flag needs an argument: --memory", true),
            ("--data-dir /x volume rm", "'knarr volume rm' requires at least 1 argument", false),
            ("volume create a b", "'knarr volume create' requires at most 1 argument", false),
            ("rename a", "'knarr rename' requires 2 arguments", false),
            ("info x", "'knarr info' accepts no arguments", false),
            ("volume bogus", "unknown command: knarr volume bogus", false),
            ("bogus", "unknown command: knarr bogus", false),
            ("run", "'knarr run' requires at least 1 argument", false),
            ("exec x", "'knarr exec' requires at least 2 arguments", false),
            ("tag a", "'knarr tag' requires 2 arguments", false),
            ("port", "'knarr port' requires at least 1 and at most 2 arguments", false),
            ("logs", "'knarr logs' requires 1 argument", false),
        ] {
            assert_eq!(said(line), (text.to_owned(), of_option), "{line}");
        }
    }
}
