//! Commands whose options are made when somebody types the command. All of knarr's options together are a third of what
//! the start of the program takes, and one command needs few of them.
//!
//! What must hold: help and complaints are as if all had been made at once; completions and manual pages, which show all,
//! have it made at once.

use clap::builder::{Resettable, StyledStr};
use clap::{ArgMatches, Args, Command, CommandFactory, Error, FromArgMatches, Subcommand};
use std::cell::Cell;

thread_local! {
    static AT_ONCE: Cell<bool> = const { Cell::new(false) };
}

/// All commands with all their arguments.
pub(crate) fn whole<T: CommandFactory>() -> Command {
    AT_ONCE.set(true);
    let command = T::command();
    AT_ONCE.set(false);
    command
}

/// The arguments of a command, or the commands of a group, that are made late.
#[derive(Debug)]
pub(crate) struct Later<T>(pub(crate) Box<T>);

fn later(command: Command, make: fn(Command) -> Command) -> Command {
    if AT_ONCE.get() { make(command) } else { command.defer(make) }
}

/// Who is listed beside others has been described before its arguments are made; their type's own words come second.
fn described(command: Command, make: fn(Command) -> Command) -> Command {
    let text = |text: Option<&StyledStr>| text.cloned().map_or(Resettable::Reset, Resettable::Value);
    let (about, long) = (text(command.get_about()), text(command.get_long_about()));
    make(command).about(about).long_about(long)
}

impl<T: FromArgMatches> FromArgMatches for Later<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        T::from_arg_matches(matches).map(|made| Later(Box::new(made)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

impl<T: Args> Args for Later<T> {
    fn augment_args(command: Command) -> Command {
        later(command, |command| described(command, T::augment_args))
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

impl<T: Subcommand> Subcommand for Later<T> {
    fn augment_subcommands(command: Command) -> Command {
        later(command, |command| described(command, T::augment_subcommands))
    }

    fn augment_subcommands_for_update(command: Command) -> Command {
        T::augment_subcommands_for_update(command)
    }

    fn has_subcommand(name: &str) -> bool {
        T::has_subcommand(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Arguments;

    /// The help of a command and of all below it; "help" itself lists what was known when it was made.
    fn helps(command: &mut Command) -> Vec<String> {
        let own = command.render_long_help().to_string();
        let below = command.get_subcommands_mut().filter(|below| below.get_name() != "help");
        below.fold(vec![own], |mut all, below| {
            all.extend(helps(below));
            all
        })
    }

    #[test]
    fn what_is_made_late_is_what_would_have_been_made_at_once() {
        let (mut late, mut at_once) = (Arguments::command(), whole::<Arguments>());
        late.build();
        at_once.build();
        let late = helps(&mut late);
        assert!(late.len() > 100);
        for help in helps(&mut at_once) {
            assert!(late.contains(&help), "missing or other:\n{help}");
        }
    }

    #[test]
    fn the_grammar_is_sound() {
        whole::<Arguments>().debug_assert();
    }
}
