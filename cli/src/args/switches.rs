//! Switches that are given a value, as Docker's users give them: `--rm=true`, `--privileged=false`, `-it=false`.
//!
//! Hardly anybody does, and help is easier to read without: only a line that is refused is read again with values for
//! every switch. Where that does not help, the first complaint stands.

use super::Arguments;
use clap::error::ErrorKind;
use clap::{ArgAction, Command, CommandFactory, Error, FromArgMatches};
use std::ffi::OsString;

/// Reads again what was refused.
pub(crate) fn again(words: &[OsString], refused: Error) -> Result<Arguments, Error> {
    match refused.kind() {
        ErrorKind::TooManyValues | ErrorKind::UnknownArgument => with_values(words).map_err(|_| refused),
        _ => Err(refused),
    }
}

fn with_values(words: &[OsString]) -> Result<Arguments, Error> {
    let mut command = Arguments::command();
    // All of it has to be there to be changed.
    command.build();
    let matches = valued(command).try_get_matches_from(words)?;
    Arguments::from_arg_matches(&matches)
}

fn valued(command: Command) -> Command {
    let command = command.mut_args(|switch| match switch.get_action() {
        ArgAction::SetTrue => switch
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_value("false")
            .default_missing_value("true")
            .value_parser(truth),
        _ => switch,
    });
    command.mut_subcommands(valued)
}

/// As Go reads one.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn run(words: &[&str]) -> Result<String, ErrorKind> {
        let words: Vec<OsString> = ["knarr", "run"].iter().chain(words).map(OsString::from).collect();
        let parsed = Arguments::try_parse_from(&words).or_else(|refused| again(&words, refused));
        parsed.map(|arguments| format!("{arguments:?}")).map_err(|error| error.kind())
    }

    #[test]
    fn switches_take_values() {
        let found = run(&["--rm=false", "-it=0", "--read-only=true", "-d", "image", "--init=false"]).unwrap();
        for said in [
            "rm: false",
            "interactive: true",
            "tty: false",
            "read_only: true",
            "detach: true",
            "init: false",
            "privileged: false",
            r#"words: ["image", "--init=false"]"#,
        ] {
            assert!(found.contains(said), "{said}: {found}");
        }
        assert_eq!(run(&["--rm=perhaps", "image"]).unwrap_err(), ErrorKind::TooManyValues);
        assert_eq!(run(&["--nothing", "image"]).unwrap_err(), ErrorKind::UnknownArgument);
        assert!(run(&["--rm", "true"]).unwrap().contains(r#"words: ["true"]"#));
    }
}
