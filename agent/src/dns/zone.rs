//! All names of a cluster, after the Kubernetes DNS specification (version 1.1.0).
//!
//! ```text
//! SERVICE.NAMESPACE.svc                      A, AAAA: the service's address; of a headless one, every ready endpoint's
//! HOSTNAME.SERVICE.NAMESPACE.svc             A, AAAA: one endpoint of a headless service (HOSTNAME may be 1-2-3-4)
//! _PORT._PROTOCOL.SERVICE.NAMESPACE.svc      SRV: a named port; of a headless one, one record per endpoint
//! 1-2-3-4.NAMESPACE.pod, fd00--5.NAMESPACE.pod  the address in the name, for any namespace
//! D.C.B.A.in-addr.arpa, 5.0...d.f.ip6.arpa   PTR: a service's address, or an endpoint of a headless service
//! ```
//! An external name is a CNAME; the client (or its resolver) asks again for the target.

use crate::engine::network::cidr::Cidr;
use crate::engine::network::pod_range::Cidr6;
use crate::services::{SERVICE_NAME, is_ready};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The version of the specification that the zone follows, in a TXT record as the specification asks.
const SPECIFICATION: &str = "1.1.0";

/// What one name has. A name without records exists too, as the parent of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Port and the name of the target.
    pub(crate) services: BTreeSet<(u16, String)>,
    pub(crate) alias: Option<String>,
    pub(crate) text: Option<&'static str>,
}

/// Every name of the cluster, as of one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Zone {
    domain: String,
    ranges: Vec<Range>,
    /// By name relative to the domain, in lower case.
    names: HashMap<String, Records>,
    /// Complete names by address.
    pointers: HashMap<IpAddr, BTreeSet<String>>,
}

/// Addresses whose reverse names are ours alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Range {
    Four(Cidr),
    Six(Cidr6),
}

impl Range {
    fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Range::Four(range), IpAddr::V4(address)) => range.contains(address),
            (Range::Six(range), IpAddr::V6(address)) => range.contains(address),
            _ => false,
        }
    }
}

/// What the zone says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It exists; it may have no record of the wanted type.
    Records(Records),
    /// A reverse name that we know.
    Pointers(BTreeSet<String>),
    /// It would be ours, and does not exist.
    Nothing,
    /// Others may know.
    NotOurs,
}

impl Zone {
    /// Computes all names. Objects are not believed: what is no name or address is left out.
    pub(crate) fn new(
        domain: &str,
        ranges: &[Range],
        services: &[Arc<Service>],
        slices: &[Arc<EndpointSlice>],
    ) -> Self {
        let mut zone = Self { domain: domain.to_owned(), ranges: ranges.to_vec(), ..Self::default() };
        zone.record("dns-version").text = Some(SPECIFICATION);
        zone.record("svc");
        zone.record("pod");
        let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
            let name = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
            if let (Some(namespace), Some(name)) = (slice.metadata.namespace.as_deref(), name) {
                by_service.entry((namespace, name)).or_default().push(slice);
            }
        }
        for service in services {
            let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else {
                continue;
            };
            if is_label(namespace) && is_label(name) {
                let slices =
                    by_service.get(&(namespace.as_str(), name.as_str())).map_or(&[][..], Vec::as_slice);
                zone.add_service(service, &format!("{name}.{namespace}.svc"), slices);
            }
        }
        zone
    }

    /// What is known of `name` (lower case, without the final dot).
    pub(crate) fn find(&self, name: &str) -> Finding {
        if let Some(address) = reverse_address(name) {
            return match self.pointers.get(&address) {
                Some(names) => Finding::Pointers(names.clone()),
                None if self.ranges.iter().any(|range| range.contains(address)) => Finding::Nothing,
                None => Finding::NotOurs,
            };
        }
        if name == self.domain {
            return Finding::Records(Records::default());
        }
        let Some(relative) = name.strip_suffix(&self.domain).and_then(|rest| rest.strip_suffix('.')) else {
            return Finding::NotOurs;
        };
        match self.names.get(relative) {
            Some(records) => Finding::Records(records.clone()),
            None => pod_name(relative).map_or(Finding::Nothing, Finding::Records),
        }
    }

    /// The record of a name; its parents exist from then on.
    fn record(&mut self, name: &str) -> &mut Records {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if self.names.contains_key(parent) {
                break;
            }
            self.names.insert(parent.to_owned(), Records::default());
            rest = parent;
        }
        self.names.entry(name.to_owned()).or_default()
    }

    fn absolute(&self, name: &str) -> String {
        format!("{name}.{}", self.domain)
    }

    fn add_service(&mut self, service: &Service, name: &str, slices: &[&EndpointSlice]) {
        let Some(spec) = &service.spec else { return };
        if spec.type_.as_deref() == Some("ExternalName") {
            let target =
                spec.external_name.as_deref().map(|target| target.trim_end_matches('.').to_lowercase());
            self.record(name).alias = target.filter(|target| !target.is_empty());
            return;
        }
        let addresses = spec.cluster_ips.as_deref().unwrap_or(spec.cluster_ip.as_slice());
        if addresses.iter().any(|address| address == "None") {
            for slice in slices {
                self.add_headless(name, slice);
            }
            // A headless service without endpoints has no address, but its name exists.
            self.record(name);
            return;
        }
        let addresses: BTreeSet<IpAddr> =
            addresses.iter().filter_map(|address| address.parse().ok()).collect();
        for &address in &addresses {
            let complete = self.absolute(name);
            self.pointers.entry(address).or_default().insert(complete);
        }
        self.record(name).addresses.extend(addresses);
        for port in spec.ports.iter().flatten() {
            let Ok(number) = u16::try_from(port.port) else { continue };
            self.add_port(name, port.name.as_deref(), port.protocol.as_deref(), number, name);
        }
    }

    fn add_headless(&mut self, service: &str, slice: &EndpointSlice) {
        for endpoint in slice.endpoints.iter().filter(|endpoint| is_ready(endpoint)) {
            let addresses = endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
            for address in addresses {
                self.record(service).addresses.insert(address);
                let own = format!("{}.{service}", host_label(endpoint, address));
                self.record(&own).addresses.insert(address);
                if endpoint.hostname.is_some() {
                    let complete = self.absolute(&own);
                    self.pointers.entry(address).or_default().insert(complete);
                }
                for port in slice.ports.iter().flatten() {
                    let Some(number) = port.port.and_then(|number| u16::try_from(number).ok()) else {
                        continue;
                    };
                    self.add_port(service, port.name.as_deref(), port.protocol.as_deref(), number, &own);
                }
            }
        }
    }

    /// Only named ports have a name.
    fn add_port(
        &mut self,
        service: &str,
        port: Option<&str>,
        protocol: Option<&str>,
        number: u16,
        target: &str,
    ) {
        let protocol = protocol.unwrap_or("TCP").to_lowercase();
        if let Some(port) = port.filter(|port| is_label(port)) {
            let target = self.absolute(target);
            self.record(&format!("_{port}._{protocol}.{service}")).services.insert((number, target));
        }
    }
}

