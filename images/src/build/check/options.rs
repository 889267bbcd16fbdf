//! What is checked: `skip=RULE,...|all;experimental=RULE,...|all;error=BOOL`, in the directive at the top, in the build
//! argument BUILDKIT_DOCKERFILE_CHECK (which wins over it), or in a comment for one instruction.

use crate::build::check::rule::Rule;
use crate::error::{Error, Result};

/// Some rules, or all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Selection {
    all: bool,
    names: Vec<String>,
}

impl Selection {
    fn parse(text: &str) -> Self {
        match text.trim() {
            "all" => Self { all: true, names: Vec::new() },
            text => Self { all: false, names: text.split(',').map(|name| name.trim().to_owned()).collect() },
        }
    }

    fn has(&self, rule: &Rule) -> bool {
        self.all || self.names.iter().any(|name| name == rule.name)
    }
}

/// What is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    skip: Selection,
    experimental: Selection,
    /// A finding ends the build.
    pub(crate) error: bool,
}

impl Options {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut options = Self::default();
        for part in text.trim().splitn(3, ';').filter(|_| !text.trim().is_empty()) {
            let wrong = |what: &str| Error::invalid(format!("invalid check option {what:?}"));
            let (key, value) = part.split_once('=').ok_or_else(|| wrong(part))?;
            match key.trim() {
                "skip" => options.skip = Selection::parse(value),
                "experimental" => options.experimental = Selection::parse(value),
                "error" => {
                    let told = boolean(value.trim());
                    let failed = || Error::invalid(format!("failed to parse check option {part:?}"));
                    options.error = told.ok_or_else(failed)?;
                }
                key => return Err(wrong(key)),
            }
        }
        Ok(options)
    }

    /// Those of the comments before an instruction: the first that says something counts, up to the first space.
    pub(crate) fn of_comments(comments: &[String]) -> Self {
        let told = comments.iter().find_map(|comment| {
            let (key, value) = comment.split_once('=')?;
            (key.trim().eq_ignore_ascii_case("check")).then(|| value.trim())
        });
        let text = told.and_then(|text| text.split(' ').next()).unwrap_or_default();
        Self::parse(text).unwrap_or_default()
    }

    /// Whether a rule is checked, under these and those of one instruction.
    pub(crate) fn checks(&self, own: &Self, rule: &Rule) -> bool {
        match rule.experimental {
            true => self.experimental.has(rule) || own.experimental.has(rule),
            false => !self.skip.has(rule) && !own.skip.has(rule),
        }
    }
}

/// What Go takes for one.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::check::rule::{FROM_AS_CASING, INVALID_DEFINITION_DESCRIPTION, UNDEFINED_VAR};

    #[test]
    fn what_is_checked() {
        let none = Options::default();
        let some = Options::parse("skip=FromAsCasing, X ;error=true").unwrap();
        assert!(some.error && !some.checks(&none, &FROM_AS_CASING) && some.checks(&none, &UNDEFINED_VAR));
        assert!(!Options::parse("skip=all").unwrap().checks(&none, &UNDEFINED_VAR));
        assert!(!none.checks(&none, &INVALID_DEFINITION_DESCRIPTION));
        assert!(Options::parse("experimental=all").unwrap().checks(&none, &INVALID_DEFINITION_DESCRIPTION));
        let own = Options::of_comments(&["words".into(), "check=skip=UndefinedVar // because".into()]);
        assert!(!none.checks(&own, &UNDEFINED_VAR) && none.checks(&own, &FROM_AS_CASING));
        for wrong in ["skip", "nope=1", "error=perhaps"] {
            assert!(Options::parse(wrong).is_err(), "{wrong}");
        }
    }
}
