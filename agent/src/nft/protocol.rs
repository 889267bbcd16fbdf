//! The protocols with ports, in nftables' words.

/// What the API calls by that name; absent means TCP.
pub(crate) fn protocol_of(text: Option<&str>) -> Option<&'static str> {
    match text.unwrap_or("TCP") {
        "TCP" => Some("tcp"),
        "UDP" => Some("udp"),
        "SCTP" => Some("sctp"),
        _ => None,
    }
}
