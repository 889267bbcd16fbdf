//! EndpointSlice: for each service with a selector, the addresses of the pods behind it, at most 100 to a slice, in each
//! family that the service has.
//!
//! Endpoints say in which zone they are. Where the service's traffic is to stay close, they are meant for their own zone,
//! or even for their own node.
//!
//! The same facts are written as an `Endpoints` object by [`super::endpoints`], for clients that still read those.

mod packing;

use super::informer::{Key, Lister};
use super::ownership;
use super::pods;
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, WORKERS, Wire};
use k8s_openapi::api::core::v1::{Container, Node, ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
/// Whose slices these are.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The service of a slice.
pub(crate) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// On slices of services without an address of their own.
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Woken by its services, the pods they select, its slices, and nodes that change their zone.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("endpointslice", plane);
    let services = selected(&mut wire);
    wire.woken_by::<EndpointSlice>(|old, new, queue| {
        if let Some(slice) = new.or(old)
            && let Some(service) = slice.labels().get(SERVICE_NAME)
        {
            queue.add(Key::new(&slice.namespace().unwrap_or_default(), service));
        }
    });
    let all = services.clone();
    wire.woken_by::<Node>(move |old, new, queue| {
        if old.is_some_and(|old| new.is_some_and(|new| zone(old) != zone(new))) {
            all.all().iter().for_each(|service| queue.add(Key::of(&**service)));
        }
    });
    let (client, nodes) = (wire.client(), wire.reads());
    let controller = EndpointSlices { client, services, pods: wire.reads(), slices: wire.reads(), nodes };
    wire.run(WORKERS, controller)
}

/// Services as keys, woken also by pods that they select, before or after a change.
pub(super) fn selected(wire: &mut Wire<'_>) -> Lister<Service> {
    let services = wire.keys::<Service>();
    let all = services.clone();
    wire.woken_by::<Pod>(move |old, new, queue| {
        for pod in old.into_iter().chain(new) {
            let matches = |wanted: &BTreeMap<String, String>| {
                wanted.iter().all(|(key, value)| pod.labels().get(key) == Some(value))
            };
            for service in all.in_namespace(&pod.namespace().unwrap_or_default()) {
                if selector(&service).is_some_and(matches) {
                    queue.add(Key::of(&*service));
                }
            }
        }
    });
    services
}

/// Everything one reconcile needs.
pub(crate) struct EndpointSlices {
    pub(crate) client: Client,
    pub(crate) services: Lister<Service>,
    pub(crate) pods: Lister<Pod>,
    pub(crate) slices: Lister<EndpointSlice>,
    pub(crate) nodes: Lister<Node>,
}

/// What is to be in a slice, or in several of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) ports: Vec<EndpointPort>,
    pub(crate) endpoints: Vec<Endpoint>,
}

impl Reconcile for EndpointSlices {
    /// Brings the slices of one service in line with its pods.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let existing: Vec<Arc<EndpointSlice>> = self
            .slices
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|slice| is_ours(slice, &key.name))
            .collect();
        let service = self.services.get(&key).filter(|service| service.metadata.deletion_timestamp.is_none());
        let Some(service) = service.filter(|service| selector(service).is_some()) else {
            for slice in existing {
                self.delete(&slice).await?;
            }
            return Ok(Next::Wait);
        };
        let (pods, wanted_families) = (self.pods.in_namespace(&key.namespace), families(&service));
        for family in FAMILIES {
            let of_family = existing.iter().filter(|slice| slice.address_type == family).cloned().collect();
            let mut wanted = match wanted_families.contains(&family) {
                true => at_least_one(wanted(&service, &pods, family)),
                false => Vec::new(),
            };
            place(&service, &mut wanted, |node| zone(&*self.nodes.get(&Key::new("", node))?).cloned());
            self.apply(&service, of_family, wanted, family).await?;
        }
        Ok(Next::Wait)
    }
}

