//! Addresses and node ports of services: handed out when a service is written, taken back when it is gone.
//!
//! What is taken is read from the services themselves, so there is no second record that could disagree with them.
//! One turn spans reading and writing: two services never get the same address, whichever server they come to.
//! The ranges of the command line come first (one, or one of each family: then services may have two addresses); every
//! ServiceCIDR object adds some. Which families a service has is settled in `service_families`.

use super::service_families::{self, Family};
use super::{Server, Turn, Turnstile, stored};
use crate::random;
use crate::registry::{Cause, Resource, fields, has_health_port};
use crate::store::ListQuery;
use knarr_api::{Status, meta};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Places in a range that are handed out; those beyond are nobody's.
const MOST: u128 = 1 << 20;
const NODE_PORTS: std::ops::RangeInclusive<u64> = 30_000..=32_767;
const OUT_OF_RANGE: &str = "provided port is not in the valid range. The range of valid ports is 30000-32767";
const ALLOCATED: &str = "provided port is already allocated";

/// Where addresses come from.
#[derive(Debug)]
pub(crate) struct ServiceAddresses {
    /// The primary one first, which is IPv4.
    ranges: Vec<Range>,
    turns: Turnstile,
}

/// A range of service addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    cidr: String,
    family: Family,
    first: u128,
    size: u128,
}

/// Nobody else is handed an address while this lives.
pub(crate) type Held<'a> = Turn<'a>;

/// What existing services have.
#[derive(Debug, Default)]
struct Taken {
    addresses: HashSet<IpAddr>,
    ports: HashSet<u64>,
}

impl ServiceAddresses {
    /// `10.96.0.0/16`, and perhaps an IPv6 range behind a comma.
    pub(crate) fn new(cidrs: &str) -> anyhow::Result<Self> {
        let ranges: Vec<Range> =
            cidrs.split(',').map(|cidr| Range::new(cidr.trim())).collect::<anyhow::Result<_>>()?;
        let families: Vec<Family> = ranges.iter().map(|range| range.family).collect();
        let is_known = matches!(families.as_slice(), [Family::V4] | [Family::V4, Family::V6]);
        anyhow::ensure!(is_known, "service CIDR {cidrs:?}: want an IPv4 network, or one and an IPv6 network");
        Ok(Self { ranges, turns: Turnstile::new("knarr/turns/services") })
    }

    /// The ranges of the command line.
    pub(super) fn cidrs(&self) -> Vec<&str> {
        self.ranges.iter().map(|range| range.cidr.as_str()).collect()
    }

    fn families(&self) -> Vec<Family> {
        self.ranges.iter().map(|range| range.family).collect()
    }

    /// The address of `default/kubernetes`.
    pub(crate) fn kubernetes(&self) -> IpAddr {
        self.ranges.first().map_or(Ipv4Addr::LOCALHOST.into(), |range| range.address(1))
    }
}

impl Range {
    pub(crate) fn new(cidr: &str) -> anyhow::Result<Self> {
        let fault = || anyhow::anyhow!("service CIDR {cidr:?}: want a network such as 10.96.0.0/16");
        let (address, prefix) = cidr.split_once('/').ok_or_else(fault)?;
        let (address, prefix): (IpAddr, u32) =
            (address.parse().map_err(|_| fault())?, prefix.parse().map_err(|_| fault())?);
        let (family, bits, number) = match address {
            IpAddr::V4(address) => (Family::V4, 8..=30, u128::from(u32::from(address))),
            IpAddr::V6(address) => (Family::V6, 64..=126, u128::from(address)),
        };
        anyhow::ensure!(bits.contains(&prefix), fault());
        let size = 1u128 << (family.bits() - prefix);
        Ok(Self { cidr: cidr.to_owned(), family, first: number & !(size - 1), size })
    }

    pub(crate) fn contains(&self, address: &str) -> bool {
        let number = match address.parse() {
            Ok(IpAddr::V4(address)) if self.family == Family::V4 => u128::from(u32::from(address)),
            Ok(IpAddr::V6(address)) if self.family == Family::V6 => u128::from(address),
            _ => return false,
        };
        // The last one of IPv4 is the broadcast address.
        let end = self.first + self.size - u128::from(self.family == Family::V4);
        (self.first + 1..end).contains(&number)
    }

