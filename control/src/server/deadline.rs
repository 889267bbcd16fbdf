//! How long a request may take: `timeout` in its query, a duration as Go writes it (`1m30s`), at most a minute.

use super::query::Query;
use knarr_api::Status;
use std::time::Duration;

/// Everything but watches, logs, exec and their like ends within this.
pub(super) const LONGEST: Duration = Duration::from_secs(60);

/// The time that the client grants, or the longest. What is no duration is refused before anything happens.
pub(super) fn of(query: &Query) -> Result<Duration, Status> {
    let Some(text) = query.get("timeout") else { return Ok(LONGEST) };
    let wanted = seconds(text).map_err(|fault| {
        Status::bad_request(format!("invalid timeout specified in the request URL - time: {fault}"))
    })?;
    Ok(if wanted <= 0.0 {
        LONGEST
    } else {
        LONGEST.min(Duration::try_from_secs_f64(wanted).unwrap_or(LONGEST))
    })
}

/// Seconds of each unit.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1e-9),
    ("us", 1e-6),
    ("µs", 1e-6),
    ("μs", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
];
/// What 63 bits of nanoseconds hold, seconds.
const MOST: f64 = 9_223_372_036.854_775;

/// Seconds; the fault in the words of Go's `time.ParseDuration`.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let invalid = || format!("invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0.0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|next: char| !next.is_ascii_digit() && next != '.').unwrap_or(rest.len());
        let number = &rest[..digits];
        let amount: f64 = number.parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let length = rest.find(|next: char| next.is_ascii_digit() || next == '.').unwrap_or(rest.len());
        let unit = &rest[..length];
        if unit.is_empty() {
            return Err(format!("missing unit in duration {text:?}"));
        }
        let (_, size) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| format!("unknown unit {unit:?} in duration {text:?}"))?;
        seconds += amount * size;
        rest = &rest[length..];
    }
    if seconds > MOST { Err(invalid()) } else { Ok(sign * seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(text: &str) -> Result<Duration, String> {
        of(&Query::parse(&format!("timeout={text}"))).map_err(|status| status.message)
    }

    /// Recorded from kube-apiserver.
    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, seconds) in
            [("1.5s", 1.5), ("20s1s", 21.0), ("0", 60.0), ("-1s", 60.0), ("100h", 60.0), ("", 60.0)]
        {
            assert_eq!(limit(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for (text, fault) in [
            ("x", "invalid duration \"x\""),
            ("1", "missing unit in duration \"1\""),
            (".s", "invalid duration \".s\""),
            ("99999999999h", "invalid duration \"99999999999h\""),
            ("1d", "unknown unit \"d\" in duration \"1d\""),
            ("1h-1m", "unknown unit \"h-\" in duration \"1h-1m\""),
            ("0x", "unknown unit \"x\" in duration \"0x\""),
            ("1s1", "missing unit in duration \"1s1\""),
        ] {
            let words = format!("invalid timeout specified in the request URL - time: {fault}");
            assert_eq!(limit(text), Err(words));
        }
    }
}