impl EndpointSlices {
    /// Keeps slices that are right, rewrites others, creates and deletes the difference.
    async fn apply(
        &self,
        service: &Service,
        existing: Vec<Arc<EndpointSlice>>,
        wanted: Vec<Wanted>,
        family: &str,
    ) -> Result<(), kube::Error> {
        let labels = labels(service);
        let api: Api<EndpointSlice> =
            Api::namespaced(self.client.clone(), &service.namespace().unwrap_or_default());
        let (packed, useless) = packing::pack(existing, wanted);
        for (slice, wanted) in packed {
            match slice {
                Some(slice) if *slice.labels() == labels && is_right(&slice, &wanted) => {}
                Some(slice) => {
                    let labels = relabelled(slice.labels(), &labels);
                    let patch = json!({"metadata": {"labels": labels}, "ports": wanted.ports,
                        "endpoints": wanted.endpoints});
                    let parameters = PatchParams::default();
                    ignore_not_found(api.patch(&slice.name_any(), &parameters, &Patch::Merge(patch)).await)?;
                }
                None => {
                    let mut slice = slice_of(service, MANAGER, wanted, family);
                    slice.metadata.labels = Some(labels.clone());
                    api.create(&PostParams::default(), &slice).await?;
                }
            }
        }
        for slice in useless {
            self.delete(&slice).await?;
        }
        Ok(())
    }

    async fn delete(&self, slice: &EndpointSlice) -> Result<(), kube::Error> {
        let api: Api<EndpointSlice> =
            Api::namespaced(self.client.clone(), &slice.namespace().unwrap_or_default());
        ignore_not_found(api.delete(&slice.name_any(), &DeleteParams::default()).await)
    }
}

fn is_ours(slice: &EndpointSlice, service: &str) -> bool {
    let label = |name: &str| slice.labels().get(name).map(String::as_str);
    label(SERVICE_NAME) == Some(service) && label(MANAGED_BY) == Some(MANAGER)
}

/// The labels of a service's slices.
fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_NAME.into(), service.name_any());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let address = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()).unwrap_or_default();
    if matches!(address, "" | "None") {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels
}

/// What makes new labels of old ones, in a merge patch.
fn relabelled(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Value {
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    gone.chain(new.iter().map(|(key, value)| (key.clone(), value.clone().into()))).collect()
}

fn zone(node: &Node) -> Option<&String> {
    node.labels().get(ZONE).filter(|zone| !zone.is_empty())
}

/// Says in which zone endpoints are, and that they are for those who are there too where traffic is to stay close.
fn place(service: &Service, wanted: &mut [Wanted], zone_of: impl Fn(&str) -> Option<String>) {
    let distribution = service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref());
    for endpoint in wanted.iter_mut().flat_map(|wanted| &mut wanted.endpoints) {
        endpoint.zone = endpoint.node_name.as_deref().and_then(&zone_of);
        let is_ready = endpoint.conditions.as_ref().is_some_and(|conditions| conditions.ready == Some(true));
        endpoint.hints =
            distribution.filter(|_| is_ready).and_then(|distribution| hints(endpoint, distribution));
    }
}

/// For whom an endpoint is meant. Where its node has no other, its zone is still better than any.
fn hints(endpoint: &Endpoint, distribution: &str) -> Option<EndpointHints> {
    let (in_zone, on_node) = match distribution {
        "PreferClose" | "PreferSameZone" => (true, false),
        "PreferSameNode" => (true, true),
        _ => (false, false),
    };
    let zone = endpoint.zone.clone().filter(|_| in_zone);
    let node = endpoint.node_name.clone().filter(|_| on_node);
    (zone.is_some() || node.is_some()).then(|| EndpointHints {
        for_zones: zone.map(|name| vec![ForZone { name }]),
        for_nodes: node.map(|name| vec![ForNode { name }]),
    })
}

fn is_right(slice: &EndpointSlice, wanted: &Wanted) -> bool {
    slice.endpoints == wanted.endpoints && slice.ports.clone().unwrap_or_default() == wanted.ports
}

/// The families of a service's addresses, the first one first.
pub(super) fn families(service: &Service) -> Vec<&'static str> {
    let named = service.spec.iter().flat_map(|spec| spec.ip_families.iter().flatten());
    let found: Vec<&str> =
        named.filter_map(|name| FAMILIES.into_iter().find(|family| family == name)).collect();
    if found.is_empty() { vec![FAMILIES[0]] } else { found }
}

/// The service's selector; one without any is managed by somebody else.
pub(crate) fn selector(service: &Service) -> Option<&BTreeMap<String, String>> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    spec.selector.as_ref().filter(|selector| !selector.is_empty())
}

/// A new slice of addresses of one family, for what `owner` says of the service that has its name.
pub(super) fn slice_of<K: Resource<DynamicType = ()>>(
    owner: &K,
    manager: &str,
    wanted: Wanted,
    family: &str,
) -> EndpointSlice {
    let mut labels: BTreeMap<String, String> = owner.labels().clone();
    labels.insert(SERVICE_NAME.into(), owner.name_any());
    labels.insert(MANAGED_BY.into(), manager.into());
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name_any())),
            namespace: owner.namespace(),
            labels: Some(labels),
            owner_references: Some(vec![ownership::controlled_by(owner)]),
            ..ObjectMeta::default()
        },
        address_type: family.into(),
        ports: Some(wanted.ports),
        endpoints: wanted.endpoints,
    }
}