    fn address(&self, offset: u128) -> IpAddr {
        let number = self.first + offset;
        match self.family {
            Family::V4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
            Family::V6 => Ipv6Addr::from(number).into(),
        }
    }

    /// A free address; the lowest part of the range is left to services that ask for a certain one (DNS).
    fn pick(&self, taken: &HashSet<IpAddr>) -> Option<String> {
        let size = u64::try_from(self.size.min(MOST)).unwrap_or(u64::MAX);
        let reserved = (size / 16).clamp(2, 256);
        let free = |offset: &u64| !taken.contains(&self.address(u128::from(*offset)));
        let start = reserved + random::below(size - 1 - reserved);
        let offset = (start..size - 1).chain(reserved..start).chain(1..reserved).find(free)?;
        Some(self.address(u128::from(offset)).to_string())
    }
}

impl Server {
    /// Gives a service what it lacks, or refuses what it wants and cannot have.
    pub(crate) async fn assign_addresses(
        &self,
        resource: &Resource,
        new: &mut Value,
        old: Option<&Value>,
    ) -> Result<Option<Held<'_>>, Status> {
        if !resource.group.is_empty() || resource.plural != "services" {
            return Ok(None);
        }
        let held = self.addresses.turns.take(&self.store).await?;
        if let Some(old) = old {
            carry_over(new, old);
        }
        let own = old.map(|old| (meta::namespace(old), meta::name(old)));
        let taken = self.taken(resource, own).await?;
        let mut causes = Vec::new();
        service_families::settle(&self.addresses.families(), new, old, &mut causes);
        if causes.is_empty() {
            assign_addresses(&self.ranges().await?, new, &taken.addresses, &mut causes);
        }
        assign_ports(new, &taken.ports, &mut causes);
        assign_health_port(new, &taken.ports, &mut causes);
        super::change::refuse_invalid(resource, new, causes)?;
        Ok(Some(held))
    }

    /// Those of the command line come first.
    async fn ranges(&self) -> Result<Vec<Range>, Status> {
        let mut ranges = self.addresses.ranges.clone();
        for object in self.objects_below("networking.k8s.io/servicecidrs/").await? {
            let usable = meta::deletion_timestamp(&object).is_none();
            for cidr in fields::list(&object, "/spec/cidrs").iter().filter_map(Value::as_str) {
                if let (true, Ok(range)) = (usable, Range::new(cidr)) {
                    ranges.push(range);
                }
            }
        }
        Ok(ranges)
    }

    async fn taken(&self, resource: &Resource, own: Option<(&str, &str)>) -> Result<Taken, Status> {
        let query = ListQuery { prefix: "core/services/", ..ListQuery::default() };
        let page = self.store.list(query).await.map_err(|error| stored::refusal(resource, "", error))?;
        let own = own.map(|(namespace, name)| stored::key(resource, namespace, name));
        let mut taken = Taken::default();
        for entry in page.entries.iter().filter(|entry| own.as_deref() != Some(&*entry.key)) {
            let service = entry.object();
            let listed = fields::list(&service, "/spec/clusterIPs").iter();
            let both = listed.chain(service.pointer("/spec/clusterIP"));
            let parsed = both.filter_map(Value::as_str).filter_map(|text| text.parse::<IpAddr>().ok());
            taken.addresses.extend(parsed);
            taken.ports.extend(ports(&service).iter().filter_map(|port| port["nodePort"].as_u64()));
            taken.ports.extend(service["spec"]["healthCheckNodePort"].as_u64());
        }
        Ok(taken)
    }
}