/// A DNS label as Kubernetes allows it.
fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(plain)
}

/// The first label of an endpoint's own name.
fn host_label(endpoint: &Endpoint, address: IpAddr) -> String {
    let given = endpoint.hostname.as_ref().map(|name| name.to_lowercase()).filter(|name| is_label(name));
    given.unwrap_or_else(|| {
        let label = address.to_string().replace(['.', ':'], "-");
        // No label ends like that: `fd00::` is `fd00--0`.
        if label.ends_with('-') { format!("{label}0") } else { label }
    })
}

/// `1-2-3-4.NAMESPACE.pod`, and the same with the colons of an address of version 6.
fn pod_name(relative: &str) -> Option<Records> {
    let mut labels = relative.split('.');
    let (address, namespace, kind) = (labels.next()?, labels.next()?, labels.next());
    match kind {
        Some("pod") if labels.next().is_none() && is_label(namespace) => {
            let of_version_4 = address.replace('-', ".").parse().map(IpAddr::V4);
            let address = of_version_4.or_else(|_| address.replace('-', ":").parse().map(IpAddr::V6)).ok()?;
            Some(Records { addresses: BTreeSet::from([address]), ..Records::default() })
        }
        None if namespace == "pod" && is_label(address) => Some(Records::default()),
        _ => None,
    }
}