/// The endpoints of one service in one family: pods whose named ports have the same numbers belong together.
pub(crate) fn wanted(service: &Service, pods: &[Arc<Pod>], family: &str) -> Vec<Wanted> {
    let Some(selector) = selector(service) else { return Vec::new() };
    let mut by_ports: Vec<Wanted> = Vec::new();
    for pod in pods {
        let labels = pod.labels();
        if !selector.iter().all(|(key, value)| labels.get(key) == Some(value)) {
            continue;
        }
        let Some(endpoint) = endpoint(service, pod, family) else { continue };
        let ports = ports(service, pod);
        match by_ports.iter_mut().find(|wanted| wanted.ports == ports) {
            Some(wanted) => wanted.endpoints.push(endpoint),
            None => by_ports.push(Wanted { ports, endpoints: vec![endpoint] }),
        }
    }
    by_ports
}

/// A service that no pod stands behind has one slice that says so.
fn at_least_one(wanted: Vec<Wanted>) -> Vec<Wanted> {
    if wanted.is_empty() { vec![Wanted { ports: Vec::new(), endpoints: Vec::new() }] } else { wanted }
}

/// A pod with an address that is not finished; ready, serving and terminating say what it is good for.
fn endpoint(service: &Service, pod: &Pod, family: &str) -> Option<Endpoint> {
    let status = pod.status.as_ref()?;
    let mut all = status.pod_ips.iter().flatten().map(|one| &one.ip).chain(&status.pod_ip);
    let ip = all.find(|ip| !ip.is_empty() && ip.contains(':') == (family == "IPv6"))?.clone();
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let serving = pods::ready_since(pod).is_some();
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let anyway = service.spec.as_ref().and_then(|spec| spec.publish_not_ready_addresses).unwrap_or(false);
    let spec = pod.spec.as_ref()?;
    let in_subdomain =
        spec.subdomain.as_deref() == service.metadata.name.as_deref() && spec.subdomain.is_some();
    Some(Endpoint {
        addresses: vec![ip],
        conditions: Some(EndpointConditions {
            ready: Some(anyway || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: spec.hostname.clone().filter(|_| in_subdomain),
        node_name: pods::node_of(pod).map(str::to_owned),
        target_ref: Some(reference(pod)),
        ..Endpoint::default()
    })
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.namespace(),
        name: pod.metadata.name.clone(),
        uid: pod.uid(),
        ..ObjectReference::default()
    }
}

/// The service's ports as this pod has them; a named port that the pod lacks is left out.
fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target(port, pod)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) => named(name, port.protocol.as_deref().unwrap_or("TCP"), pod),
    }
}

