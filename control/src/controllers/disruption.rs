//! PodDisruptionBudget: how many of the selected pods may be missing right now, for evictions to go by.

use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile};
use super::wiring::{Plane, Task, Wire};
use super::{ownership, pods, status};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Client, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Woken by its budgets and the pods they select.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("disruption", plane);
    let budgets = wire.keys::<PodDisruptionBudget>();
    let all = budgets.clone();
    wire.woken_by::<Pod>(move |old, new, queue| {
        for pod in old.into_iter().chain(new) {
            let budgets = all.in_namespace(&pod.namespace().unwrap_or_default());
            let concerned = budgets.iter().filter(|budget| selects(budget, pod));
            concerned.for_each(|budget| queue.add(Key::of(&**budget)));
        }
    });
    let controller =
        Disruptions { client: wire.client(), budgets, replica_sets: wire.reads(), pods: wire.reads() };
    wire.run(1, controller)
}

/// Everything one reconcile needs.
pub(crate) struct Disruptions {
    pub(crate) client: Client,
    pub(crate) budgets: Lister<PodDisruptionBudget>,
    pub(crate) replica_sets: Lister<ReplicaSet>,
    pub(crate) pods: Lister<Pod>,
}

impl Reconcile for Disruptions {
    /// Counts the pods of one budget anew.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(budget) = self.budgets.get(&key) else { return Ok(Next::Wait) };
        let mut selected = self.pods.in_namespace(&key.namespace);
        selected.retain(|pod| selects(&budget, pod) && !pods::is_terminal(pod));
        let expected = expected(&selected, &self.replica_sets, &key.namespace);
        let new = status_of(&budget, &selected, expected, Timestamp::now());
        if budget.status.as_ref() != Some(&new) {
            status::replace(&self.client, &PodDisruptionBudget { status: Some(new), ..(*budget).clone() })
                .await?;
        }
        Ok(Next::Wait)
    }
}

/// Whether the budget is about this pod; one without a selector is about none.
pub(crate) fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| ownership::selects(selector, pod.metadata.labels.as_ref()))
}

/// The pods that the sets behind them ask for; a pod without a set counts for itself.
fn expected(selected: &[Arc<Pod>], sets: &Lister<ReplicaSet>, namespace: &str) -> i32 {
    let mut by_owner: BTreeMap<String, i32> = BTreeMap::new();
    for pod in selected {
        let owner = ownership::controller_of(&pod.metadata);
        let set = owner.and_then(|owner| {
            sets.get(&Key::new(namespace, &owner.name))
                .filter(|set| set.metadata.uid.as_deref() == Some(&owner.uid))
        });
        let wanted = set.and_then(|set| set.spec.as_ref()?.replicas).unwrap_or(1);
        by_owner.insert(
            set_or_pod(pod, owner.filter(|owner| owner.kind == "ReplicaSet").map(|owner| &owner.uid)),
            wanted,
        );
    }
    by_owner.into_values().fold(0, i32::saturating_add)
}

fn set_or_pod(pod: &Pod, set: Option<&String>) -> String {
    set.cloned().unwrap_or_else(|| pod.uid().unwrap_or_default())
}

/// Pods that must stay healthy: percentages round up.
fn desired(spec: &PodDisruptionBudgetSpec, expected: i32) -> i32 {
    let pods = |value: &IntOrString| match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            i32::try_from((i64::from(expected) * percent + 99) / 100).unwrap_or(i32::MAX)
        }
    };
    match (&spec.min_available, &spec.max_unavailable) {
        (Some(least), _) => pods(least),
        (None, Some(most)) => expected.saturating_sub(pods(most)).max(0),
        (None, None) => 0,
    }
}

fn status_of(
    budget: &PodDisruptionBudget,
    selected: &[Arc<Pod>],
    expected: i32,
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let healthy = |pod: &&Arc<Pod>| pods::is_active(pod) && pods::ready_since(pod).is_some();
    let current = i32::try_from(selected.iter().filter(healthy).count()).unwrap_or(i32::MAX);
    let desired = budget.spec.as_ref().map_or(0, |spec| desired(spec, expected));
    let allowed = if expected > 0 { current.saturating_sub(desired).max(0) } else { 0 };
    PodDisruptionBudgetStatus {
        conditions: Some(vec![condition(budget, allowed > 0, now)]),
        current_healthy: current,
        desired_healthy: desired,
        disruptions_allowed: allowed,
        expected_pods: expected,
        disrupted_pods: None,
        observed_generation: budget.metadata.generation,
    }
}

fn condition(budget: &PodDisruptionBudget, allowed: bool, now: Timestamp) -> Condition {
    let (status, reason) = if allowed { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let conditions = budget.status.as_ref().and_then(|status| status.conditions.as_ref());
    let before = conditions.and_then(|all| all.iter().find(|one| one.type_ == "DisruptionAllowed"));
    let since =
        before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        observed_generation: budget.metadata.generation,
        last_transition_time: since.unwrap_or(Time(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn budgets_by_count_and_by_percentage() {
        for (spec, expected, wanted) in [
            (json!({"minAvailable": 2}), 3, 2),
            (json!({"minAvailable": "50%"}), 3, 2),
            (json!({"maxUnavailable": 1}), 3, 2),
            (json!({"maxUnavailable": "30%"}), 10, 7),
            (json!({"maxUnavailable": "100%"}), 3, 0),
            (json!({}), 3, 0),
        ] {
            let budget: PodDisruptionBudgetSpec = serde_json::from_value(spec.clone()).unwrap();
            assert_eq!(desired(&budget, expected), wanted, "{spec}");
        }
    }

    #[test]
    fn only_ready_pods_are_healthy() {
        let budget: Value = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
        let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        let pod = |ready: &str| -> Arc<Pod> {
            let pod = json!({"metadata": {"labels": {"app": "x"}}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        for (pods, allowed) in [(["True", "True"], 1), (["True", "False"], 0), (["False", "False"], 0)] {
            let status = status_of(&budget, &pods.map(pod), 2, Timestamp::now());
            assert_eq!((status.disruptions_allowed, status.expected_pods), (allowed, 2), "{pods:?}");
        }
        assert!(selects(&budget, &pod("True")));
    }
}
