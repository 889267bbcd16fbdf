//! Everything a person reads on stdout and stderr goes through here.

use serde::Serialize;
use std::io::Write;

/// Prints one line. A closed pipe (`knarr ps | head -1`) is no error of ours.
#[allow(clippy::print_stdout)]
pub(crate) fn line(text: &str) {
    let _closed_pipe = writeln!(std::io::stdout(), "{text}");
}

/// Prints a text that ends its own lines.
#[allow(clippy::print_stdout)]
pub(crate) fn raw(text: &str) {
    let _closed_pipe = write!(std::io::stdout(), "{text}");
}

/// Prints one line on stderr.
#[allow(clippy::print_stderr)]
pub(crate) fn complain(text: &str) {
    let _closed_pipe = writeln!(std::io::stderr(), "{text}");
}

/// An error with its causes; of a CRI status only the message, which is what the user can act on.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    match error.downcast_ref::<knarr_agent::cri::Status>() {
        Some(status) => status.message().to_owned(),
        None => format!("{error:#}"),
    }
}

/// Prints a value as indented JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    line(&serde_json::to_string_pretty(value)?);
    Ok(())
}

/// The narrowest column without what is between it and the next, as Docker has it.
const NARROWEST: usize = 7;

/// Prints rows under a header, in columns three spaces apart.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    for row in aligned(header, rows) {
        line(&row);
    }
}

fn aligned(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let head: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    let width = |column: usize| {
        std::iter::once(&head)
            .chain(rows)
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> =
        (0..head.len()).map(|column| width(column).unwrap_or(0).max(NARROWEST)).collect();
    std::iter::once(&head)
        .chain(rows)
        .map(|row| {
            let cells: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            cells.join("   ").trim_end().to_owned()
        })
        .collect()
}

/// Bytes as Docker prints them: three significant digits at most, powers of ten.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < units.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 100.0 { 0 } else { usize::from(value < 10.0) + 1 };
    let number = format!("{value:.digits$}");
    let number = if digits > 0 { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_like_docker() {
        for (bytes, text) in
            [(0, "0B"), (999, "999B"), (1000, "1kB"), (2_200_000, "2.2MB"), (216_000_000, "216MB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn columns_line_up() {
        let rows = aligned(&["NAME", "ID"], &[vec!["a-long-name".into(), "1".into()]]);
        assert_eq!(rows, ["NAME          ID", "a-long-name   1"]);
        assert_eq!(aligned(&["IMAGE", "ID"], &[]), ["IMAGE     ID"]);
    }
}
