//! What a request for logs asks: `follow`, `previous`, `tailLines`, `sinceSeconds`, `sinceTime`, `timestamps`,
//! `limitBytes`, `stream`.

use super::query::Query;
use super::respond::Refusal;
use jiff::{SignedDuration, Timestamp};

/// A request for logs, validated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct LogQuery {
    pub(super) follow: bool,
    pub(super) previous: bool,
    pub(super) timestamps: bool,
    pub(super) tail_lines: Option<u64>,
    pub(super) limit_bytes: Option<u64>,
    /// Nothing older.
    pub(super) since: Option<Timestamp>,
    /// Of one stream only (`stdout` or `stderr`).
    pub(super) stream: Option<String>,
}

impl LogQuery {
    pub(super) fn parse(query: &Query, now: Timestamp) -> Result<Self, Refusal> {
        let tail_lines = number(query, "tailLines")?;
        let stream = match query.get("stream") {
            None | Some("" | "All") => None,
            Some(name @ ("Stdout" | "Stderr")) => Some(name.to_ascii_lowercase()),
            Some(other) => return Err(unprocessable("stream", other)),
        };
        if stream.is_some() && tail_lines.is_some() {
            return Err(Refusal::bad_request(
                "`tailLines` and specific `stream` are mutually exclusive for now",
            ));
        }
        Ok(Self {
            follow: query.flag(&["follow"]),
            previous: query.flag(&["previous"]),
            timestamps: query.flag(&["timestamps"]),
            tail_lines,
            limit_bytes: number(query, "limitBytes")?,
            since: since(query, now)?,
            stream,
        })
    }
}

fn since(query: &Query, now: Timestamp) -> Result<Option<Timestamp>, Refusal> {
    let seconds = number(query, "sinceSeconds")?;
    match (seconds, query.get("sinceTime").filter(|time| !time.is_empty())) {
        (Some(_), Some(_)) => {
            Err(Refusal::bad_request("at most one of `sinceTime` or `sinceSeconds` may be specified"))
        }
        (Some(seconds), None) => {
            let ago = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            // Before the beginning of time is everything.
            Ok(now.checked_sub(ago).ok())
        }
        (None, Some(time)) => time.parse().map(Some).map_err(|_| unprocessable("sinceTime", time)),
        (None, None) => Ok(None),
    }
}

fn number(query: &Query, name: &str) -> Result<Option<u64>, Refusal> {
    let Some(text) = query.get(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| unprocessable(name, text))
}

fn unprocessable(name: &str, value: &str) -> Refusal {
    Refusal::bad_request(format!("{name}: Invalid value: {value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<LogQuery, String> {
        let now = Timestamp::from_second(1000).unwrap();
        LogQuery::parse(&Query::parse(query), now).map_err(|refusal| refusal.message)
    }

    #[test]
    fn parameters_are_read_and_checked() {
        let query = parse("follow=true&tailLines=10&sinceSeconds=60&timestamps=1&limitBytes=5").unwrap();
        assert_eq!(query.since, Some(Timestamp::from_second(940).unwrap()));
        assert_eq!((query.follow, query.tail_lines, query.timestamps), (true, Some(10), true));
        let since = parse("sinceTime=1970-01-01T00:00:05Z").unwrap().since;
        assert_eq!(since, Some(Timestamp::from_second(5).unwrap()));
        assert_eq!(parse("").unwrap(), LogQuery::default());
        for bad in [
            "tailLines=-1",
            "sinceTime=yesterday",
            "limitBytes=x",
            "sinceSeconds=1&sinceTime=1970-01-01T00:00:05Z",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