fn named(name: &str, protocol: &str, pod: &Pod) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    let restartable = |container: &&Container| container.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(restartable);
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let matches = |port: &&k8s_openapi::api::core::v1::ContainerPort| {
        port.name.as_deref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol
    };
    ports.into_iter().find(matches).map(|port| port.container_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(port: serde_json::Value) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"selector": {"app": "web"}, "ports": [port]},
        }))
        .unwrap()
    }

    fn pod(name: &str, label: &str, ready: &str, phase: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": "default", "labels": {"app": label}},
                "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
                "status": {"phase": phase, "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap(),
        )
    }

    #[test]
    fn ready_and_unready_pods_are_listed_and_finished_ones_not() {
        let pods = [
            pod("a", "web", "True", "Running"),
            pod("b", "web", "False", "Running"),
            pod("c", "web", "False", "Succeeded"),
            pod("d", "other", "True", "Running"),
        ];
        let slices = wanted(&service(json!({"port": 80, "targetPort": "http"})), &pods, "IPv4");
        assert_eq!(slices.len(), 1);
        assert_eq!(slices[0].ports[0].port, Some(8080));
        let ready: Vec<_> = slices[0]
            .endpoints
            .iter()
            .map(|endpoint| endpoint.conditions.as_ref().unwrap().ready.unwrap())
            .collect();
        assert_eq!(ready, [true, false]);
    }

    #[test]
    fn a_service_without_pods_has_a_slice_that_says_so() {
        let slices = at_least_one(wanted(&service(json!({"port": 80})), &[], "IPv4"));
        assert_eq!(slices, [Wanted { ports: Vec::new(), endpoints: Vec::new() }]);
        let pods = [pod("a", "web", "True", "Running")];
        assert_eq!(at_least_one(wanted(&service(json!({"port": 80})), &pods, "IPv4")).len(), 1);
    }

    #[test]
    fn a_named_port_that_the_pod_lacks_is_left_out() {
        let slices = wanted(
            &service(json!({"port": 80, "targetPort": "https"})),
            &[pod("a", "web", "True", "Running")],
            "IPv4",
        );
        assert!(slices[0].ports.is_empty());
    }

    #[test]
    fn each_family_has_the_addresses_that_pods_have_in_it() {
        let mut both = Pod::clone(&pod("a", "web", "True", "Running"));
        let address = |ip: &str| k8s_openapi::api::core::v1::PodIP { ip: ip.into() };
        both.status.as_mut().unwrap().pod_ips = Some(vec![address("10.0.0.1"), address("fd00::1")]);
        let pods = [Arc::new(both), pod("b", "web", "True", "Running")];
        let mut service = service(json!({"port": 80}));
        assert_eq!(families(&service), ["IPv4"]);
        service.spec.as_mut().unwrap().ip_families = Some(vec!["IPv6".into(), "IPv4".into()]);
        assert_eq!(families(&service), ["IPv6", "IPv4"]);
        let addresses = |family: &str| -> Vec<String> {
            let slices = wanted(&service, &pods, family);
            slices.into_iter().flat_map(|slice| slice.endpoints).flat_map(|one| one.addresses).collect()
        };
        assert_eq!(addresses("IPv4"), ["10.0.0.1", "10.0.0.1"]);
        assert_eq!(addresses("IPv6"), ["fd00::1"]);
    }

    #[test]
    fn endpoints_are_in_zones_and_for_those_that_are_there() {
        let mut service = service(json!({"port": 80}));
        let pods = [pod("a", "web", "True", "Running"), pod("b", "web", "False", "Running")];
        let zones = |service: &Service, zone: Option<&str>| -> Vec<(Option<String>, Option<String>)> {
            let mut wanted = wanted(service, &pods, "IPv4");
            place(service, &mut wanted, |node| zone.filter(|_| node == "n").map(str::to_owned));
            let hint = |one: &Endpoint| Some(one.hints.as_ref()?.for_zones.as_ref()?.first()?.name.clone());
            wanted[0].endpoints.iter().map(|one| (one.zone.clone(), hint(one))).collect()
        };
        let east = || Some("east".to_owned());
        assert_eq!(zones(&service, Some("east")), [(east(), None), (east(), None)]);
        service.spec.as_mut().unwrap().traffic_distribution = Some("PreferClose".into());
        assert_eq!(zones(&service, Some("east")), [(east(), east()), (east(), None)]);
        assert_eq!(zones(&service, None), [(None, None), (None, None)]);
    }

    #[test]
    fn endpoints_may_be_meant_for_their_own_node_before_all_others() {
        let mut service = service(json!({"port": 80}));
        let pods = [pod("a", "web", "True", "Running"), pod("b", "web", "False", "Running")];
        for (distribution, zone, expected) in [
            (
                "PreferSameNode",
                Some("east"),
                json!({"forZones": [{"name": "east"}], "forNodes": [{"name": "n"}]}),
            ),
            ("PreferSameNode", None, json!({"forNodes": [{"name": "n"}]})),
            ("PreferSameZone", Some("east"), json!({"forZones": [{"name": "east"}]})),
            ("Elsewhere", Some("east"), Value::Null),
        ] {
            service.spec.as_mut().unwrap().traffic_distribution = Some(distribution.into());
            let mut wanted = wanted(&service, &pods, "IPv4");
            place(&service, &mut wanted, |_| zone.map(str::to_owned));
            let hints: Vec<Value> = wanted[0].endpoints.iter().map(|one| json!(one.hints)).collect();
            assert_eq!(hints, [expected, Value::Null], "{distribution} in {zone:?}");
        }
    }

    #[test]
    fn slices_have_the_labels_of_their_service() {
        let mut service = service(json!({"port": 80}));
        service.metadata.labels = Some([("tier".to_owned(), "front".to_owned())].into());
        assert_eq!(labels(&service).get(HEADLESS).map(String::as_str), Some(""));
        let headless = labels(&service);
        service.spec.as_mut().unwrap().cluster_ip = Some("10.0.0.1".into());
        service.metadata.labels = None;
        let change = relabelled(&headless, &labels(&service));
        let expected = json!({"tier": null, HEADLESS: null, SERVICE_NAME: "web", MANAGED_BY: MANAGER});
        assert_eq!(change, expected);
    }
}
