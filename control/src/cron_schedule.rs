//! Schedules of cron jobs: five fields (minute, hour, day of month, month, day of week), `@hourly` and its like, or
//! `@every 1h30m`. Refusals are worded as Kubernetes words them.
//!
//! A day matches when both its fields do; where neither field is `*`, one of them is enough, as cron has always had
//! it. Hours that a clock change skips do not happen, those that it repeats happen twice.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

/// A year without a match in so many never has one (29 February is the rarest).
const YEARS: i16 = 8;

/// When something happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Schedule {
    Fields(Fields),
    Every(SignedDuration),
}

/// One bit per value of each field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fields {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// Written as `*`: it does not narrow anything down.
    any: bool,
}

/// What a field may hold.
struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { least: 0, most: 59, names: &[] };
const HOURS: Bounds = Bounds { least: 0, most: 23, names: &[] };
const DAYS: Bounds = Bounds { least: 1, most: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds =
    Bounds { least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// Reads a schedule, or says what is wrong with it.
pub(crate) fn parse(text: &str) -> Result<Schedule, String> {
    if text.is_empty() {
        return Err("empty spec string".to_owned());
    }
    if text.starts_with('@') {
        return descriptor(text);
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let [minutes, hours, days, months, weekdays] = words.as_slice() else {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", words.len(), words.join(" ")));
    };
    Ok(Schedule::Fields(Fields {
        minutes: field(minutes, &MINUTES)?,
        hours: field(hours, &HOURS)?,
        days: field(days, &DAYS)?,
        months: field(months, &MONTHS)?,
        weekdays: field(weekdays, &WEEKDAYS)?,
    }))
}

fn descriptor(text: &str) -> Result<Schedule, String> {
    let fields = match text {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        _ => return every(text),
    };
    parse(fields)
}

fn every(text: &str) -> Result<Schedule, String> {
    let Some(duration) = text.strip_prefix("@every ") else {
        return Err(format!("unrecognized descriptor: {text}"));
    };
    let seconds = seconds_of(duration)
        .ok_or_else(|| format!("failed to parse duration {text}: time: invalid duration {duration:?}"))?;
    Ok(Schedule::Every(SignedDuration::from_secs(seconds.max(1))))
}

/// Whole seconds of a duration as Go writes it: `1h30m`, `90s`, `1.5h`.
fn seconds_of(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|one: char| !one.is_ascii_digit() && one != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|one: char| one.is_ascii_digit() || one == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = tail;
    }
    // A century; more cannot be added to a date.
    (total < 3.2e9).then_some(total as i64)
}

fn field(text: &str, bounds: &Bounds) -> Result<Field, String> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let mut whole = Field { bits: 0, any: false };
    for part in parts {
        let part = range(part, bounds)?;
        whole.bits |= part.bits;
        whole.any |= part.any;
    }
    Ok(whole)
}

/// `*`, `5`, `1-5`, each with an optional `/step`.
fn range(text: &str, bounds: &Bounds) -> Result<Field, String> {
    let mut parts = text.split('/');
    let (span, step, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if more.is_some() {
        return Err(format!("too many slashes: {text}"));
    }
    let ends: Vec<&str> = span.split('-').collect();
    let star = matches!(ends.first(), Some(&("*" | "?")));
    let (first, mut last) = match ends.as_slice() {
        _ if star => (bounds.least, bounds.most),
        [only] => (value(only, bounds)?, value(only, bounds)?),
        [first, last] => (value(first, bounds)?, value(last, bounds)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    let step = match step {
        None => 1,
        Some(step) => {
            if ends.len() == 1 {
                last = bounds.most;
            }
            number(step)?
        }
    };
    check(text, (first, last, step), bounds)?;
    let bits = (first..=last).step_by(step as usize).fold(0, |bits, value| bits | (1 << value));
    Ok(Field { bits, any: star && step == 1 })
}

fn check(text: &str, (first, last, step): (u32, u32, u32), bounds: &Bounds) -> Result<(), String> {
    let Bounds { least, most, .. } = bounds;
    if first < *least {
        return Err(format!("beginning of range ({first}) below minimum ({least}): {text}"));
    }
    if last > *most {
        return Err(format!("end of range ({last}) above maximum ({most}): {text}"));
    }
    if first > last {
        return Err(format!("beginning of range ({first}) beyond end of range ({last}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let named = bounds.names.iter().position(|name| text.eq_ignore_ascii_case(name));
    match named.and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Ok(at + bounds.least),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(negative) if negative < 0 => Err(format!("negative number ({negative}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Err(_) => {
            Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))
        }
    }
}

impl Schedule {
    /// The first time after `after`, by the clocks of `zone`.
    pub(crate) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Every(period) => whole_second(after)?.checked_add(*period).ok(),
            Self::Fields(fields) => fields.next(after.to_zoned(zone.clone())),
        }
    }
}

fn whole_second(at: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(at.as_second()).ok()
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits & (1 << value) != 0)
    }
}

impl Fields {
    fn next(&self, after: Zoned) -> Option<Timestamp> {
        let last_year = after.year().saturating_add(YEARS);
        let mut at = minute_after(&after)?;
        while at.year() <= last_year {
            if !self.months.has(at.month()) {
                at = start_of(at.date().first_of_month().checked_add(1.month()).ok()?, &at)?;
            } else if !self.is_day(at.date()) {
                at = start_of(at.date().tomorrow().ok()?, &at)?;
            } else if !self.hours.has(at.hour()) {
                at = at.checked_add((60 - i64::from(at.minute())).minutes()).ok()?;
            } else if !self.minutes.has(at.minute()) {
                at = at.checked_add(1.minute()).ok()?;
            } else {
                return Some(at.timestamp());
            }
        }
        None
    }

    fn is_day(&self, date: Date) -> bool {
        let of_month = self.days.has(date.day());
        let of_week = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        if self.days.any || self.weekdays.any { of_month && of_week } else { of_month || of_week }
    }
}

fn minute_after(at: &Zoned) -> Option<Zoned> {
    let into = i64::from(at.second());
    let start = at.checked_sub(into.seconds()).ok()?;
    start.checked_sub(i64::from(at.subsec_nanosecond()).nanoseconds()).ok()?.checked_add(1.minute()).ok()
}

fn start_of(date: Date, like: &Zoned) -> Option<Zoned> {
    date.to_zoned(like.time_zone().clone()).ok()?.start_of_day().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).unwrap();
        parse(schedule)
            .unwrap()
            .next(after.parse().unwrap(), &zone)
            .map_or("never".into(), |at| at.to_string())
    }

    #[test]
    fn the_next_time() {
        for (schedule, after, zone, expected) in [
            ("*/15 * * * *", "2026-01-01T00:07:30Z", "UTC", "2026-01-01T00:15:00Z"),
            ("*/15 * * * *", "2026-01-01T00:15:00Z", "UTC", "2026-01-01T00:30:00Z"),
            ("0 3 * * *", "2026-01-01T03:00:00Z", "UTC", "2026-01-02T03:00:00Z"),
            ("0 0 29 feb *", "2026-01-01T00:00:00Z", "UTC", "2028-02-29T00:00:00Z"),
            ("0 0 30 2 *", "2026-01-01T00:00:00Z", "UTC", "never"),
            // Either day field is enough when both are narrow.
            ("0 0 13 * fri", "2026-01-01T00:00:00Z", "UTC", "2026-01-02T00:00:00Z"),
            ("0 0 */2 * fri", "2026-01-03T00:00:00Z", "UTC", "2026-01-05T00:00:00Z"),
            ("0 0 13 * *", "2026-01-01T00:00:00Z", "UTC", "2026-01-13T00:00:00Z"),
            ("30 5-7/2 1,15 * ?", "2026-01-01T06:00:00Z", "UTC", "2026-01-01T07:30:00Z"),
            ("50/5 * * * *", "2026-01-01T00:51:00Z", "UTC", "2026-01-01T00:55:00Z"),
            ("@weekly", "2026-01-01T00:00:00Z", "UTC", "2026-01-04T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:00.5Z", "UTC", "2026-01-01T01:30:00Z"),
            ("0 9 * * *", "2026-07-01T00:00:00Z", "Europe/Berlin", "2026-07-01T07:00:00Z"),
            // Skipped by the clocks, and repeated by them.
            ("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin", "2026-03-30T00:30:00Z"),
            ("30 2 * * *", "2026-10-24T12:00:00Z", "Europe/Berlin", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "2026-10-25T00:30:00Z", "Europe/Berlin", "2026-10-25T01:30:00Z"),
        ] {
            assert_eq!(next(schedule, after, zone), expected, "{schedule} after {after}");
        }
    }

    #[test]
    fn refusals_in_the_usual_words() {
        for (schedule, message) in [
            ("", "empty spec string"),
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("@sometimes", "unrecognized descriptor: @sometimes"),
            ("@every day", "failed to parse duration @every day: time: invalid duration \"day\""),
        ] {
            assert_eq!(parse(schedule), Err(message.to_owned()), "{schedule}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics_and_time_moves_on(text in "[0-9*/,a-z -]{0,24}", at in -1_000_000_000..4_000_000_000_i64) {
            let after = Timestamp::from_second(at).unwrap();
            if let Ok(schedule) = parse(&text) {
                prop_assert!(schedule.next(after, &TimeZone::UTC).is_none_or(|next| next > after));
            }
        }

        #[test]
        fn a_match_is_the_first_match(minute in 0..60_u32, hour in 0..24_u32, at in 0..4_000_000_000_i64) {
            let after = Timestamp::from_second(at).unwrap();
            let schedule = parse(&format!("{minute} {hour} * * *")).unwrap();
            let next = schedule.next(after, &TimeZone::UTC).unwrap();
            prop_assert!(next.duration_since(after) <= SignedDuration::from_hours(24));
            let civil = next.to_zoned(TimeZone::UTC);
            prop_assert_eq!((civil.minute() as u32, civil.hour() as u32, civil.second()), (minute, hour, 0));
        }
    }
}
