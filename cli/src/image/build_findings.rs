//! What the checks of a Dockerfile found, as docker and BuildKit tell it: after a build, for a check, and as JSON.

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use knarr_images::{BuildRequest, Finding, Findings};
use serde_json::{Value, json};

/// What a build says of a Dockerfile once it is done.
pub(super) fn warnings(findings: &Findings) -> Option<String> {
    let count = findings.list.len();
    let found = if count == 1 { "1 warning".to_owned() } else { format!("{count} warnings") };
    let mut text = format!("\n {found} found (use knarr build --check to expand):");
    for finding in &findings.list {
        text.push_str(&format!("\n - {}", finding.short()));
    }
    (count > 0).then_some(text)
}

/// Fails where what was found is to end the build.
pub(super) fn refuse(findings: &Findings) -> anyhow::Result<()> {
    findings.violation().map_or(Ok(()), |violation| Err(anyhow!(violation)).context("failed to solve"))
}

/// Some lines of a file, and which of them are meant: two more on either side of one line, one of several.
pub(super) fn excerpt(file: &str, text: &str, (first, last): (usize, usize)) -> String {
    let lines: Vec<&str> = text.split('\n').collect();
    let last = last.min(lines.len());
    let ruler = "--------------------\n";
    if first < 1 || first > last {
        return String::new();
    }
    let (mut from, mut to, mut added) = (first, last, 0);
    while added < if first == last { 4 } else { 2 } {
        let (above, below) = (usize::from(from > 1), usize::from(to < lines.len()));
        (from, to, added) = (from - above, to + below, added + above + below + 1);
    }
    let mut shown = format!("{file}:{first}\n{ruler}");
    for (number, line) in lines.iter().enumerate().map(|(index, line)| (index + 1, line)) {
        if number >= from && number <= to {
            let mark = if number >= first && number <= last { ">>>" } else { "   " };
            shown.push_str(&format!(" {number:3} | {mark} {}\n", line.trim_end_matches('\r')));
        }
    }
    shown + ruler
}

/// What a check says.
pub(super) fn check_text(findings: &Findings, request: &BuildRequest, failed: bool) -> String {
    let mut list: Vec<&Finding> = findings.list.iter().collect();
    list.sort_by_key(|finding| finding.lines.0);
    let mut text = match list.len() {
        0 if failed => String::new(),
        0 => "Check complete, no warnings found.\n".to_owned(),
        1 => "Check complete, 1 warning has been found!\n".to_owned(),
        count => format!("Check complete, {count} warnings have been found!\n"),
    };
    for finding in list {
        text.push_str(&format!("\nWARNING: {} - {}\n{}\n", finding.rule, finding.url, finding.detail));
        text.push_str(&excerpt(&request.file, &request.dockerfile, finding.lines));
    }
    text
}

/// Where something stands, in BuildKit's form.
pub(super) fn location((first, last): (usize, usize)) -> Value {
    let range = |line: usize| json!({"start": {"line": line}, "end": {"line": line}});
    json!({"ranges": (first..=last).map(range).collect::<Vec<_>>()})
}

/// The same as JSON.
pub(super) fn check_document(findings: &Findings, request: &BuildRequest, failed: Option<&str>) -> Value {
    let warnings = findings.list.iter().map(|finding| {
        json!({
            "ruleName": finding.rule,
            "description": finding.description,
            "url": finding.url,
            "detail": finding.detail,
            "location": location(finding.lines),
        })
    });
    let warnings: Vec<Value> = warnings.collect();
    let source = json!({
        "filename": request.file,
        "language": "Dockerfile",
        "data": STANDARD.encode(&request.dockerfile),
    });
    let mut document = json!({"warnings": warnings, "sources": [source]});
    if let Some(message) = failed {
        // `FILE:LINE: words`
        let place = message.strip_prefix(&format!("{}:", request.file));
        let line = place.and_then(|place| place.split_once(':')?.0.parse::<usize>().ok());
        let location = line.map_or_else(|| json!({}), |line| location((line, line)));
        document["buildError"] = json!({"message": message, "location": location});
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_around_a_finding() {
        let text = "a\nb\nc\nd\ne\nf\n";
        let numbers = |lines| {
            let shown = excerpt("Dockerfile", text, lines);
            shown
                .lines()
                .filter_map(|line| line.split_once(" | ")?.0.trim().parse().ok())
                .collect::<Vec<usize>>()
        };
        assert_eq!(numbers((3, 3)), [1, 2, 3, 4, 5]);
        assert_eq!(numbers((1, 1)), [1, 2, 3]);
        assert_eq!(numbers((2, 4)), [1, 2, 3, 4, 5]);
        assert_eq!(numbers((9, 9)), [0; 0]);
        let expected = "Dockerfile:2\n--------------------\n   1 |     a\n   2 | >>> b\n   3 |     c\n   4 |     d\n--------------------\n";
        assert_eq!(excerpt("Dockerfile", text, (2, 2)), expected);
    }
}
