//! Field selectors: `spec.nodeName=n1,status.phase!=Failed`. Which fields may be named is the kind's own affair.

use std::fmt;

/// All terms must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    /// In the order of the text.
    pub terms: Vec<FieldTerm>,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    /// `metadata.name`
    pub field: String,
    /// What it must, or must not, be.
    pub value: String,
    /// `=` or `==`, as opposed to `!=`.
    pub equal: bool,
}

impl FieldSelector {
    /// Reads the text form; backslash escapes `\`, `,` and `=` in values.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = split(text).into_iter().filter(|part| !part.is_empty());
        let terms: Result<Vec<FieldTerm>, String> = parts.map(|part| term(text, &part)).collect();
        Ok(Self { terms: terms? })
    }

    /// Whether there is nothing to fulfil.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether the fields, given as a lookup, fulfil every term.
    pub fn matches(&self, mut field: impl FnMut(&str) -> String) -> bool {
        self.terms.iter().all(|term| (field(&term.field) == term.value) == term.equal)
    }

    /// The one value that `field` must have, where a term says so.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.equal && term.field == field).map(|term| term.value.as_str())
    }
}

/// Splits at commas that are not escaped; the escapes stay for [`term`].
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        if character == ',' && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = character == '\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(character);
        }
    }
    parts
}

fn term(whole: &str, part: &str) -> Result<FieldTerm, String> {
    let fault = || format!("invalid selector: '{whole}'; can't understand '{part}'");
    let at = part.find('=').ok_or_else(fault)?;
    let (left, right) = (&part[..at], &part[at + 1..]);
    let (field, equal) = match left.strip_suffix('!') {
        Some(field) => (field, false),
        None => (left, true),
    };
    let value = if equal { right.strip_prefix('=').unwrap_or(right) } else { right };
    Ok(FieldTerm { field: field.trim().to_owned(), value: unescape(value).ok_or_else(fault)?, equal })
}

fn unescape(value: &str) -> Option<String> {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|next| matches!(next, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            other => text.push(other),
        }
    }
    Some(text)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, term) in self.terms.iter().enumerate() {
            let (comma, sign) = (if index > 0 { "," } else { "" }, if term.equal { "=" } else { "!=" });
            write!(formatter, "{comma}{}{sign}{}", term.field, term.value)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_with_their_escapes() {
        let selector = FieldSelector::parse(r"a.b=x,c!=y,d==z\,\=1,").unwrap();
        let terms: Vec<_> =
            selector.terms.iter().map(|term| (&*term.field, &*term.value, term.equal)).collect();
        assert_eq!(terms, [("a.b", "x", true), ("c", "y", false), ("d", "z,=1", true)]);
        assert_eq!(selector.exact("a.b"), Some("x"));
        assert_eq!(selector.exact("c"), None);
    }

    #[test]
    fn a_term_without_a_sign_is_refused() {
        assert_eq!(
            FieldSelector::parse("a=b,c").unwrap_err(),
            "invalid selector: 'a=b,c'; can't understand 'c'"
        );
        assert!(FieldSelector::parse("a=b=c").is_err());
    }

    #[test]
    fn every_term_must_hold() {
        let selector = FieldSelector::parse("phase!=Failed,node=n").unwrap();
        let look =
            |phase: &'static str| move |field: &str| if field == "phase" { phase.into() } else { "n".into() };
        assert!(selector.matches(look("Running")));
        assert!(!selector.matches(look("Failed")));
    }
}
