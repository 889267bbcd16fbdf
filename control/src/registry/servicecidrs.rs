//! Ranges of service addresses. The one of the command line is there as `kubernetes`; further ones may be added.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, addresses, faults::Faults, fields};
use serde_json::{Value, json};
use std::net::IpAddr;

pub(super) fn row() -> Resource {
    Row::cluster("networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs")
        .status()
        .columns(vec![name(), text("CIDRs", "The ranges.", |range| cidrs(range).join(",")), age()])
        .rules(Rules { has_generation: true, validate, validate_update, ..Rules::NONE })
        .done()
}

fn cidrs(range: &Value) -> Vec<&str> {
    fields::list(range, "/spec/cidrs").iter().filter_map(Value::as_str).collect()
}

fn validate(range: &Value, faults: &mut Faults) {
    const FIELD: &str = "spec.cidrs";
    let all = cidrs(range);
    if all.is_empty() {
        return faults.required(FIELD, "at least one CIDR required");
    }
    if all.len() > 2 {
        let shown = format!("{{\"CIDRs\":{}}}", json!(all));
        return faults.invalid_shown(FIELD, &shown, "may only hold up to 2 values");
    }
    for (index, cidr) in all.iter().enumerate() {
        addresses::canonical_range(&format!("{FIELD}[{index}]"), cidr, faults);
    }
    let family = |cidr: &str| -> Option<bool> {
        let address: IpAddr = cidr.split_once('/')?.0.parse().ok()?;
        Some(address.is_ipv4())
    };
    if let [first, second] = all.as_slice()
        && family(first).is_some_and(|first| family(second) == Some(first))
    {
        let detail =
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        faults.invalid(FIELD, &json!(all), detail);
    }
}

/// A range of one family may be joined by one of the other; what is there stays.
fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let (before, after) = (cidrs(old), cidrs(new));
    let joined = before.len() == 1 && after.len() == 2;
    if before.len() != after.len() && !joined {
        return faults.immutable("spec.cidrs", &json!(after));
    }
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        if before != after {
            faults.immutable(format!("spec.cidrs[{index}]"), &json!(after));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(check: impl Fn(&mut Faults)) -> String {
        let mut faults = Faults::default();
        check(&mut faults);
        let causes = faults.into_causes().into_iter();
        causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>().join(", ")
    }

    fn range(cidrs: &[&str]) -> Value {
        json!({"spec": {"cidrs": cidrs}})
    }

    #[test]
    fn ranges_are_networks_of_two_families_at_most() {
        let table: [(&[&str], &str); 8] = [
            (&["10.96.0.0/16", "fd00::/112"], ""),
            (&[], "spec.cidrs: Required value: at least one CIDR required"),
            (
                &["10.0.0.0/8", "fd00::/112", "fd01::/112"],
                "spec.cidrs: Invalid value: {\"CIDRs\":[\"10.0.0.0/8\",\"fd00::/112\",\"fd01::/112\"]}: may only hold up to 2 values",
            ),
            (
                &["10.96.0.1/16"],
                "spec.cidrs[0]: Invalid value: \"10.96.0.1/16\": must not have bits set beyond the prefix length",
            ),
            (
                &["10.0.0.0"],
                "spec.cidrs[0]: Invalid value: \"10.0.0.0\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                &["FD00::/112"],
                "spec.cidrs[0]: Invalid value: \"FD00::/112\": must be in canonical form (\"fd00::/112\")",
            ),
            (
                &["fd00:0:0::/112"],
                "spec.cidrs[0]: Invalid value: \"fd00:0:0::/112\": must be in canonical form (\"fd00::/112\")",
            ),
            (
                &["10.96.0.0/16", "10.97.0.0/16"],
                "spec.cidrs: Invalid value: [\"10.96.0.0/16\",\"10.97.0.0/16\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            ),
        ];
        for (cidrs, words) in table {
            assert_eq!(told(|faults| validate(&range(cidrs), faults)), words, "{cidrs:?}");
        }
    }

    #[test]
    fn a_second_family_may_come_later() {
        let change =
            |old: &[&str], new: &[&str]| told(|faults| validate_update(&range(new), &range(old), faults));
        assert_eq!(change(&["10.96.0.0/16"], &["10.96.0.0/16", "fd00::/112"]), "");
        let first = "spec.cidrs[0]: Invalid value: \"10.97.0.0/16\": field is immutable";
        assert_eq!(change(&["10.96.0.0/16"], &["10.97.0.0/16"]), first);
        assert_eq!(change(&["10.96.0.0/16"], &["10.97.0.0/16", "fd00::/112"]), first);
        let less = "spec.cidrs: Invalid value: [\"10.96.0.0/16\"]: field is immutable";
        assert_eq!(change(&["10.96.0.0/16", "fd00::/112"], &["10.96.0.0/16"]), less);
    }
}
