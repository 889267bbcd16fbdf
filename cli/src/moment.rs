//! Times as `--since` and `--until` take them from people.

use anyhow::Context;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A time (of this machine's zone where none is named), seconds since 1970 with or without a fraction, or so long ago
/// (`1h30m`).
pub(crate) fn moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Some(time) = unix(text) {
        return Ok(time);
    }
    if text.contains('-')
        && let Ok(time) = text.parse::<DateTime>()
    {
        let zone = TimeZone::try_system().unwrap_or(TimeZone::UTC);
        return Ok(zone.to_timestamp(time)?);
    }
    let ago: jiff::SignedDuration =
        text.parse().context("not a time (2026-01-31T12:00:00Z) or duration (10m)")?;
    Ok(now.checked_sub(ago)?)
}

/// `1136073600` or `1136073600.000000001`.
fn unix(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Timestamp::new(seconds.parse().ok()?, format!("{fraction:0<9}").parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        let now = Timestamp::from_second(10_000).unwrap();
        assert_eq!(moment("1h", now).unwrap().as_second(), 6_400);
        assert_eq!(moment("5000", now).unwrap().as_second(), 5_000);
        assert_eq!(moment("5000.25", now).unwrap().as_nanosecond(), 5_000_250_000_000);
        assert_eq!(moment("1970-01-01T00:01:00Z", now).unwrap().as_second(), 60);
        for local in ["1970-01-02", "1970-01-02T00:00:00"] {
            // Whatever the zone, within a day of that.
            assert!((moment(local, now).unwrap().as_second() - 86_400).abs() <= 86_400, "{local}");
        }
        for wrong in ["yesterday", "1.2.3", "", "5000.0000000001"] {
            assert!(moment(wrong, now).is_err(), "{wrong}");
        }
    }
}
