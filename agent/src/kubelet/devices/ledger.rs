//! Who has which device, and which there are: plain data and its rules.

use super::is_device;
use crate::kubelet::pod::{self, Kind};
use crate::kubelet::resources;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Ids of devices by resource.
type Ids = BTreeMap<String, Vec<String>>;

/// The books of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    /// By pod uid, then by container.
    given: BTreeMap<String, BTreeMap<String, Ids>>,
    /// By resource, then by id: whether it is healthy. What plugins said last; an agent that has just started keeps
    /// what it knew until they register again.
    offered: BTreeMap<String, BTreeMap<String, bool>>,
}

impl Ledger {
    /// A plugin offers exactly these devices.
    pub(super) fn offer(&mut self, resource: &str, devices: BTreeMap<String, bool>) {
        self.offered.insert(resource.to_owned(), devices);
    }

    /// How many devices there are of each resource, counting those whose health is `wanted`.
    pub(super) fn counts(&self, wanted: impl Fn(bool) -> bool) -> BTreeMap<String, usize> {
        let count =
            |devices: &BTreeMap<String, bool>| devices.values().filter(|healthy| wanted(**healthy)).count();
        self.offered.iter().map(|(resource, devices)| (resource.clone(), count(devices))).collect()
    }

    /// The ids of all healthy devices.
    pub(super) fn healthy(&self) -> BTreeMap<String, Vec<String>> {
        let healthy = |devices: &BTreeMap<String, bool>| {
            devices.iter().filter(|(_, healthy)| **healthy).map(|(id, _)| id.clone()).collect()
        };
        self.offered.iter().map(|(resource, devices)| (resource.clone(), healthy(devices))).collect()
    }

    /// The devices of one container.
    pub(super) fn of(&self, uid: &str, container: &str) -> Ids {
        self.given.get(uid).and_then(|containers| containers.get(container)).cloned().unwrap_or_default()
    }

    /// Forgets a pod; whether it had anything.
    pub(super) fn release(&mut self, uid: &str) -> bool {
        self.given.remove(uid).is_some()
    }

    /// Gives every container of the pod its devices, or none of them any; whether something changed.
    pub(super) fn reserve(&mut self, pod: &Pod) -> Result<bool, String> {
        let uid = pod::uid(pod);
        if self.given.contains_key(uid) {
            return Ok(false);
        }
        let mut given: BTreeMap<String, Ids> = BTreeMap::new();
        // Containers that have ended leave theirs to those that come after them.
        let mut reusable: Ids = Ids::new();
        for (kind, container) in pod::containers(pod) {
            for (resource, count) in wanted(container) {
                // What no plugin has ever offered is counted by who wrote it into the node's status, not here.
                if !self.offered.contains_key(&resource) {
                    continue;
                }
                let taken = self.choose(&resource, count, &given, &reusable)?;
                let left = reusable.entry(resource.clone()).or_default();
                left.retain(|id| !taken.contains(id));
                if kind == Kind::Init {
                    left.extend(taken.iter().cloned());
                }
                given.entry(container.name.clone()).or_default().insert(resource, taken);
            }
        }
        let changed = !given.is_empty();
        if changed {
            self.given.insert(uid.to_owned(), given);
        }
        Ok(changed)
    }

    fn choose(
        &self,
        resource: &str,
        count: usize,
        own: &BTreeMap<String, Ids>,
        reusable: &Ids,
    ) -> Result<Vec<String>, String> {
        let again: Vec<String> = reusable.get(resource).into_iter().flatten().take(count).cloned().collect();
        let in_use: BTreeSet<&String> = self
            .given
            .values()
            .chain([own])
            .flat_map(BTreeMap::values)
            .filter_map(|ids| ids.get(resource))
            .flatten()
            .collect();
        let offered = self.offered.get(resource).into_iter().flatten();
        let free = offered.filter(|(id, healthy)| **healthy && !in_use.contains(id)).map(|(id, _)| id);
        let chosen: Vec<String> = again.iter().chain(free).take(count).cloned().collect();
        if chosen.len() == count {
            return Ok(chosen);
        }
        Err(format!(
            "Allocate failed due to requested number of devices unavailable for {resource}. Requested: {count}, Available: {}, which is unexpected",
            chosen.len()
        ))
    }
}

/// How many devices of which resource a container asks for.
fn wanted(container: &Container) -> Vec<(String, usize)> {
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    let devices = limits.into_iter().flatten().filter(|(resource, _)| is_device(resource));
    let counted = devices.filter_map(|(resource, quantity)| {
        Some((resource.clone(), usize::try_from(resources::value(quantity)?).ok()?))
    });
    counted.filter(|(_, count)| *count > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn container(name: &str, count: u32) -> Value {
        json!({"name": name, "resources": {"limits": {"example.com/d": count.to_string(), "cpu": "1"}}})
    }

    fn pod(uid: &str, init: Vec<Value>, main: Vec<Value>) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": uid, "uid": uid},
            "spec": {"initContainers": init, "containers": main}}))
        .unwrap()
    }

    #[test]
    fn a_resource_that_no_plugin_offers_is_not_ours_to_give() {
        let asking = pod("p", vec![], vec![container("c", 2)]);
        assert_eq!(Ledger::default().reserve(&asking), Ok(false));
        assert!(books(1, 0).reserve(&asking).is_err());
    }

    fn books(healthy: usize, sick: usize) -> Ledger {
        let mut ledger = Ledger::default();
        let devices = (0..healthy + sick).map(|number| (format!("d{number}"), number < healthy));
        ledger.offer("example.com/d", devices.collect());
        ledger
    }

    #[test]
    fn nobody_has_what_another_has() {
        let mut ledger = books(3, 1);
        assert_eq!(ledger.counts(|_| true)["example.com/d"], 4);
        assert_eq!(ledger.counts(|healthy| healthy)["example.com/d"], 3);
        assert_eq!(ledger.healthy()["example.com/d"], ["d0", "d1", "d2"]);
        assert_eq!(ledger.reserve(&pod("a", vec![], vec![container("x", 1), container("y", 1)])), Ok(true));
        assert_eq!(ledger.of("a", "x")["example.com/d"], ["d0"]);
        assert_eq!(ledger.of("a", "y")["example.com/d"], ["d1"]);
        let error = ledger.reserve(&pod("b", vec![], vec![container("x", 2)])).unwrap_err();
        assert!(error.contains("Requested: 2, Available: 1, which is unexpected"), "{error}");
        assert_eq!(
            ledger.reserve(&pod("a", vec![], vec![container("x", 1)])),
            Ok(false),
            "it keeps what it has"
        );
        assert!(ledger.release("a") && !ledger.release("a"));
        assert_eq!(ledger.reserve(&pod("b", vec![], vec![container("x", 3)])), Ok(true));
    }

    #[test]
    fn init_containers_leave_theirs_to_the_rest() {
        let mut ledger = books(2, 0);
        let init = vec![container("i", 2), container("j", 1)];
        assert_eq!(ledger.reserve(&pod("a", init, vec![container("x", 2)])), Ok(true));
        assert_eq!(ledger.of("a", "i")["example.com/d"].len(), 2);
        assert_eq!(ledger.of("a", "x")["example.com/d"].len(), 2);
    }
}