/// The address in `D.C.B.A.in-addr.arpa`, or in 32 digits from last to first before `ip6.arpa`.
fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(reversed) = name.strip_suffix(".in-addr.arpa") {
        let reversed: Ipv4Addr = reversed.parse().ok()?;
        return Some(Ipv4Addr::from(u32::from(reversed).swap_bytes()).into());
    }
    let digits: Vec<&str> = name.strip_suffix(".ip6.arpa")?.split('.').collect();
    if digits.len() != 32 || digits.iter().any(|digit| digit.len() != 1) {
        return None;
    }
    let text: String = digits.into_iter().rev().collect();
    Some(Ipv6Addr::from(u128::from_str_radix(&text, 16).ok()?).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn service(name: &str, spec: Value) -> Arc<Service> {
        let object = json!({"metadata": {"namespace": "default", "name": name}, "spec": spec});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn zone() -> Zone {
        let services = [
            service(
                "web",
                json!({"clusterIPs": ["10.96.0.10", "fd00:96::a"], "ports": [{"name": "http", "port": 80}, {"port": 81}]}),
            ),
            service("db", json!({"clusterIP": "None"})),
            service("empty", json!({"clusterIP": "None"})),
            service("out", json!({"type": "ExternalName", "externalName": "Example.com."})),
            service("Bad_Name", json!({"clusterIP": "10.96.0.11"})),
        ];
        let slice = json!({
            "metadata": {"namespace": "default", "name": "db-1", "labels": {SERVICE_NAME: "db"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.42.0.5"], "hostname": "db-0", "conditions": {"ready": true}},
                {"addresses": ["10.42.0.6"]},
                {"addresses": ["10.42.0.7"], "conditions": {"ready": false}},
            ],
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        });
        let sixth = json!({
            "metadata": {"namespace": "default", "name": "db-2", "labels": {SERVICE_NAME: "db"}},
            "addressType": "IPv6", "endpoints": [{"addresses": ["fd00:42::6"]}],
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        });
        let ranges = [
            Range::Four(Cidr::parse("10.96.0.0/16").unwrap()),
            Range::Six(Cidr6::parse("fd00:96::/112").unwrap()),
        ];
        let slices = [slice, sixth].map(|slice| Arc::new(serde_json::from_value(slice).unwrap()));
        Zone::new("cluster.local", &ranges, &services, &slices)
    }

    fn addresses(name: &str) -> Vec<String> {
        match zone().find(name) {
            Finding::Records(records) => records.addresses.iter().map(IpAddr::to_string).collect(),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn names_have_addresses() {
        for (name, expected) in [
            ("web.default.svc.cluster.local", &["10.96.0.10", "fd00:96::a"][..]),
            ("db.default.svc.cluster.local", &["10.42.0.5", "10.42.0.6", "fd00:42::6"]),
            ("db-0.db.default.svc.cluster.local", &["10.42.0.5"]),
            ("10-42-0-6.db.default.svc.cluster.local", &["10.42.0.6"]),
            ("fd00-42--6.db.default.svc.cluster.local", &["fd00:42::6"]),
            ("fd00-42--7.any.pod.cluster.local", &["fd00:42::7"]),
            ("empty.default.svc.cluster.local", &[]),
            ("10-42-3-4.any.pod.cluster.local", &["10.42.3.4"]),
            // Parents of names exist.
            ("cluster.local", &[]),
            ("svc.cluster.local", &[]),
            ("default.svc.cluster.local", &[]),
            ("any.pod.cluster.local", &[]),
            ("_tcp.web.default.svc.cluster.local", &[]),
        ] {
            assert_eq!(addresses(name), expected, "{name}");
        }
    }

    #[test]
    fn unknown_names_of_the_domain_do_not_exist() {
        for name in [
            "nobody.default.svc.cluster.local",
            "web.other.svc.cluster.local",
            "10-42-0-7.db.default.svc.cluster.local",
            "300-1-1-1.any.pod.cluster.local",
            "example.com.default.svc.cluster.local",
            "bad_name.default.svc.cluster.local",
            "9.9.96.10.in-addr.arpa",
            "f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa",
        ] {
            assert_eq!(zone().find(name), Finding::Nothing, "{name}");
        }
    }

    #[test]
    fn the_rest_is_for_others() {
        for name in [
            "example.com",
            "notcluster.local",
            "local",
            "",
            "1.1.168.192.in-addr.arpa",
            "in-addr.arpa",
            "1.ip6.arpa",
            "f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.7.9.0.0.0.0.d.f.ip6.arpa",
        ] {
            assert_eq!(zone().find(name), Finding::NotOurs, "{name}");
        }
    }

    #[test]
    fn named_ports_aliases_and_pointers() {
        let find = |name: &str| zone().find(name);
        let Finding::Records(srv) = find("_http._tcp.web.default.svc.cluster.local") else { panic!() };
        assert_eq!(srv.services, BTreeSet::from([(80, "web.default.svc.cluster.local".into())]));
        let Finding::Records(srv) = find("_sql._tcp.db.default.svc.cluster.local") else { panic!() };
        let targets: Vec<&str> = srv.services.iter().map(|(_, target)| target.as_str()).collect();
        let expected = ["10-42-0-6", "db-0", "fd00-42--6"];
        assert_eq!(targets, expected.map(|name| format!("{name}.db.default.svc.cluster.local")));
        let Finding::Records(alias) = find("out.default.svc.cluster.local") else { panic!() };
        assert_eq!(alias.alias.as_deref(), Some("example.com"));
        for (name, target) in [
            ("10.0.96.10.in-addr.arpa", "web.default.svc.cluster.local"),
            (
                "a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa",
                "web.default.svc.cluster.local",
            ),
            ("5.0.42.10.in-addr.arpa", "db-0.db.default.svc.cluster.local"),
        ] {
            assert_eq!(find(name), Finding::Pointers(BTreeSet::from([target.to_owned()])), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_has_an_answer(name in "[a-z0-9_.-]{0,80}(\\.cluster\\.local|\\.in-addr\\.arpa|)") {
            let _ = zone().find(&name);
        }
    }
}
