//! Query parameters.

use knarr_api::Status;
use std::num::{IntErrorKind, ParseIntError};

/// The parameters of a request, in order; a name may occur more than once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    /// As it was sent, for requests that are passed on.
    pub(crate) raw: String,
}

impl Query {
    pub(crate) fn parse(raw: &str) -> Self {
        let decode = |text: &str| percent_decode(text, true).unwrap_or_default();
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name), decode(value))
        };
        let pairs = raw.split('&').filter(|part| !part.is_empty()).map(pair).collect();
        Self { pairs, raw: raw.to_owned() }
    }

    /// The first value of a parameter; an empty one counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(key, value)| key == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is true, as Go reads booleans (present without a value is true as well).
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.all(name).next().is_some_and(|value| !matches!(value, "false" | "0" | "False" | "F" | "f"))
    }

    /// A parameter that must be a whole number; the refusal is in Go's words.
    pub(crate) fn number<T: std::str::FromStr<Err = ParseIntError>>(
        &self,
        name: &str,
    ) -> Result<Option<T>, Status> {
        let fault = |value: &str, error: &ParseIntError| {
            Status::bad_request(format!("strconv.ParseInt: parsing {value:?}: {}", go_words(error)))
        };
        let parse = |value: &str| value.parse().map_err(|error| fault(value, &error));
        self.all(name).next().map(parse).transpose()
    }
}

/// What Go says of a text that is no whole number.
pub(crate) fn go_words(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

/// Decodes `%XX` (and `+` in queries); `None` where the result is no UTF-8 or an escape is broken.
pub(crate) fn percent_decode(text: &str, plus_is_space: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        match first {
            b'%' => {
                let (digits, more) = rest.split_at_checked(2)?;
                bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = more;
            }
            b'+' if plus_is_space => bytes.push(b' '),
            other => bytes.push(*other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// Encodes everything but letters, digits and `-_.~`.
pub(crate) fn percent_encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'-' | b'_' | b'.' | b'~' => (byte as char).to_string(),
        byte if byte.is_ascii_alphanumeric() => (byte as char).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query =
            Query::parse("labelSelector=a%3Db%2Cc+in+(d)&limit=5&watch&empty=&command=a&command=b%20c");
        assert_eq!(query.get("labelSelector"), Some("a=b,c in (d)"));
        assert_eq!(query.number::<usize>("limit").unwrap(), Some(5));
        assert!(query.flag("watch") && !query.flag("other"));
        assert_eq!(query.get("empty"), None);
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["a", "b c"]);
        assert!(Query::parse("limit=x").number::<usize>("limit").is_err());
        assert_eq!(percent_decode(&percent_encode("a b/ü+%"), true).as_deref(), Some("a b/ü+%"));
        assert_eq!(percent_decode("%f", false), None);
    }
}
