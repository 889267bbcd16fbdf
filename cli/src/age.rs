//! Ages and times as Docker's tables show them.

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;

/// How long ago something was, in words: `3 minutes`, `About an hour`.
pub(crate) fn words(seconds: i64) -> String {
    let (minutes, hours) = (seconds / MINUTE, (seconds + HOUR / 2) / HOUR);
    match seconds {
        ..1 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".to_owned(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 730 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / HOUR / 24 / 365),
    }
}

/// The same of a time; nothing is known of one that nobody set.
pub(crate) fn since(time: Option<Timestamp>, now: Timestamp) -> String {
    time.map_or("N/A".to_owned(), |time| format!("{} ago", words(now.as_second() - time.as_second())))
}

/// A time as `{{.CreatedAt}}` prints it: `2026-01-31 12:00:00 +0000 UTC`.
pub(crate) fn at(time: Option<Timestamp>) -> String {
    let zone = jiff::tz::TimeZone::try_system().unwrap_or(jiff::tz::TimeZone::UTC);
    time.map_or("N/A".to_owned(), |time| time.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_words() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (99_000, "28 hours"),
            (200_000, "2 days"),
            (15 * 86_400, "2 weeks"),
            (90 * 86_400, "3 months"),
            (56 * 365 * 86_400, "56 years"),
        ] {
            assert_eq!(words(seconds), text);
        }
        assert_eq!(since(None, Timestamp::UNIX_EPOCH), "N/A");
        assert!(at(Some(Timestamp::UNIX_EPOCH)).starts_with("19"));
    }
}
