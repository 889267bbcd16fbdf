//! From lines of a CRI log file to what the client sees.

use super::log_query::LogQuery;
use jiff::Timestamp;

/// Applies a request to one line after the other.
#[derive(Debug)]
pub(super) struct Filter {
    timestamps: bool,
    since: Option<Timestamp>,
    stream: Option<String>,
    /// Bytes that may still be sent.
    left: Option<u64>,
    /// The next piece begins a line (the last one was not partial).
    at_line_start: bool,
}

impl Filter {
    pub(super) fn new(query: &LogQuery) -> Self {
        Self {
            timestamps: query.timestamps,
            since: query.since,
            stream: query.stream.clone(),
            left: query.limit_bytes,
            at_line_start: true,
        }
    }

    /// Appends what the client sees of one line of the file (without its end).
    pub(super) fn take(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let Some(Line { time, stream, partial, text }) = Line::parse(line) else { return };
        if self.stream.as_deref().is_some_and(|wanted| wanted.as_bytes() != stream)
            || !self.is_new_enough(time)
        {
            return;
        }
        let start = out.len();
        if self.timestamps && self.at_line_start {
            out.extend_from_slice(time);
            out.push(b' ');
        }
        out.extend_from_slice(text);
        if !partial {
            out.push(b'\n');
        }
        self.at_line_start = !partial;
        self.limit(start, out);
    }

    /// The client has got all the bytes it asked for.
    pub(super) fn is_done(&self) -> bool {
        self.left == Some(0)
    }

    fn is_new_enough(&self, time: &[u8]) -> bool {
        let Some(since) = self.since else { return true };
        let time = std::str::from_utf8(time).ok().and_then(|time| time.parse::<Timestamp>().ok());
        time.is_none_or(|time| time >= since)
    }

    fn limit(&mut self, start: usize, out: &mut Vec<u8>) {
        let Some(left) = &mut self.left else { return };
        let allowed = usize::try_from(*left).unwrap_or(usize::MAX);
        out.truncate(start.saturating_add(allowed));
        *left -= (out.len() - start) as u64;
    }
}

/// `TIME stdout|stderr F|P TEXT`
struct Line<'a> {
    time: &'a [u8],
    stream: &'a [u8],
    partial: bool,
    text: &'a [u8],
}

impl<'a> Line<'a> {
    /// The tag may hold more, separated by colons; only its first part says whether the line is whole.
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let (time, stream, tag) = (fields.next()?, fields.next()?, fields.next()?);
        let partial = tag.split(|byte| *byte == b':').next() == Some(b"P");
        Some(Self { time, stream, partial, text: fields.next().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[&str] = &[
        "2026-01-01T00:00:01.000000000Z stdout F one",
        "2026-01-01T00:00:02.000000000Z stderr P two ",
        "2026-01-01T00:00:02.500000000Z stderr F halves",
        "2026-01-01T00:00:03.000000000Z stdout F ",
    ];

    fn shown(query: &LogQuery) -> String {
        let (mut filter, mut out) = (Filter::new(query), Vec::new());
        LOG.iter().for_each(|line| filter.take(line.as_bytes(), &mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_are_joined_filtered_and_limited() {
        assert_eq!(shown(&LogQuery::default()), "one\ntwo halves\n\n");
        let timestamps = LogQuery { timestamps: true, ..LogQuery::default() };
        assert_eq!(
            shown(&timestamps),
            "2026-01-01T00:00:01.000000000Z one\n2026-01-01T00:00:02.000000000Z two halves\n2026-01-01T00:00:03.000000000Z \n"
        );
        let since = LogQuery { since: Some("2026-01-01T00:00:02Z".parse().unwrap()), ..LogQuery::default() };
        assert_eq!(shown(&since), "two halves\n\n");
        assert_eq!(shown(&LogQuery { limit_bytes: Some(6), ..LogQuery::default() }), "one\ntw");
        assert_eq!(shown(&LogQuery { stream: Some("stdout".into()), ..LogQuery::default() }), "one\n\n");
    }
}
