//! `format` of texts: what a schema may call a text, and whether one is that. Formats that nobody knows hold for every text.

use jiff::{Timestamp, civil};
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

const DURATION: &str = r"^([+-]?(\d+(\.\d*)?\s*[a-zA-Zµ]+\s*,?\s*)+|[+-]?0)$";
const HOST: &str = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.))+([a-zA-Z\p{L}]){2,63}\.?)$";

/// Formats that one pattern says.
static PATTERNS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    let uuid = |third: &str, fourth: &str| {
        format!(r"(?i)^[0-9a-f]{{8}}-?[0-9a-f]{{4}}-?{third}-?{fourth}-?[0-9a-f]{{12}}$")
    };
    let (any, variant) = ("[0-9a-f]{4}", "[89ab][0-9a-f]{3}");
    let all = [
        ("uuid", uuid(any, any)),
        ("uuid3", uuid("3[0-9a-f]{3}", any)),
        ("uuid4", uuid("4[0-9a-f]{3}", variant)),
        ("uuid5", uuid("5[0-9a-f]{3}", variant)),
        ("byte", "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$".to_owned()),
        ("duration", DURATION.to_owned()),
        ("email", r"^[^@\s]+@[^@\s]+$".to_owned()),
        ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$".to_owned()),
        ("hostname", HOST.to_owned()),
        ("mac", "^([0-9a-fA-F]{2}[:-]){5}([0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){2})?[0-9a-fA-F]{2}$".to_owned()),
        ("ssn", r"^\d{3}[- ]?\d{2}[- ]?\d{4}$".to_owned()),
        ("uri", r"^(/|[a-zA-Z][a-zA-Z0-9+.-]*:)[^\s\x00-\x1f\x7f]*$".to_owned()),
    ];
    all.into_iter().filter_map(|(name, pattern)| Some((name, Regex::new(&pattern).ok()?))).collect()
});

/// Whether a text has a format.
pub(crate) fn fits(format: &str, text: &str) -> bool {
    match format {
        "date" => text.len() == 10 && text.parse::<civil::Date>().is_ok(),
        "date-time" | "datetime" => text.parse::<Timestamp>().is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => text.split_once('/').is_some_and(|(address, length)| is_range(address, length)),
        _ => {
            let known = PATTERNS.iter().find(|(name, _)| *name == format);
            known.is_none_or(|(_, pattern)| pattern.is_match(text))
        }
    }
}

fn is_range(address: &str, length: &str) -> bool {
    let most = match address.parse() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= most) && !length.starts_with('+')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_formats() {
        assert_eq!(PATTERNS.len(), 12, "a pattern is none");
        for (format, good, bad) in [
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "invalid-uuid"),
            ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
            ("ipv4", "10.0.0.1", "10.0.0"),
            ("ipv6", "fd00::1", "10.0.0.1"),
            ("cidr", "fd00::/8", "10.0.0.0/33"),
            ("date", "2024-02-29", "2023-02-29"),
            ("date-time", "2024-02-29T01:02:03Z", "2024-02-29"),
            ("duration", "1h30m", "soon"),
            ("byte", "Zm9v", "Zm9"),
            ("hostname", "a-b.example.com", "-a"),
            ("uri", "https://example.com/a?b=c", "example.com"),
            ("email", "a@b.c", "a"),
            ("mac", "00:11:22:33:44:55", "00:11:22"),
            ("hexcolor", "#0aF", "red"),
        ] {
            assert!(fits(format, good) && !fits(format, bad), "{format}");
        }
        assert!(fits("anything", "at all"));
    }
}