fn ports(service: &Value) -> &[Value] {
    service.pointer("/spec/ports").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn kind(service: &Value) -> &str {
    service["spec"]["type"].as_str().unwrap_or("ClusterIP")
}

fn has_node_ports(service: &Value) -> bool {
    matches!(kind(service), "NodePort" | "LoadBalancer")
}

/// An update that leaves out what was assigned keeps it.
fn carry_over(new: &mut Value, old: &Value) {
    if kind(new) == "ExternalName" || kind(old) == "ExternalName" {
        return;
    }
    if new["spec"]["clusterIP"].as_str().unwrap_or_default().is_empty() {
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(value) = old["spec"].get(field) {
                new["spec"][field] = value.clone();
            }
        }
    }
    if !has_node_ports(new) {
        return;
    }
    let health_port = &old["spec"]["healthCheckNodePort"];
    if has_health_port(&old["spec"]) && has_health_port(&new["spec"]) && health_port_of(new) == 0 {
        new["spec"]["healthCheckNodePort"] = health_port.clone();
    }
    let known: Vec<Value> = ports(old).to_vec();
    for port in new.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        let same = |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
        let known = known.iter().find(same).and_then(|other| other["nodePort"].as_u64());
        if let (Some(number), 0) = (known, port["nodePort"].as_u64().unwrap_or(0)) {
            port["nodePort"] = number.into();
        }
    }
}

/// One address for each of the service's families; those that it has stay.
fn assign_addresses(ranges: &[Range], service: &mut Value, taken: &HashSet<IpAddr>, causes: &mut Vec<Cause>) {
    if !service["spec"].is_object() {
        return;
    }
    if kind(service) == "ExternalName" {
        for field in ["clusterIP", "clusterIPs"] {
            service["spec"].as_object_mut().map(|spec| spec.remove(field));
        }
        return;
    }
    let first = service["spec"]["clusterIP"].as_str().unwrap_or_default().to_owned();
    if first == "None" {
        service["spec"]["clusterIPs"] = json!([first]);
        return;
    }
    let listed = service["spec"]["clusterIPs"].as_array().cloned().unwrap_or_default();
    let mut addresses = Vec::new();
    for (index, family) in service_families::of(service).into_iter().enumerate() {
        let wanted = match index {
            0 => first.as_str(),
            _ => listed.get(index).and_then(Value::as_str).unwrap_or_default(),
        };
        let ranges: Vec<&Range> = ranges.iter().filter(|range| range.family == family).collect();
        match assign_address(&ranges, wanted, taken) {
            Ok(address) => addresses.push(address),
            Err(cause) => return causes.push(cause),
        }
    }
    service["spec"]["clusterIP"] = json!(addresses.first());
    service["spec"]["clusterIPs"] = json!(addresses);
}

fn assign_address(ranges: &[&Range], wanted: &str, taken: &HashSet<IpAddr>) -> Result<String, Cause> {
    if wanted.is_empty() {
        let free = ranges.iter().find_map(|range| range.pick(taken));
        return free.ok_or_else(|| address_fault("", "range is full"));
    }
    if !ranges.iter().any(|range| range.contains(wanted)) {
        let valid = ranges.first().map(|range| range.cidr.as_str()).unwrap_or_default();
        let why = format!(
            "the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {valid}"
        );
        return Err(address_fault(wanted, &why));
    }
    // One address may be written in many ways.
    if wanted.parse().is_ok_and(|address: IpAddr| taken.contains(&address)) {
        return Err(address_fault(wanted, "provided IP is already allocated"));
    }
    Ok(wanted.to_owned())
}

fn address_fault(address: &str, why: &str) -> Cause {
    let message = format!("Invalid value: []string{{{address:?}}}: failed to allocate IP {address}: {why}");
    Cause { reason: "FieldValueInvalid", field: "spec.clusterIPs".into(), message }
}

/// One number may stand for several protocols of one service, as DNS and HTTP/3 want it.
fn assign_ports(service: &mut Value, taken: &HashSet<u64>, causes: &mut Vec<Cause>) {
    if !has_node_ports(service) {
        return;
    }
    let mut own: HashSet<(u64, String)> = HashSet::new();
    let ports = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for (index, port) in ports.into_iter().flatten().enumerate() {
        let wanted = port["nodePort"].as_u64().unwrap_or(0);
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        let mut fault = |why: &str| {
            let message = format!("Invalid value: {wanted}: {why}");
            let field = format!("spec.ports[{index}].nodePort");
            causes.push(Cause { reason: "FieldValueInvalid", field, message });
        };
        if wanted == 0 {
            match free_port(|number| taken.contains(&number) || own.iter().any(|(mine, _)| *mine == number)) {
                Some(number) => port["nodePort"] = number.into(),
                None => fault("range is full"),
            }
        } else if !NODE_PORTS.contains(&wanted) {
            fault(OUT_OF_RANGE);
        } else if taken.contains(&wanted) || own.contains(&(wanted, protocol.clone())) {
            fault(ALLOCATED);
        }
        own.extend(port["nodePort"].as_u64().map(|number| (number, protocol)));
    }
}

