//! Names in a pod specification that lead elsewhere: its DNS settings, its hosts file, the accounts and nodes it names.

use super::faults::Faults;
use super::{addresses, fields, validation};
use knarr_api::names;
use serde_json::{Value, json};

const DNS_POLICIES: [&str; 4] = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
/// What resolvers read of a `resolv.conf`.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// Every fault of the names of a pod specification.
pub(super) fn validate(spec: &Value, path: &str, faults: &mut Faults) {
    dns(spec, path, faults);
    for field in ["hostname", "subdomain"] {
        let text = fields::text(spec, &format!("/{field}"));
        validation::optional_name(&format!("{path}.{field}"), text, names::dns1123_label, faults);
    }
    for field in ["nodeName", "serviceAccountName", "priorityClassName", "runtimeClassName"] {
        let text = fields::text(spec, &format!("/{field}"));
        validation::optional_name(&format!("{path}.{field}"), text, names::dns1123_subdomain, faults);
    }
    for (key, value) in fields::pairs(spec, "/nodeSelector") {
        let path = format!("{path}.nodeSelector");
        validation::named(&path, key, names::qualified_name, faults);
        validation::named(&path, value.as_str().unwrap_or_default(), names::label_value, faults);
    }
    for (index, alias) in fields::list(spec, "/hostAliases").iter().enumerate() {
        let path = format!("{path}.hostAliases[{index}]");
        addresses::ip(&format!("{path}.ip"), fields::text(alias, "/ip"), faults);
        for (at, host) in fields::list(alias, "/hostnames").iter().filter_map(Value::as_str).enumerate() {
            validation::named(&format!("{path}.hostnames[{at}]"), host, names::dns1123_subdomain, faults);
        }
    }
}

fn dns(spec: &Value, path: &str, faults: &mut Faults) {
    let policy = fields::text(spec, "/dnsPolicy");
    if !DNS_POLICIES.contains(&policy) {
        faults.not_supported(format!("{path}.dnsPolicy"), policy, &DNS_POLICIES);
    }
    let path = format!("{path}.dnsConfig");
    let Some(config) = spec.get("dnsConfig") else {
        if policy == "None" {
            faults.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        return;
    };
    let (servers, field) = (fields::list(config, "/nameservers"), format!("{path}.nameservers"));
    if servers.is_empty() && policy == "None" {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        faults.required(field.as_str(), detail);
    }
    if servers.len() > MAX_NAMESERVERS {
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        faults.invalid(field.as_str(), &json!(servers), &detail);
    }
    for (index, server) in servers.iter().enumerate() {
        addresses::ip(&format!("{field}[{index}]"), server.as_str().unwrap_or_default(), faults);
    }
    let searches = fields::list(config, "/searches");
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        faults.invalid(format!("{path}.searches"), &json!(searches), &detail);
    }
    for (index, search) in searches.iter().filter_map(Value::as_str).enumerate() {
        // One dot alone is the root; a trailing one is as names of DNS may have it.
        let name = search.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(search);
        if search != "." {
            for detail in names::dns1123_subdomain(&name.replace('_', "-")) {
                faults.invalid(format!("{path}.searches[{index}]"), &json!(search), &detail);
            }
        }
    }
    for (index, option) in fields::list(config, "/options").iter().enumerate() {
        if fields::text(option, "/name").is_empty() {
            faults.required(format!("{path}.options[{index}]"), "must not be empty");
        }
    }
}
