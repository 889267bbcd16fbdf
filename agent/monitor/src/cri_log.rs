//! The text format of container logs, as the CRI fixes it: `TIME stdout|stderr F|P TEXT`.
//!
//! A line longer than 16 KiB is cut into pieces marked `P` (partial), the last one `F` (full); readers join them. Output
//! that ends without an end of line is `P` too, so that readers add none: as containerd and conmon write it. The
//! time is UTC with nanoseconds (RFC 3339). Output without an end of line is held back until its line is whole, too
//! long, or the stream has ended.

/// Longest text of one log line, in bytes.
pub(crate) const MAX_TEXT: usize = 16 << 10;

/// Which output a piece of text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Cuts both outputs of one container into log lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Lines {
    /// Takes output read at `at` (nanoseconds since the epoch) and appends the log lines it completes.
    pub(crate) fn push(&mut self, stream: Stream, at: i64, data: &[u8], out: &mut Vec<u8>) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.push_piece(stream, at, piece, out);
        }
    }

    /// Appends what is held back: the streams have ended. No end of line came, so the line is not whole.
    pub(crate) fn finish(&mut self, at: i64, out: &mut Vec<u8>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let held = std::mem::take(self.held(stream));
            if !held.is_empty() {
                write_line(stream, at, b'P', &held, out);
            }
        }
    }

    /// `piece` has at most one end of line, at its end.
    fn push_piece(&mut self, stream: Stream, at: i64, piece: &[u8], out: &mut Vec<u8>) {
        let (text, ended) = match piece.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (piece, false),
        };
        let held = self.held(stream);
        let mut text = text;
        while held.len() + text.len() > MAX_TEXT {
            let (head, tail) = text.split_at(MAX_TEXT - held.len());
            held.extend_from_slice(head);
            write_line(stream, at, b'P', held, out);
            held.clear();
            text = tail;
        }
        held.extend_from_slice(text);
        if ended {
            write_line(stream, at, b'F', held, out);
            // Freed, not kept: most containers print short lines, and this process is measured in single pages.
            *held = Vec::new();
        }
    }

    fn held(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

fn write_line(stream: Stream, at: i64, tag: u8, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(rfc3339(at).as_bytes());
    out.extend_from_slice(match stream {
        Stream::Stdout => b" stdout ",
        Stream::Stderr => b" stderr ",
    });
    out.extend_from_slice(&[tag, b' ']);
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// RFC 3339 in UTC with nanoseconds.
fn rfc3339(nanoseconds: i64) -> String {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let fraction = nanoseconds.rem_euclid(1_000_000_000);
    let (year, month, day) = civil_date(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Year, month and day of a day counted from 1970-01-01 (Gregorian calendar).
///
/// Years are counted from March, so that the leap day is the last day of its year and months follow one formula.
fn civil_date(day: i64) -> (i64, i64, i64) {
    const DAYS_IN_400_YEARS: i64 = 146_097;
    const DAYS_FROM_0000_03_01_TO_1970: i64 = 719_468;
    let day = day + DAYS_FROM_0000_03_01_TO_1970;
    let (era, day_of_era) = (day.div_euclid(DAYS_IN_400_YEARS), day.rem_euclid(DAYS_IN_400_YEARS));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log_of(pieces: &[(Stream, &[u8])]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for (stream, data) in pieces {
            lines.push(*stream, 0, data, &mut out);
        }
        lines.finish(0, &mut out);
        String::from_utf8(out)
            .unwrap()
            .lines()
            .map(|line| line.strip_prefix("1970-01-01T00:00:00.000000000Z ").unwrap().to_owned())
            .collect()
    }

    #[test]
    fn lines_are_joined_across_reads_and_streams_kept_apart() {
        let log =
            log_of(&[(Stream::Stdout, b"a\nb"), (Stream::Stderr, b"x\n"), (Stream::Stdout, b"c\n\nend")]);
        assert_eq!(log, ["stdout F a", "stderr F x", "stdout F bc", "stdout F ", "stdout P end"]);
    }

    #[test]
    fn long_lines_are_cut() {
        let mut text = vec![b'x'; 2 * MAX_TEXT + 1];
        text.push(b'\n');
        let log = log_of(&[(Stream::Stdout, &text)]);
        let shape: Vec<_> = log.iter().map(|line| (&line[7..8], line.len() - 9)).collect();
        assert_eq!(shape, [("P", MAX_TEXT), ("P", MAX_TEXT), ("F", 1)]);
        let mut exact = vec![b'x'; MAX_TEXT];
        exact.push(b'\n');
        assert_eq!(log_of(&[(Stream::Stdout, &exact)]).len(), 1);
    }

    #[test]
    fn times_are_rfc3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400_000_000_001), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(rfc3339(1_795_251_757_123_456_789), "2026-11-21T09:02:37.123456789Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999999Z");
    }
}