/// A node port that is nobody's; the search starts anywhere.
fn free_port(is_taken: impl Fn(u64) -> bool) -> Option<u64> {
    let start = NODE_PORTS.start() + random::below(NODE_PORTS.end() - NODE_PORTS.start());
    (start..=*NODE_PORTS.end()).chain(NODE_PORTS).find(|number| !is_taken(*number))
}

fn health_port_of(service: &Value) -> i64 {
    fields::int(service, "/spec/healthCheckNodePort").unwrap_or(0)
}

/// The port on which each node says whether it has endpoints of the service.
fn assign_health_port(service: &mut Value, taken: &HashSet<u64>, causes: &mut Vec<Cause>) {
    if !has_health_port(&service["spec"]) {
        return;
    }
    let own: HashSet<u64> = ports(service).iter().filter_map(|port| port["nodePort"].as_u64()).collect();
    let is_taken = |number: u64| taken.contains(&number) || own.contains(&number);
    // What is no port at all is refused by validation.
    let Ok(wanted) = u16::try_from(health_port_of(service)) else {
        return;
    };
    let wanted = u64::from(wanted);
    let mut fault = |why: &str| {
        let message = format!("Invalid value: {wanted}: {why}");
        causes.push(Cause { reason: "FieldValueInvalid", field: "spec.healthCheckNodePort".into(), message });
    };
    match wanted {
        0 => match free_port(is_taken) {
            Some(number) => service["spec"]["healthCheckNodePort"] = number.into(),
            None => fault("range is full"),
        },
        _ if !NODE_PORTS.contains(&wanted) => fault(OUT_OF_RANGE),
        _ if is_taken(wanted) => fault(ALLOCATED),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(kind: &str, address: &str, node_port: u64) -> Value {
        json!({"spec": {"type": kind, "clusterIP": address, "ports": [{"port": 80, "nodePort": node_port}]}})
    }

    fn assign(mut service: Value, taken: &[&str], ports: &[u64]) -> (Value, Vec<String>) {
        let range = Range::new("10.96.0.0/28").unwrap();
        let mut causes = Vec::new();
        assign_addresses(
            &[range],
            &mut service,
            &taken.iter().map(|address| address.parse().unwrap()).collect(),
            &mut causes,
        );
        let ports = ports.iter().copied().collect();
        assign_ports(&mut service, &ports, &mut causes);
        assign_health_port(&mut service, &ports, &mut causes);
        (service, causes.into_iter().map(|cause| cause.message).collect())
    }

    #[test]
    fn what_is_missing_is_assigned() {
        let (given, faults) = assign(service("NodePort", "", 0), &[], &[]);
        assert!(faults.is_empty());
        assert!(Range::new("10.96.0.0/28").unwrap().contains(given["spec"]["clusterIP"].as_str().unwrap()));
        assert_eq!(given["spec"]["clusterIPs"][0], given["spec"]["clusterIP"]);
        assert!(NODE_PORTS.contains(&given["spec"]["ports"][0]["nodePort"].as_u64().unwrap()));
        let (headless, _) = assign(service("ClusterIP", "None", 0), &[], &[]);
        assert_eq!(headless["spec"]["clusterIP"], "None");
        let (external, _) = assign(service("ExternalName", "10.96.0.5", 0), &[], &[]);
        assert!(external["spec"].get("clusterIP").is_none());
    }

    #[test]
    fn a_balanced_service_that_keeps_clients_addresses_has_a_health_port() {
        let balanced = |policy: &str, port: u64| {
            let mut service = service("LoadBalancer", "", 30_080);
            service["spec"]["externalTrafficPolicy"] = policy.into();
            service["spec"]["healthCheckNodePort"] = port.into();
            service
        };
        let (given, faults) = assign(balanced("Local", 0), &[], &[]);
        assert_eq!(faults, [""; 0]);
        let port = given["spec"]["healthCheckNodePort"].as_u64().unwrap();
        assert!(NODE_PORTS.contains(&port) && port != 30_080);
        assert_eq!(assign(balanced("Cluster", 0), &[], &[]).0["spec"]["healthCheckNodePort"], 0);
        assert_eq!(assign(balanced("Local", 30_081), &[], &[]).1, [""; 0]);
        for (wanted, why) in [(80, OUT_OF_RANGE), (30_080, ALLOCATED), (30_082, ALLOCATED)] {
            let (_, faults) = assign(balanced("Local", wanted), &[], &[30_082]);
            assert_eq!(faults, [format!("Invalid value: {wanted}: {why}")]);
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        let cases = [
            (service("ClusterIP", "1.2.3.4", 0), "The range of valid IPs is 10.96.0.0/28"),
            (service("ClusterIP", "10.96.0.5", 0), "provided IP is already allocated"),
            (service("NodePort", "", 80), "The range of valid ports is 30000-32767"),
            (service("NodePort", "", 30000), "provided port is already allocated"),
        ];
        for (wanted, message) in cases {
            let (_, faults) = assign(wanted, &["10.96.0.5"], &[30000]);
            assert!(faults[0].contains(message), "{faults:?}");
        }
    }

    #[test]
    fn a_service_of_both_families_has_two_addresses() {
        let ranges = ["10.96.0.0/28", "fd00:96::/112"].map(|cidr| Range::new(cidr).unwrap());
        let mut both = service("ClusterIP", "", 0);
        both["spec"]["ipFamilies"] = json!(["IPv6", "IPv4"]);
        let mut causes = Vec::new();
        assign_addresses(&ranges, &mut both, &HashSet::new(), &mut causes);
        assert!(causes.is_empty());
        let given = |index: usize| both["spec"]["clusterIPs"][index].as_str().unwrap();
        assert!(ranges[1].contains(given(0)) && ranges[0].contains(given(1)), "{both}");
        assert_eq!(both["spec"]["clusterIP"], given(0));
        // Other words for an address that is taken are no other address.
        let mut other = service("ClusterIP", "fd00:0096:0:0::5", 0);
        other["spec"]["ipFamilies"] = json!(["IPv6"]);
        let mut refused = Vec::new();
        let taken = HashSet::from(["fd00:96::5".parse().unwrap()]);
        assign_addresses(&ranges, &mut other, &taken, &mut refused);
        assert!(refused.iter().any(|cause| cause.message.ends_with("provided IP is already allocated")));
        // A service that gets its second one keeps the first.
        let mut more = service("ClusterIP", "10.96.0.3", 0);
        more["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
        assign_addresses(&ranges, &mut more, &HashSet::new(), &mut causes);
        assert_eq!(more["spec"]["clusterIPs"][0], "10.96.0.3");
        assert!(ranges[1].contains(more["spec"]["clusterIPs"][1].as_str().unwrap()), "{more}");
        let addresses = ServiceAddresses::new("10.96.0.0/16, fd00:96::/112").unwrap();
        assert_eq!(addresses.cidrs(), ["10.96.0.0/16", "fd00:96::/112"]);
        assert_eq!(addresses.kubernetes().to_string(), "10.96.0.1");
        for refused in ["fd00::/112", "10.96.0.0/16,10.97.0.0/16", "10.96.0.0/16,fd00::/32", ""] {
            assert!(ServiceAddresses::new(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn every_address_can_be_handed_out_and_none_twice() {
        let range = Range::new("10.96.0.0/28").unwrap();
        let mut taken = HashSet::new();
        while let Some(address) = range.pick(&taken) {
            assert!(range.contains(&address) && taken.insert(address.parse().unwrap()));
        }
        assert_eq!(taken.len(), 14);
        assert!(Range::new("10.96.0.0").is_err() && Range::new("10.96.0.0/31").is_err());
        let more = [range, Range::new("10.97.0.0/30").unwrap()];
        let mut service = service("ClusterIP", "", 0);
        assign_addresses(&more, &mut service, &taken, &mut Vec::new());
        assert!(more[1].contains(service["spec"]["clusterIP"].as_str().unwrap()), "the next range");
    }
}
