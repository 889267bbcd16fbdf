//! Every node gets its own range of pod addresses, cut from the cluster's; where the cluster has one of each family, one
//! of each, at the same place of both.
//!
//! Which range is whose is remembered here, from what the API tells and from what was given and is not told yet: a
//! thousand nodes that come at once are served without a look at all of them for each.

use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, is_not_found};
use super::wiring::{Plane, Task, Wire};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Woken by its nodes.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let (cluster_cidr, node_mask) = (plane.options.cluster_cidr.clone(), plane.options.node_cidr_mask);
    let mut wire = Wire::new("nodecidr", plane);
    let ranges = Arc::<Shared>::default();
    let told = ranges.clone();
    wire.woken_by::<Node>(move |old, new, _| {
        if let Some(node) = new.or(old) {
            told.lock().hear(&node.name_any(), new.and_then(|node| cidr_of(node)), new.is_some());
        }
    });
    let (cluster_cidr, second) = families(&cluster_cidr);
    let client = wire.client();
    let controller = NodeCidrs { client, nodes: wire.keys(), ranges, cluster_cidr, second, node_mask };
    wire.run(1, controller)
}

/// Who has which range.
#[derive(Default)]
struct Shared(Mutex<Ranges>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Ranges> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Ranges {
    by_node: HashMap<String, String>,
    taken: BTreeSet<String>,
    /// All ranges before this one are taken.
    first_free: u64,
    /// Nodes for which none was left, each told of once.
    without: BTreeSet<String>,
}

impl Ranges {
    /// What the API tells of a node. One that is given a range may be told of as without for a while.
    fn hear(&mut self, node: &str, cidr: Option<String>, exists: bool) {
        if !exists {
            self.forget(node);
        }
        if let Some(cidr) = cidr.filter(|cidr| self.by_node.get(node) != Some(cidr)) {
            self.forget(node);
            self.taken.insert(cidr.clone());
            self.by_node.insert(node.to_owned(), cidr);
        }
    }

    fn forget(&mut self, node: &str) {
        self.without.remove(node);
        if let Some(cidr) = self.by_node.remove(node) {
            self.taken.remove(&cidr);
            self.first_free = 0;
        }
    }

    /// The range of a node, the same however often it asks.
    fn give(&mut self, node: &str, cluster: &str, mask: u8) -> Option<String> {
        if let Some(given) = self.by_node.get(node) {
            return Some(given.clone());
        }
        let (index, free) = first_free(cluster, mask, &self.taken, self.first_free)?;
        self.first_free = index;
        self.hear(node, Some(free.clone()), true);
        Some(free)
    }
}

/// Everything one reconcile needs; one worker, so that ranges are given in the order of the nodes.
struct NodeCidrs {
    client: Client,
    nodes: Lister<Node>,
    ranges: Arc<Shared>,
    cluster_cidr: String,
    /// The cluster's addresses of version 6, if it has any.
    second: Option<String>,
    node_mask: u8,
}

impl Reconcile for NodeCidrs {
    /// Gives a node a range unless it has one.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        if self.nodes.get(&key).is_none_or(|node| cidr_of(&node).is_some()) {
            return Ok(Next::Wait);
        }
        let given = self.ranges.lock().give(&key.name, &self.cluster_cidr, self.node_mask);
        let Some(free) = given else {
            if self.ranges.lock().without.insert(key.name.clone()) {
                let (node, cidr) = (key.name, &self.cluster_cidr);
                tracing::error!(node, cidr, "no range is left for the pods of this node");
            }
            return Ok(Next::Wait);
        };
        let second = self.second.as_deref().and_then(|second| beside(&free, &self.cluster_cidr, second));
        let both: Vec<&String> = [&free].into_iter().chain(&second).collect();
        let patch = json!({"spec": {"podCIDR": free, "podCIDRs": both}});
        let api: Api<Node> = Api::all(self.client.clone());
        match api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(error) if is_not_found(&error) => self.ranges.lock().forget(&key.name),
            other => drop(other?),
        }
        Ok(Next::Wait)
    }
}

fn cidr_of(node: &Node) -> Option<String> {
    node.spec.as_ref()?.pod_cidr.clone().filter(|cidr| !cidr.is_empty())
}

/// The first range of `2^(32-mask)` addresses inside `cluster` that nobody has, and its place, from `from` on.
fn first_free(cluster: &str, mask: u8, taken: &BTreeSet<String>, from: u64) -> Option<(u64, String)> {
    let (address, length) = cluster.split_once('/')?;
    let (address, length): (Ipv4Addr, u8) = (address.parse().ok()?, length.parse().ok()?);
    if length > mask || mask > 30 {
        return None;
    }
    let base = u32::from(address) & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
    let size = 1_u64 << (32 - mask);
    (from..1_u64 << (mask - length)).find_map(|index| {
        let first = u32::try_from(u64::from(base) + index * size).ok()?;
        let cidr = format!("{}/{mask}", Ipv4Addr::from(first));
        (!taken.contains(&cidr)).then_some((index, cidr))
    })
}

