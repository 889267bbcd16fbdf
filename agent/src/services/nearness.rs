//! Which endpoints are near enough: the hints of slices, which say for whom an endpoint is meant (`forNodes`, `forZones`).
//!
//! Hints count only where they lead somewhere and nobody is left out: every ready endpoint of the port must have one, and
//! at least one must be meant for this node, or for its zone. Else any endpoint will do.

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::Endpoint;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Where this node is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// The name under which its endpoints are listed.
    pub(crate) node: String,
    /// Absent until it is known, and where the cluster has no zones.
    pub(crate) zone: Option<String>,
}

/// How near its endpoints are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nearness {
    Anywhere,
    SameZone,
    SameNode,
}

impl Place {
    pub(crate) fn of(name: &str, node: Option<&Node>) -> Self {
        let zone = node.and_then(|node| node.metadata.labels.as_ref()?.get(ZONE).cloned());
        Self { node: name.to_owned(), zone: zone.filter(|zone| !zone.is_empty()) }
    }

    /// What the hints of a port's ready endpoints come to.
    pub(crate) fn nearness(&self, ready: &[&Endpoint]) -> Nearness {
        let hinted = |hints: fn(&Endpoint) -> Vec<&str>, own: Option<&str>| {
            ready.iter().all(|endpoint| !hints(endpoint).is_empty())
                && own.is_some_and(|own| ready.iter().any(|endpoint| hints(endpoint).contains(&own)))
        };
        if hinted(nodes, Some(&self.node)) {
            Nearness::SameNode
        } else if hinted(zones, self.zone.as_deref()) {
            Nearness::SameZone
        } else {
            Nearness::Anywhere
        }
    }

    /// Whether the endpoint is that near.
    pub(crate) fn admits(&self, nearness: Nearness, endpoint: &Endpoint) -> bool {
        match nearness {
            Nearness::Anywhere => true,
            Nearness::SameZone => self.zone.as_deref().is_some_and(|zone| zones(endpoint).contains(&zone)),
            Nearness::SameNode => nodes(endpoint).contains(&self.node.as_str()),
        }
    }
}

fn zones(endpoint: &Endpoint) -> Vec<&str> {
    let hints = endpoint.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
    hints.map(|zone| zone.name.as_str()).collect()
}

fn nodes(endpoint: &Endpoint) -> Vec<&str> {
    let hints = endpoint.hints.iter().flat_map(|hints| hints.for_nodes.iter().flatten());
    hints.map(|node| node.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// An endpoint for zones and nodes.
    fn endpoint(zones: &[&str], nodes: &[&str]) -> Endpoint {
        let named = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        let hints = json!({"forZones": named(zones), "forNodes": named(nodes)});
        serde_json::from_value(json!({"addresses": ["10.0.0.1"], "hints": hints})).unwrap()
    }

    #[test]
    fn hints_count_where_everybody_has_one_and_one_is_meant_for_us() {
        let (here, there, nowhere) = (endpoint(&["a"], &["n"]), endpoint(&["b"], &["m"]), endpoint(&[], &[]));
        let (zone_here, zone_there) = (endpoint(&["a"], &[]), endpoint(&["b"], &[]));
        let both = endpoint(&["b", "a"], &[]);
        for (ready, zone, nearness, admitted) in [
            (vec![&here, &there], Some("a"), Nearness::SameNode, vec![true, false]),
            (vec![&here, &there], None, Nearness::SameNode, vec![true, false]),
            (vec![&there, &zone_here], Some("a"), Nearness::SameZone, vec![false, true]),
            (vec![&zone_here, &zone_there, &both], Some("a"), Nearness::SameZone, vec![true, false, true]),
            (vec![&there, &there], Some("a"), Nearness::Anywhere, vec![true, true]),
            (vec![&zone_here, &zone_there], None, Nearness::Anywhere, vec![true, true]),
            (vec![&here, &nowhere], Some("a"), Nearness::Anywhere, vec![true, true]),
            (vec![], Some("a"), Nearness::Anywhere, vec![]),
        ] {
            let place = Place { node: "n".into(), zone: zone.map(str::to_owned) };
            assert_eq!(place.nearness(&ready), nearness, "{ready:?} from {zone:?}");
            let found: Vec<bool> = ready.iter().map(|endpoint| place.admits(nearness, endpoint)).collect();
            assert_eq!(found, admitted, "{ready:?} from {zone:?}");
        }
    }

    #[test]
    fn the_zone_is_what_the_nodes_label_says() {
        let node = |labels| serde_json::from_value::<Node>(json!({"metadata": {"labels": labels}})).unwrap();
        let zone = |node: Option<&Node>| Place::of("n", node).zone;
        assert_eq!(zone(Some(&node(json!({ZONE: "a"})))).as_deref(), Some("a"));
        assert_eq!(zone(Some(&node(json!({ZONE: ""})))), None);
        assert_eq!(zone(None), None);
    }
}
