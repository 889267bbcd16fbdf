//! ServiceCIDR objects say that they are in use, and stay while addresses of theirs are.

use super::informer::{Key, Lister};
use super::ip_address::{MANAGED_BY, MANAGER};
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use super::work_queue::WorkQueue;
use crate::server::AddressRange;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use std::sync::Arc;

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// Woken by ranges, and by addresses, which may be the last ones of a range that is to go, as a wider range may take over
/// what it has.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("servicecidr", plane);
    let ranges = wire.keys::<ServiceCIDR>();
    let addresses = wire.reads::<IPAddress>();
    let all = ranges.clone();
    wire.woken_by::<IPAddress>(move |_, _, queue| wake_going(queue, &all));
    let all = ranges.clone();
    wire.woken_by::<ServiceCIDR>(move |_, _, queue| wake_going(queue, &all));
    let controller = Ranges { client: wire.client(), ranges, addresses };
    wire.run(1, controller)
}

fn wake_going(queue: &WorkQueue<Key>, all: &Lister<ServiceCIDR>) {
    let going = |range: &&Arc<ServiceCIDR>| range.metadata.deletion_timestamp.is_some();
    all.all().iter().filter(going).for_each(|range| queue.add(Key::of(&**range)));
}

struct Ranges {
    client: Client,
    ranges: Lister<ServiceCIDR>,
    addresses: Lister<IPAddress>,
}

impl Reconcile for Ranges {
    /// Holds a range that is used, says whether it is ready, lets go of one that nobody uses any more.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(range) = self.ranges.get(&key) else { return Ok(Next::Wait) };
        let going = range.metadata.deletion_timestamp.is_some();
        if going && !is_needed(&range, &self.ranges.all(), &self.addresses.all()) {
            self.hold(&range, false).await?;
            return Ok(Next::Wait);
        }
        if !going {
            self.hold(&range, true).await?;
        }
        self.tell(&range, &condition(!going)).await?;
        Ok(Next::Wait)
    }
}

impl Ranges {
    /// Adds or removes our finalizer.
    async fn hold(&self, range: &ServiceCIDR, held: bool) -> Result<(), kube::Error> {
        if range.finalizers().iter().any(|name| name == FINALIZER) == held {
            return Ok(());
        }
        let mut names: Vec<&str> = range.finalizers().iter().map(String::as_str).collect();
        names.retain(|name| *name != FINALIZER);
        names.extend(held.then_some(FINALIZER));
        let version = &range.metadata.resource_version;
        let patch = json!({"metadata": {"finalizers": names, "resourceVersion": version}});
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let patched = api.patch(&range.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await;
        ignore_not_found(patched)
    }

    async fn tell(&self, range: &ServiceCIDR, wanted: &Value) -> Result<(), kube::Error> {
        let conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let mut known = conditions.filter(|known| known.type_ == "Ready");
        if known.any(|known| wanted["status"] == *known.status) {
            return Ok(());
        }
        let api: Api<ServiceCIDR> = Api::all(self.client.clone());
        let patch = Patch::Merge(json!({"status": {"conditions": [wanted]}}));
        ignore_not_found(api.patch_status(&range.name_any(), &PatchParams::default(), &patch).await)
    }
}

fn condition(ready: bool) -> Value {
    let (status, reason, message) = if ready {
        ("True", "", "Kubernetes Service CIDR is ready")
    } else {
        let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
        ("False", "Terminating", why)
    };
    json!({"type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": format!("{:.0}", Timestamp::now())})
}

/// Whether an address lies in this range and in no other that stays.
fn is_needed(range: &ServiceCIDR, all: &[Arc<ServiceCIDR>], addresses: &[Arc<IPAddress>]) -> bool {
    let own = parts(range);
    let others: Vec<AddressRange> = all
        .iter()
        .filter(|other| other.metadata.deletion_timestamp.is_none() && other.name_any() != range.name_any())
        .flat_map(|other| parts(other))
        .collect();
    let lies_in = |ranges: &[AddressRange], name: &str| ranges.iter().any(|range| range.contains(name));
    let of_services =
        |address: &&Arc<IPAddress>| address.labels().get(MANAGED_BY).is_some_and(|by| by == MANAGER);
    addresses
        .iter()
        .filter(of_services)
        .map(|address| address.name_any())
        .any(|name| lies_in(&own, &name) && !lies_in(&others, &name))
}

/// Those that can be handed out.
fn parts(range: &ServiceCIDR) -> Vec<AddressRange> {
    let cidrs = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| AddressRange::new(cidr).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_stays_while_an_address_of_it_alone_is_used() {
        let range = |name: &str, cidr: &str| -> Arc<ServiceCIDR> {
            let object = json!({"metadata": {"name": name}, "spec": {"cidrs": [cidr]}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let address = |name: &str, by: &str| -> Arc<IPAddress> {
            let parent = json!({"resource": "services", "namespace": "d", "name": "s"});
            let labels = json!({MANAGED_BY: by});
            let object = json!({"metadata": {"name": name, "labels": labels}, "spec": {"parentRef": parent}});
            Arc::new(serde_json::from_value(object).unwrap())
        };
        let ranges = [range("a", "10.96.0.0/16"), range("b", "10.97.0.0/16"), range("c", "10.96.1.0/24")];
        let used = [address("10.96.1.7", MANAGER)];
        assert!(!is_needed(&ranges[1], &ranges, &used), "nothing of it is used");
        assert!(!is_needed(&ranges[2], &ranges, &used), "the wider range has it, too");
        assert!(is_needed(&ranges[0], &ranges[..2], &used));
        let of_another = [address("10.96.1.7", "gateway")];
        assert!(!is_needed(&ranges[0], &ranges[..2], &of_another), "it is not handed out by us");
    }
}
