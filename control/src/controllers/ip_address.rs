//! IPAddress objects: one for each address of a service, so that `kubectl get ipaddresses` says who has which.
//!
//! They follow the services, and nobody hands addresses out by them.

use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::IPAddress;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "ipallocator.k8s.io";

/// Woken by services, and by what becomes of their addresses.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("ipaddress", plane);
    let services = wire.keys::<Service>();
    let addresses = wire.reads::<IPAddress>();
    wire.woken_by::<IPAddress>(|old, new, queue| {
        if let Some(address) = new.or(old) {
            queue.add(parent(address));
        }
    });
    let controller = Addresses { client: wire.client(), services, addresses };
    wire.run(1, controller)
}

struct Addresses {
    client: Client,
    services: Lister<Service>,
    addresses: Lister<IPAddress>,
}

impl Reconcile for Addresses {
    /// Makes the objects of one service what its addresses are.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let wanted = self.services.get(&key).map(|service| of_service(&service)).unwrap_or_default();
        let (missing, wrong) = plan(&key, &wanted, &self.addresses.all());
        let api: Api<IPAddress> = Api::all(self.client.clone());
        for name in wrong {
            ignore_not_found(api.delete(&name, &DeleteParams::default()).await)?;
        }
        for address in missing {
            api.create(&PostParams::default(), &object(&key, &address)?).await?;
        }
        Ok(Next::Wait)
    }
}

fn of_service(service: &Service) -> BTreeSet<String> {
    let spec = service.spec.iter();
    let all = spec.flat_map(|spec| spec.cluster_ips.iter().flatten());
    all.filter(|address| !matches!(address.as_str(), "" | "None")).cloned().collect()
}

fn parent(address: &IPAddress) -> Key {
    let of = address.spec.as_ref().map(|spec| &spec.parent_ref);
    let of = of.filter(|of| of.resource == "services" && of.group.as_deref().unwrap_or_default().is_empty());
    let namespace = of.and_then(|of| of.namespace.as_deref()).unwrap_or_default();
    Key::new(namespace, of.map(|of| of.name.as_str()).unwrap_or_default())
}

/// What to make and what to delete. An address of a service that is gone may still stand for another one: making it
/// fails until that one is deleted.
fn plan(key: &Key, wanted: &BTreeSet<String>, all: &[Arc<IPAddress>]) -> (Vec<String>, Vec<String>) {
    let own = |address: &&Arc<IPAddress>| {
        parent(address) == *key
            && address.labels().get(MANAGED_BY).is_some_and(|by| by == MANAGER)
            && !key.name.is_empty()
    };
    let have: BTreeSet<String> = all.iter().filter(own).map(|address| address.name_any()).collect();
    (wanted.difference(&have).cloned().collect(), have.difference(wanted).cloned().collect())
}

fn object(key: &Key, address: &str) -> Result<IPAddress, kube::Error> {
    let family = if address.contains(':') { "IPv6" } else { "IPv4" };
    let object = json!({
        "metadata": {"name": address,
            "labels": {"ipaddress.kubernetes.io/ip-family": family, MANAGED_BY: MANAGER}},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": key.namespace, "name": key.name}},
    });
    serde_json::from_value(object).map_err(kube::Error::SerdeError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_their_service() {
        let (web, gone) = (Key::new("default", "web"), Key::new("default", "gone"));
        let all =
            [Arc::new(object(&web, "10.96.0.5").unwrap()), Arc::new(object(&gone, "10.96.0.6").unwrap())];
        let one = |address: &str| BTreeSet::from([address.to_owned()]);
        assert_eq!(plan(&web, &one("10.96.0.5"), &all), (vec![], vec![]));
        assert_eq!(plan(&web, &one("10.96.0.7"), &all), (vec!["10.96.0.7".into()], vec!["10.96.0.5".into()]));
        assert_eq!(plan(&gone, &BTreeSet::new(), &all), (vec![], vec!["10.96.0.6".into()]));
    }

    #[test]
    fn headless_services_have_no_address() {
        let service = |ips: &[&str]| -> Service {
            serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": {"clusterIPs": ips}})).unwrap()
        };
        assert!(of_service(&service(&["None"])).is_empty());
        assert_eq!(of_service(&service(&["10.96.0.1", "fd00::1"])).len(), 2);
    }
}
