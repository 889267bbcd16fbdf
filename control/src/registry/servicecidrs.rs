//! Ranges of service addresses. The one of the command line is there as `kubernetes`; further ones may be added.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, faults::Faults, fields, validation};
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
    let all = cidrs(range);
    if all.is_empty() {
        faults.required("spec.cidrs", "at least one CIDR required");
    }
    if all.len() > 2 {
        faults.invalid("spec.cidrs", &json!(all), "may only hold up to 2 values");
    }
    for (index, cidr) in all.iter().enumerate() {
        if !is_network(cidr) {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            faults.invalid(format!("spec.cidrs[{index}]"), &json!(cidr), why);
        }
    }
    if let [first, second] = all.as_slice()
        && first.contains(':') == second.contains(':')
    {
        faults.invalid(
            "spec.cidrs",
            &json!(all),
            "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        );
    }
}

fn is_network(cidr: &str) -> bool {
    let Some((address, prefix)) = cidr.split_once('/') else { return false };
    let (Ok(address), Ok(prefix)) = (address.parse::<IpAddr>(), prefix.parse::<u32>()) else { return false };
    match address {
        IpAddr::V4(address) => prefix <= 32 && u32::from(address).trailing_zeros().min(32) >= 32 - prefix,
        IpAddr::V6(address) => prefix <= 128 && u128::from(address).trailing_zeros().min(128) >= 128 - prefix,
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    validation::unchanged(new, old, "spec.cidrs", faults);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_nothing_behind_their_prefix() {
        let cases =
            [("10.96.0.0/16", true), ("fd00::/112", true), ("10.96.0.1/16", false), ("10.0.0.0", false)];
        for (cidr, valid) in cases {
            assert_eq!(is_network(cidr), valid, "{cidr}");
        }
    }
}
