//! Addresses and ranges of addresses inside objects: written as every program reads them, and, where traffic goes to
//! them, none that stands for this machine itself or for everybody on its link.

use super::faults::Faults;
use serde_json::json;
use std::net::{IpAddr, Ipv6Addr};

const IP_FORM: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
const RANGE_FORM: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// An address; `None` and a fault where the text is none.
pub(super) fn ip(field: &str, text: &str, faults: &mut Faults) -> Option<IpAddr> {
    match (text.parse().ok(), without_leading_zeros(text).parse::<IpAddr>()) {
        (Some(IpAddr::V6(address)), _) if address.to_ipv4_mapped().is_some() => {
            faults.invalid(field, &json!(text), "must not be an IPv4-mapped IPv6 address");
            None
        }
        (Some(address), _) => Some(address),
        (None, Ok(_)) => {
            faults.invalid(field, &json!(text), "must not have leading 0s");
            None
        }
        (None, Err(_)) => {
            faults.invalid(field, &json!(text), IP_FORM);
            None
        }
    }
}

/// A range of addresses: its first address and the length of its prefix.
pub(super) fn range(field: &str, text: &str, faults: &mut Faults) -> Option<(IpAddr, u8)> {
    let fault = match parse_range(text) {
        Some((address, length)) if first(address, length) == address => return Some((address, length)),
        Some(_) => "must not have bits set beyond the prefix length",
        None if parse_range(&without_leading_zeros(text)).is_some() => {
            "must not have leading 0s in IP or prefix length"
        }
        None => RANGE_FORM,
    };
    faults.invalid(field, &json!(text), fault);
    None
}

/// An address in the one form in which it is printed.
pub(super) fn canonical_ip(field: &str, text: &str, faults: &mut Faults) {
    if let Some(address) = ip(field, text, faults) {
        canonical(field, text, &address.to_string(), faults);
    }
}

/// A range of addresses in the one form in which it is printed.
pub(super) fn canonical_range(field: &str, text: &str, faults: &mut Faults) -> Option<(IpAddr, u8)> {
    let (address, length) = range(field, text, faults)?;
    canonical(field, text, &format!("{address}/{length}"), faults);
    Some((address, length))
}

fn canonical(field: &str, text: &str, printed: &str, faults: &mut Faults) {
    if text != printed {
        faults.invalid(field, &json!(text), &format!("must be in canonical form ({printed:?})"));
    }
}

/// Whether a range lies in another one and is smaller.
pub(super) fn strictly_inside(inner: (IpAddr, u8), outer: (IpAddr, u8)) -> bool {
    inner.0.is_ipv4() == outer.0.is_ipv4() && inner.1 > outer.1 && first(inner.0, outer.1) == outer.0
}

/// An address that traffic can be sent to from any node.
pub(super) fn reachable(field: &str, address: IpAddr, faults: &mut Faults) {
    if address.is_loopback() {
        let detail = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        faults.invalid(field, &json!(address.to_string()), detail);
    }
    of_endpoint(field, address, faults);
}

/// An address that a service can lead to. Unlike Kubernetes this takes loopback addresses: a cluster of one machine may
/// live on nothing else.
pub(super) fn of_endpoint(field: &str, address: IpAddr, faults: &mut Faults) {
    let shown = json!(address.to_string());
    let (link_local, multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let rules = [
        (address.is_unspecified(), format!("may not be unspecified ({address})")),
        (link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()),
    ];
    for (_, detail) in rules.iter().filter(|(broken, _)| *broken) {
        faults.invalid(field, &shown, detail);
    }
}

fn parse_range(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let plain = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length: u8 = length.parse().ok().filter(|_| plain && (length == "0" || !length.starts_with('0')))?;
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

/// The address with every bit behind the prefix cleared.
fn first(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    }
}

/// The text as it would be without zeros before the decimal parts of an IPv4 address and of a prefix length.
fn without_leading_zeros(text: &str) -> String {
    let trimmed = |part: &str| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0".to_owned(),
        rest => rest.to_owned(),
    };
    let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
    let address = if address.contains(':') {
        address.to_owned()
    } else {
        address.split('.').map(trimmed).collect::<Vec<_>>().join(".")
    };
    length.map_or(address.clone(), |length| format!("{address}/{}", trimmed(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_its_first_address_and_a_length() {
        let good = |text: &str| range("f", text, &mut Faults::default());
        assert!(
            good("10.0.0.0/8").is_some() && good("0.0.0.0/0").is_some() && good("2001:db8::/32").is_some()
        );
        for bad in
            ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0", "010.0.0.0/8", "10.0.0.0/08", "10.0.0.0/+8", "::/129"]
        {
            assert!(good(bad).is_none(), "{bad}");
        }
        let inside = |inner: &str, outer: &str| strictly_inside(good(inner).unwrap(), good(outer).unwrap());
        assert!(inside("10.1.0.0/16", "10.0.0.0/8") && inside("10.0.0.0/8", "0.0.0.0/0"));
        assert!(!inside("10.0.0.0/8", "10.0.0.0/8") && !inside("11.0.0.0/16", "10.0.0.0/8"));
        assert!(!inside("::/64", "0.0.0.0/0"));
    }
}
