//! ClusterRole aggregation: the rules of a role with selectors are those of all roles that they select.

use super::informer::{Key, Lister};
use super::ownership;
use super::runner::{Next, Reconcile, ignore_not_found};
use super::wiring::{Plane, Task, Wire};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::sync::Arc;

/// Woken by roles; a change of any may concern all that aggregate.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("clusterrole-aggregation", plane);
    let roles = wire.keys::<ClusterRole>();
    let all = roles.clone();
    wire.woken_by::<ClusterRole>(move |_, _, queue| {
        let aggregating = |role: &&Arc<ClusterRole>| role.aggregation_rule.is_some();
        all.all().iter().filter(aggregating).for_each(|role| queue.add(Key::of(&**role)));
    });
    let controller = Aggregation { client: wire.client(), roles };
    wire.run(1, controller)
}

/// Everything one reconcile needs.
pub(crate) struct Aggregation {
    client: Client,
    roles: Lister<ClusterRole>,
}

impl Reconcile for Aggregation {
    /// Writes the rules of one role anew, if they differ.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(role) = self.roles.get(&key) else { return Ok(Next::Wait) };
        let Some(rules) = rules(&role, &self.roles.all()) else { return Ok(Next::Wait) };
        if role.rules.as_deref().unwrap_or_default() != rules {
            let api: Api<ClusterRole> = Api::all(self.client.clone());
            let version = &role.metadata.resource_version;
            let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "rules": rules}));
            ignore_not_found(api.patch(&key.name, &PatchParams::default(), &patch).await)?;
        }
        Ok(Next::Wait)
    }
}

/// The rules of an aggregating role, each once, in the order of the names of the roles they come from.
fn rules(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for other in all.iter().filter(|other| other.metadata.name != role.metadata.name) {
        if selectors.iter().any(|selector| ownership::selects(selector, other.metadata.labels.as_ref())) {
            for rule in other.rules.iter().flatten().filter(|rule| !is_in(&rules, rule)).collect::<Vec<_>>() {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

fn is_in(rules: &[PolicyRule], rule: &PolicyRule) -> bool {
    rules.contains(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, label: &str, verbs: &[&str], aggregate: Option<&str>) -> Arc<ClusterRole> {
        let selectors =
            aggregate.map(|label| json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}));
        let rules: Vec<_> = verbs
            .iter()
            .map(|verb| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}))
            .collect();
        let object = json!({"metadata": {"name": name, "labels": {label: "true"}}, "aggregationRule": selectors, "rules": rules});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn rules_come_from_the_selected() {
        let all = [
            role("a", "to-view", &["get", "list"], None),
            role("b", "to-view", &["list", "watch"], None),
            role("c", "to-edit", &["create"], None),
            role("view", "x", &["stale"], Some("to-view")),
        ];
        let verbs = rules(&all[3], &all).unwrap();
        let verbs: Vec<&str> = verbs.iter().map(|rule| rule.verbs[0].as_str()).collect();
        assert_eq!(verbs, ["get", "list", "watch"]);
        assert_eq!(rules(&all[0], &all), None);
    }
}