/// The parts of `10.42.0.0/16,fd00:42::/48`, in either order.
fn families(clusters: &str) -> (String, Option<String>) {
    let (mut second, mut first): (Vec<&str>, Vec<&str>) =
        clusters.split(',').map(str::trim).partition(|part| part.contains(':'));
    (first.pop().unwrap_or_default().to_owned(), second.pop().map(str::to_owned))
}

/// The range of the family beside, at the place that `given` has in `cluster`: a /64, as Kubernetes cuts them, where that
/// leaves 256 of them, else 65,536 ranges of what there is. None where it has no such place.
fn beside(given: &str, cluster: &str, second: &str) -> Option<String> {
    let four = |text: &str| -> Option<(u32, u8)> {
        let (address, length) = text.split_once('/')?;
        Some((address.parse::<Ipv4Addr>().ok()?.into(), length.parse().ok()?))
    };
    let ((given, mask), (base, length)) = (four(given)?, four(cluster)?);
    let base = base & u32::MAX.checked_shl(32_u32.checked_sub(length.into())?).unwrap_or(0);
    let index = u128::from(given.checked_sub(base)? >> 32_u8.checked_sub(mask)?.min(31));
    let (address, length) = second.split_once('/')?;
    let (address, length): (Ipv6Addr, u8) = (address.parse().ok()?, length.parse().ok()?);
    let mask = if length <= 56 { 64 } else { (length + 16).min(112) };
    if length > mask || index >> (mask - length) != 0 {
        return None;
    }
    let base = u128::from(address) & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
    Some(format!("{}/{mask}", Ipv6Addr::from(base | index << (128 - mask))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_range_is_at_the_place_of_the_first() {
        let both = ("10.42.0.0/16".to_owned(), Some("fd00:42::/48".to_owned()));
        assert_eq!(families("10.42.0.0/16,fd00:42::/48"), both);
        assert_eq!(families("fd00:42::/48, 10.42.0.0/16"), both);
        assert_eq!(families("10.42.0.0/16").1, None);
        for (given, second, expected) in [
            ("10.42.0.0/24", "fd00:42::/48", Some("fd00:42::/64")),
            ("10.42.7.0/24", "fd00:42::/48", Some("fd00:42:0:7::/64")),
            ("10.42.255.0/24", "fd00:42::/56", Some("fd00:42:0:ff::/64")),
            ("10.42.3.0/24", "fd00:42::/64", Some("fd00:42:0:0:3::/80")),
            ("10.42.3.0/24", "fd00:42::/112", None),
            ("10.41.0.0/24", "fd00:42::/48", None),
            ("10.42.1.0/24", "nonsense", None),
        ] {
            assert_eq!(beside(given, "10.42.0.0/16", second).as_deref(), expected, "{given} {second}");
        }
    }

    #[test]
    fn a_node_is_given_one_range_only() {
        let mut ranges = Ranges::default();
        let give = |ranges: &mut Ranges, node: &str| ranges.give(node, "10.42.0.0/22", 24).unwrap();
        ranges.hear("served", Some("10.42.0.0/24".into()), true);
        assert_eq!(give(&mut ranges, "new"), "10.42.1.0/24");
        ranges.hear("new", None, true);
        assert_eq!(give(&mut ranges, "new"), "10.42.1.0/24", "given, and not told yet");
        assert_eq!(give(&mut ranges, "other"), "10.42.2.0/24");
        ranges.hear("served", None, false);
        assert_eq!(give(&mut ranges, "third"), "10.42.0.0/24");
        ranges.hear("fourth", Some("10.42.3.0/24".into()), true);
        assert_eq!(ranges.give("fifth", "10.42.0.0/22", 24), None);
        ranges.hear("other", Some("10.42.2.0/24".into()), true);
        assert_eq!(ranges.taken.len(), 4);
    }

    #[test]
    fn ranges_are_given_once_and_run_out() {
        let mut taken = BTreeSet::new();
        let first_free = |taken: &BTreeSet<String>| first_free("10.42.0.0/22", 24, taken, 0);
        for (place, expected) in
            ["10.42.0.0/24", "10.42.1.0/24", "10.42.2.0/24", "10.42.3.0/24"].iter().enumerate()
        {
            let (found, free) = first_free(&taken).unwrap();
            assert_eq!((found, &*free), (place as u64, *expected));
            taken.insert(free);
        }
        assert_eq!(first_free(&taken), None);
        taken.remove("10.42.1.0/24");
        assert_eq!(first_free(&taken), Some((1, "10.42.1.0/24".to_owned())));
        for nonsense in ["", "10.42.0.0", "10.42.0.0/25", "x/16"] {
            assert_eq!(super::first_free(nonsense, 24, &BTreeSet::new(), 0), None, "{nonsense}");
        }
    }
}
