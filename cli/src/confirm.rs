//! The question before everything unused goes at once, in Docker's words.
//!
//! It is put to a person at a terminal only: a script, which could not answer, is never held up (where Docker would
//! take the end of its input for a no).

use crate::output;
use std::io::IsTerminal;

/// What all of them end with.
const QUESTION: &str = "Are you sure you want to continue? [y/N] ";

/// Whether to go on: `force` answers the question before it is asked.
pub(crate) fn removal(force: bool, what: &str) -> anyhow::Result<bool> {
    if force || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Ok(true);
    }
    output::raw(&format!("WARNING! This will remove{what}\n{QUESTION}"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(agrees(&answer))
}

/// Several kinds at once, and the filters that spare some of them.
pub(crate) fn list(kinds: &[&str], filters: &[String]) -> String {
    let mut filters = filters.to_vec();
    filters.sort();
    let lines =
        |all: &mut dyn Iterator<Item = &str>| all.map(|one| format!("\n  - {one}")).collect::<String>();
    let kinds = lines(&mut kinds.iter().copied());
    let filtered = match filters.is_empty() {
        true => String::new(),
        false => {
            let filters = lines(&mut filters.iter().map(String::as_str));
            format!("\n  Items to be pruned will be filtered with:{filters}\n")
        }
    };
    format!(":{kinds}\n{filtered}")
}

fn agrees(answer: &str) -> bool {
    answer.trim().eq_ignore_ascii_case("y")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_y_is_a_yes() {
        for (answer, goes) in [("y\n", true), (" Y \n", true), ("yes\n", false), ("\n", false), ("", false)] {
            assert_eq!(agrees(answer), goes, "{answer:?}");
        }
    }

    #[test]
    fn lists_say_what_goes_and_what_is_spared() {
        assert_eq!(list(&["all stopped containers"], &[]), ":\n  - all stopped containers\n");
        let filters = ["until=24h".to_owned(), "label=a".to_owned()];
        let said = ":\n  - x\n\n  Items to be pruned will be filtered with:\n  - label=a\n  - until=24h\n";
        assert_eq!(list(&["x"], &filters), said);
    }
}
