//! The name resolution of a pod: name servers, search domains and options by `dnsPolicy` and `dnsConfig`, within
//! the limits that resolvers have.

use crate::kubelet::pod;
use k8s_openapi::api::core::v1::Pod;
use knarr_cri::v1::DnsConfig;
use std::net::IpAddr;

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;

/// What the node offers.
#[derive(Debug, Clone, Copy)]
pub struct DnsSources<'a> {
    /// Text of the node's own `/etc/resolv.conf`.
    pub host: &'a str,
    /// Name servers of the cluster.
    pub cluster: &'a [IpAddr],
    /// Domain of the cluster.
    pub domain: &'a str,
}

/// The pod's configuration, and whether it fell back to the node's because the cluster has no name server.
pub fn resolv_conf(pod: &Pod, sources: DnsSources<'_>) -> (DnsConfig, bool) {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let host = parse(sources.host);
    let wants_cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !pod::host_network(pod),
        _ => false,
    };
    let missing = wants_cluster && sources.cluster.is_empty();
    let mut config = match policy {
        "None" => DnsConfig::default(),
        _ if wants_cluster && !missing => cluster_first(pod, sources, host),
        _ => host,
    };
    if let Some(extra) = &spec.dns_config {
        config.servers.extend(extra.nameservers.iter().flatten().cloned());
        config.searches.extend(extra.searches.iter().flatten().cloned());
        for option in extra.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            config.options.retain(|existing| existing.split(':').next() != Some(&name));
            config.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name,
            });
        }
    }
    limit(&mut config);
    (config, missing)
}

fn cluster_first(pod: &Pod, sources: DnsSources<'_>, host: DnsConfig) -> DnsConfig {
    let (namespace, domain) = (pod::namespace(pod), sources.domain);
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_string()];
    searches.extend(host.searches);
    DnsConfig {
        servers: sources.cluster.iter().map(IpAddr::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_string()],
    }
}

/// Duplicates go, then whatever a resolver would not read.
fn limit(config: &mut DnsConfig) {
    for list in [&mut config.servers, &mut config.searches] {
        let mut seen = std::collections::HashSet::new();
        list.retain(|entry| seen.insert(entry.clone()));
    }
    config.servers.truncate(MAX_NAMESERVERS);
    config.searches.truncate(MAX_SEARCHES);
    while config.searches.join(" ").len() > MAX_SEARCH_BYTES {
        config.searches.pop();
    }
}

/// Reads a `resolv.conf`.
fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_string)),
            Some("search" | "domain") => config.searches = words.map(str::to_string).collect(),
            Some("options") => config.options.extend(words.map(str::to_string)),
            _ => {}
        }
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies() {
        let host = "nameserver 9.9.9.9\nsearch home.lan\noptions edns0\n";
        let cluster: [IpAddr; 1] = ["10.42.0.1".parse().unwrap()];
        let cases = [
            (json!({}), "10.42.0.1", "ns.svc.c.l svc.c.l c.l home.lan", "ndots:5"),
            (json!({"dnsPolicy": "Default"}), "9.9.9.9", "home.lan", "edns0"),
            (json!({"hostNetwork": true}), "9.9.9.9", "home.lan", "edns0"),
            (
                json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}}),
                "1.1.1.1",
                "",
                "ndots:2",
            ),
            (
                json!({"dnsConfig": {"searches": ["x.y"], "options": [{"name": "ndots", "value": "2"}]}}),
                "10.42.0.1",
                "ns.svc.c.l svc.c.l c.l home.lan x.y",
                "ndots:2",
            ),
        ];
        for (mut spec, servers, searches, options) in cases {
            spec["containers"] = json!([]);
            let pod: Pod =
                serde_json::from_value(json!({"metadata": {"namespace": "ns"}, "spec": spec})).unwrap();
            let (config, missing) = resolv_conf(&pod, DnsSources { host, cluster: &cluster, domain: "c.l" });
            assert_eq!(config.servers.join(" "), servers);
            assert_eq!(config.searches.join(" "), searches);
            assert_eq!(config.options.join(" "), options);
            assert!(!missing);
        }
    }
}
