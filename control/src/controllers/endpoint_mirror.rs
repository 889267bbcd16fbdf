//! EndpointSlice mirroring: Endpoints that somebody writes by hand for a service without a selector become slices, for
//! those who read only slices (kube-proxy and its like).

use super::endpoint_slice::{self, MANAGED_BY, SERVICE_NAME, Wanted};
use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Label of Endpoints whose owner writes slices too.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Annotation of Endpoints that are the chair of an election.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of one subset that are mirrored.
const MOST_ADDRESSES: usize = 1000;

/// Woken by Endpoints, their services, and its slices.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("endpointslicemirroring", plane);
    let endpoints = wire.keys::<Endpoints>();
    wire.woken_by::<Service>(|old, new, queue| {
        new.or(old).into_iter().for_each(|service| queue.add(Key::of(&**service)));
    });
    wire.woken_by::<EndpointSlice>(|old, new, queue| {
        let slice = new.or(old).filter(|slice| label(slice, MANAGED_BY) == Some(MANAGER));
        if let Some((slice, service)) = slice.and_then(|slice| Some((slice, label(slice, SERVICE_NAME)?))) {
            queue.add(Key::new(&slice.namespace().unwrap_or_default(), service));
        }
    });
    let controller =
        Mirror { client: wire.client(), endpoints, services: wire.reads(), slices: wire.reads() };
    wire.run(1, controller)
}

struct Mirror {
    client: Client,
    endpoints: Lister<Endpoints>,
    services: Lister<Service>,
    slices: Lister<EndpointSlice>,
}

impl Reconcile for Mirror {
    /// Makes the slices of one Endpoints object what it says.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let source = self.endpoints.get(&key).filter(|found| is_mirrored(found));
        let bare = |service: &Service| endpoint_slice::selector(service).is_none();
        let source = source.filter(|_| self.services.get(&key).is_some_and(|service| bare(&service)));
        let mut missing = source.as_ref().map(|source| slices(source)).unwrap_or_default();
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut wrong = Vec::new();
        for slice in self.slices.in_namespace(&key.namespace) {
            let ours =
                label(&slice, MANAGED_BY) == Some(MANAGER) && label(&slice, SERVICE_NAME) == Some(&key.name);
            if !ours {
                continue;
            }
            match missing.iter().position(|wanted| is_right(&slice, wanted)) {
                Some(at) => drop(missing.remove(at)),
                None => wrong.push(slice.name_any()),
            }
        }
        // The service is never without those endpoints that stay.
        for slice in missing {
            api.create(&PostParams::default(), &slice).await?;
        }
        for name in wrong {
            ignore_not_found(api.delete(&name, &DeleteParams::default()).await)?;
        }
        Ok(Next::Wait)
    }
}

fn label<'a>(slice: &'a EndpointSlice, name: &str) -> Option<&'a str> {
    slice.labels().get(name).map(String::as_str)
}

fn is_mirrored(endpoints: &Endpoints) -> bool {
    endpoints.metadata.deletion_timestamp.is_none()
        && endpoints.labels().get(SKIP).is_none_or(|skip| skip != "true")
        && !endpoints.annotations().contains_key(LEADER)
}

fn is_right(slice: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let labels = |slice: &EndpointSlice| slice.metadata.labels.clone();
    slice.address_type == wanted.address_type
        && slice.endpoints == wanted.endpoints
        && slice.ports == wanted.ports
        && labels(slice) == labels(wanted)
}

/// The slices of an Endpoints object: one for each subset and family.
fn slices(source: &Endpoints) -> Vec<EndpointSlice> {
    let mut all = Vec::new();
    for subset in source.subsets.iter().flatten() {
        for family in ["IPv4", "IPv6"] {
            let wanted = of_family(subset, family);
            if !wanted.endpoints.is_empty() {
                all.push(endpoint_slice::slice_of(source, MANAGER, wanted, family));
            }
        }
    }
    all
}

fn of_family(subset: &EndpointSubset, family: &str) -> Wanted {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let waiting = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    let endpoints = ready.chain(waiting).take(MOST_ADDRESSES);
    let endpoints = endpoints.filter(|(address, _)| address.ip.contains(':') == (family == "IPv6"));
    let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
        app_protocol: port.app_protocol.clone(),
    });
    Wanted {
        ports: ports.collect(),
        endpoints: endpoints.map(|(address, ready)| endpoint(address, ready)).collect(),
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn endpoints(labels: serde_json::Value) -> Endpoints {
        serde_json::from_value(json!({
            "metadata": {"name": "db", "namespace": "default", "uid": "u", "labels": labels},
            "subsets": [{
                "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "notReadyAddresses": [{"ip": "10.0.0.2"}],
                "ports": [{"port": 5432}],
            }],
        }))
        .unwrap()
    }

    #[test]
    fn each_family_of_a_subset_has_a_slice() {
        let all = slices(&endpoints(json!({"app": "db"})));
        let shown: Vec<_> =
            all.iter().map(|slice| (slice.address_type.as_str(), slice.endpoints.len())).collect();
        assert_eq!(shown, [("IPv4", 2), ("IPv6", 1)]);
        let ready: Vec<_> =
            all[0].endpoints.iter().map(|one| one.conditions.as_ref().unwrap().ready.unwrap()).collect();
        assert_eq!(ready, [true, false]);
        assert_eq!(label(&all[0], SERVICE_NAME), Some("db"));
        assert_eq!(label(&all[0], "app"), Some("db"));
        assert!(is_right(&all[0], &all[0]) && !is_right(&all[0], &all[1]));
    }

    #[test]
    fn some_endpoints_are_not_for_mirroring() {
        assert!(is_mirrored(&endpoints(json!({}))));
        assert!(!is_mirrored(&endpoints(json!({SKIP: "true"}))));
    }
}
