//! Endpoints: the older form of a service's addresses, written from the same facts as its slices.

use super::endpoint_slice::{self, Wanted};
use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints as Object, Pod, Service,
};
use k8s_openapi::api::discovery::v1::Endpoint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// Woken by its services and the pods they select.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("endpoint", plane);
    let services = endpoint_slice::selected(&mut wire);
    let controller =
        Endpoints { client: wire.client(), services, pods: wire.reads(), endpoints: wire.reads() };
    wire.run(1, controller)
}

/// Everything one reconcile needs.
pub(crate) struct Endpoints {
    pub(crate) client: Client,
    pub(crate) services: Lister<Service>,
    pub(crate) pods: Lister<Pod>,
    pub(crate) endpoints: Lister<Object>,
}

impl Reconcile for Endpoints {
    /// Brings the Endpoints of one service in line with its pods.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let api: Api<Object> = Api::namespaced(self.client.clone(), &key.namespace);
        let existing = self.endpoints.get(&key);
        let Some(service) = self.services.get(&key) else {
            if existing.is_some() {
                ignore_not_found(api.delete(&key.name, &DeleteParams::default()).await)?;
            }
            return Ok(Next::Wait);
        };
        if endpoint_slice::selector(&service).is_none() {
            return Ok(Next::Wait);
        }
        // One family only: whoever reads these knows no other.
        let family = endpoint_slice::families(&service).first().copied().unwrap_or("IPv4");
        let pods = self.pods.in_namespace(&key.namespace);
        let subsets = subsets(&endpoint_slice::wanted(&service, &pods, family));
        match existing {
            Some(existing) if existing.subsets.clone().unwrap_or_default() == subsets => {}
            Some(_) => {
                let patch = Patch::Merge(json!({"subsets": subsets}));
                ignore_not_found(api.patch(&key.name, &PatchParams::default(), &patch).await)?;
            }
            None => drop(api.create(&PostParams::default(), &object(&service, subsets)).await?),
        }
        Ok(Next::Wait)
    }
}

fn object(service: &Service, subsets: Vec<EndpointSubset>) -> Object {
    Object {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.namespace(),
            labels: service.metadata.labels.clone(),
            ..ObjectMeta::default()
        },
        subsets: Some(subsets),
    }
}

/// A subset without any address (all its pods are ending) is none.
fn subsets(wanted: &[Wanted]) -> Vec<EndpointSubset> {
    let some = |subset: &EndpointSubset| subset.addresses.is_some() || subset.not_ready_addresses.is_some();
    wanted.iter().map(subset).filter(some).collect()
}

fn subset(wanted: &Wanted) -> EndpointSubset {
    let is_ready = |endpoint: &&Endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true);
    let is_terminating =
        |endpoint: &Endpoint| endpoint.conditions.as_ref().and_then(|c| c.terminating).unwrap_or(false);
    let (ready, not_ready): (Vec<&Endpoint>, Vec<&Endpoint>) =
        wanted.endpoints.iter().filter(|endpoint| !is_terminating(endpoint)).partition(is_ready);
    let addresses = |endpoints: Vec<&Endpoint>| {
        Some(endpoints.into_iter().flat_map(address).collect::<Vec<_>>())
            .filter(|addresses| !addresses.is_empty())
    };
    let ports = wanted.ports.iter().map(|port| EndpointPort {
        name: port.name.clone().filter(|name| !name.is_empty()),
        port: port.port.unwrap_or(0),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    });
    EndpointSubset {
        addresses: addresses(ready),
        not_ready_addresses: addresses(not_ready),
        ports: Some(ports.collect()),
    }
}

fn address(endpoint: &Endpoint) -> Option<EndpointAddress> {
    Some(EndpointAddress {
        ip: endpoint.addresses.first()?.clone(),
        hostname: endpoint.hostname.clone(),
        node_name: endpoint.node_name.clone(),
        target_ref: endpoint.target_ref.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::discovery::v1::EndpointConditions;

    #[test]
    fn pods_that_are_ending_are_no_addresses_and_a_subset_without_any_is_none() {
        let endpoint = |ip: &str, ready: bool, terminating: bool| Endpoint {
            addresses: vec![ip.to_owned()],
            conditions: Some(EndpointConditions {
                ready: Some(ready),
                terminating: Some(terminating),
                serving: Some(ready),
            }),
            ..Endpoint::default()
        };
        let wanted = |endpoints| [Wanted { ports: Vec::new(), endpoints }];
        let shape = |all: Vec<EndpointSubset>| {
            let count =
                |addresses: Option<Vec<EndpointAddress>>| addresses.map_or(0, |addresses| addresses.len());
            all.into_iter()
                .map(|one| (count(one.addresses), count(one.not_ready_addresses)))
                .collect::<Vec<_>>()
        };
        let all = vec![
            endpoint("10.0.0.1", true, false),
            endpoint("10.0.0.2", false, false),
            endpoint("10.0.0.3", false, true),
        ];
        assert_eq!(shape(subsets(&wanted(all))), [(1, 1)]);
        assert_eq!(shape(subsets(&wanted(vec![endpoint("10.0.0.3", false, true)]))), []);
        assert_eq!(shape(subsets(&wanted(Vec::new()))), []);
    }
}
