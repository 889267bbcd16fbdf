//! What every `--filter KEY=VALUE` has in common, in Docker's words. What a key means, and whether values of one key are
//! alternatives, is each command's own.

use anyhow::Context;
use regex::Regex;

/// Key and value.
pub(crate) fn pair(text: &str) -> anyhow::Result<(&str, &str)> {
    text.split_once('=').with_context(|| format!("invalid filter '{text}'"))
}

/// A name, which Docker takes for an expression.
pub(crate) fn name(value: &str) -> anyhow::Result<Regex> {
    Regex::new(value).with_context(|| format!("invalid filter 'name={value}'"))
}

/// Whether a label is there, `NAME`, and is what is wanted, `NAME=VALUE`.
pub(crate) fn labelled<'a>(label: impl FnOnce(&str) -> Option<&'a str>, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((name, value)) => label(name) == Some(value),
        None => label(wanted).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_wanted_with_and_without_a_value() {
        let label = |name: &str| (name == "tier").then_some("web");
        for (wanted, expected) in
            [("tier", true), ("tier=web", true), ("tier=db", false), ("tier=", false), ("zone", false)]
        {
            assert_eq!(labelled(label, wanted), expected, "{wanted}");
        }
    }

    #[test]
    fn what_is_no_filter_is_named() {
        assert_eq!(pair("label=a=b").unwrap(), ("label", "a=b"));
        assert_eq!(pair("label").unwrap_err().to_string(), "invalid filter 'label'");
        assert_eq!(name("[").unwrap_err().to_string(), "invalid filter 'name=['");
    }
}
