//! Rules on the ports of EXPOSE: `[[ADDRESS:]HOST-PORT:]PORT[/PROTOCOL]`.

use crate::build::check::{Findings, rule};
use crate::build::source::Line;

/// Checks one port.
pub(crate) fn check(findings: &mut Findings, line: &Line, port: &str) {
    let (place, last) = port.rsplit_once(':').map_or((None, port), |(place, last)| (Some(place), last));
    let protocol = last.split_once('/').map_or("", |(_, protocol)| protocol);
    if protocol.to_lowercase() != protocol {
        let detail = format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase");
        findings.note_for(&rule::EXPOSE_PROTO_CASING, line, &detail);
    }
    // `::80` names neither.
    if place.is_some_and(|place| place.chars().any(|c| c != ':')) {
        let detail = format!(
            "EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'"
        );
        findings.note_for(&rule::EXPOSE_INVALID_FORMAT, line, &detail);
    }
}
