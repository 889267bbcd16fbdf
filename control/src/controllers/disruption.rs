//! PodDisruptionBudget: how many of the selected pods may be missing right now, for evictions to go by.
//!
//! An eviction takes from what the status allows and notes the pod there: until that pod is on its way out, or two
//! minutes have passed, it counts as missing, for our copy of it may be older than the eviction.

mod expected;
mod stale;

pub(crate) use stale::wire as wire_stale;

use super::events::{Recorder, Severity};
use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile};
use super::wiring::{Plane, Task, Wire};
use super::{ownership, pods, selector_words, status};
use expected::{Expected, Owners};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Client, ResourceExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// So long an evicted pod may take to be on its way out.
const DELETION_TIMEOUT: SignedDuration = SignedDuration::from_mins(2);

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
    let owners = Owners::new(&mut wire);
    let recorder = Recorder::new(wire.client(), "controllermanager");
    let controller = Disruptions { client: wire.client(), budgets, owners, pods: wire.reads(), recorder };
    wire.run(1, controller)
}

/// Everything one reconcile needs.
pub(crate) struct Disruptions {
    client: Client,
    budgets: Lister<PodDisruptionBudget>,
    owners: Owners,
    pods: Lister<Pod>,
    recorder: Recorder,
}

impl Reconcile for Disruptions {
    /// Counts the pods of one budget anew.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(budget) = self.budgets.get(&key) else { return Ok(Next::Wait) };
        let mut selected = self.pods.in_namespace(&key.namespace);
        selected.retain(|pod| selects(&budget, pod));
        if selected.is_empty() {
            let told = "No matching pods found".to_owned();
            self.recorder.record(&*budget, Severity::Normal, "NoPods", told);
        }
        let now = Timestamp::now();
        let (new, next) = match self.expected(&budget, &selected).await {
            Ok(expected) => {
                self.tell_left(&budget, &selected, now);
                let disrupted = disrupted(&budget, &selected, now);
                let next = recheck(&disrupted, now);
                (status_of(&budget, &selected, (expected, disrupted), now), next)
            }
            Err(why) => {
                let told = format!("Failed to calculate the number of expected pods: {why}");
                self.warn(&budget, "CalculateExpectedPodCountFailed", told);
                (unknown(&budget, &why, now), Next::Wait)
            }
        };
        if budget.status.as_ref() != Some(&new) {
            status::replace(&self.client, &PodDisruptionBudget { status: Some(new), ..(*budget).clone() })
                .await?;
        }
        Ok(next)
    }
}

impl Disruptions {
    fn warn(&self, budget: &PodDisruptionBudget, reason: &'static str, message: String) {
        self.recorder.record(budget, Severity::Warning, reason, message);
    }

    /// How many pods there should be. A budget of so many that stay goes by the pods that are there.
    async fn expected(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>]) -> Result<i32, String> {
        let spec = budget.spec.as_ref();
        let of = |field: fn(&PodDisruptionBudgetSpec) -> Option<&IntOrString>| spec.and_then(field);
        match (of(|spec| spec.max_unavailable.as_ref()), of(|spec| spec.min_available.as_ref())) {
            (None, None) => return Ok(0),
            (None, Some(IntOrString::Int(_))) => return Ok(i32::try_from(pods.len()).unwrap_or(i32::MAX)),
            _ => {}
        }
        let Expected { pods, unmanaged } = self.owners.expected(pods).await?;
        if unmanaged {
            let selector = selector_words::words(spec.and_then(|spec| spec.selector.as_ref()));
            let told = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a \
                 result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. \
                 To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            self.warn(budget, "UnmanagedPods", told);
        }
        Ok(pods)
    }

    /// Tells of evicted pods that did not go.
    fn tell_left(&self, budget: &PodDisruptionBudget, pods: &[Arc<Pod>], now: Timestamp) {
        for pod in pods.iter().filter(|pod| noted(budget, pod).is_some_and(|at| !is_awaited(at, now))) {
            // The budget's namespace in the place of its name, as Kubernetes says it.
            let namespace = budget.namespace().unwrap_or_default();
            let told = format!("Pod was expected by PDB {namespace}/{namespace} to be deleted but it wasn't");
            self.recorder.record(&**pod, Severity::Warning, "NotDeleted", told);
        }
    }
}

/// Whether the budget is about this pod; one without a selector is about none.
pub(crate) fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| ownership::selects(selector, pod.metadata.labels.as_ref()))
}

/// When a pod that is not on its way out was evicted.
fn noted<'a>(budget: &'a PodDisruptionBudget, pod: &Pod) -> Option<&'a Time> {
    let noted = budget.status.as_ref()?.disrupted_pods.as_ref()?.get(&pod.name_any());
    noted.filter(|_| pod.metadata.deletion_timestamp.is_none())
}

fn is_awaited(Time(at): &Time, now: Timestamp) -> bool {
    now.duration_since(*at) <= DELETION_TIMEOUT
}

/// Pods that were evicted and are not yet seen to go, with the time of the eviction.
fn disrupted(budget: &PodDisruptionBudget, pods: &[Arc<Pod>], now: Timestamp) -> BTreeMap<String, Time> {
    let awaited = pods.iter().filter_map(|pod| Some((pod.name_any(), noted(budget, pod)?)));
    awaited.filter(|(_, at)| is_awaited(at, now)).map(|(name, at)| (name, at.clone())).collect()
}

/// When the first of them is not waited for any longer.
fn recheck(disrupted: &BTreeMap<String, Time>, now: Timestamp) -> Next {
    let left = disrupted.values().map(|Time(at)| DELETION_TIMEOUT - now.duration_since(*at)).min();
    left.map_or(Next::Wait, |left| Next::After(Duration::try_from(left).unwrap_or_default()))
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
    (expected, disrupted): (i32, BTreeMap<String, Time>),
    now: Timestamp,
) -> PodDisruptionBudgetStatus {
    let healthy = |pod: &&Arc<Pod>| {
        pods::is_active(pod) && pods::ready_since(pod).is_some() && !disrupted.contains_key(&pod.name_any())
    };
    let current = i32::try_from(selected.iter().filter(healthy).count()).unwrap_or(i32::MAX);
    let desired = budget.spec.as_ref().map_or(0, |spec| desired(spec, expected));
    let allowed = if expected > 0 { current.saturating_sub(desired).max(0) } else { 0 };
    PodDisruptionBudgetStatus {
        conditions: Some(vec![condition(budget, decision(allowed), String::new(), now)]),
        current_healthy: current,
        desired_healthy: desired,
        disruptions_allowed: allowed,
        expected_pods: expected,
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        observed_generation: budget.metadata.generation,
    }
}

/// Where nobody knows how many pods there should be, none may be missing.
fn unknown(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    let failed = ("False", "SyncFailed");
    PodDisruptionBudgetStatus {
        conditions: Some(vec![condition(budget, failed, why.to_owned(), now)]),
        disruptions_allowed: 0,
        ..budget.status.clone().unwrap_or_default()
    }
}

fn decision(allowed: i32) -> (&'static str, &'static str) {
    if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") }
}

fn condition(
    budget: &PodDisruptionBudget,
    (status, reason): (&str, &str),
    message: String,
    now: Timestamp,
) -> Condition {
    let conditions = budget.status.as_ref().and_then(|status| status.conditions.as_ref());
    let before = conditions.and_then(|all| all.iter().find(|one| one.type_ == "DisruptionAllowed"));
    let since =
        before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    Condition {
        type_: "DisruptionAllowed".to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
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
            let status = status_of(&budget, &pods.map(pod), (2, BTreeMap::new()), Timestamp::now());
            assert_eq!((status.disruptions_allowed, status.expected_pods), (allowed, 2), "{pods:?}");
        }
        assert!(selects(&budget, &pod("True")));
    }

    #[test]
    fn an_evicted_pod_is_missing_before_it_is_seen_to_go() {
        let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
        let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {}}, "status": {
            "currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 0, "expectedPods": 2,
            "disruptedPods": {"a": "2026-01-01T00:09:00Z", "gone": "2026-01-01T00:09:00Z"}}});
        let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        let pod = |name: &str, deleted: Value| -> Arc<Pod> {
            let pod = json!({"metadata": {"name": name, "deletionTimestamp": deleted},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
            Arc::new(serde_json::from_value(pod).unwrap())
        };
        let seen = |pods: &[Arc<Pod>], now: Timestamp| {
            let disrupted = disrupted(&budget, pods, now);
            let next = recheck(&disrupted, now);
            let status = status_of(&budget, pods, (2, disrupted), now);
            let names: Vec<String> =
                status.disrupted_pods.iter().flatten().map(|(name, _)| name.clone()).collect();
            (status.current_healthy, status.disruptions_allowed, names, next)
        };
        let both = [pod("a", Value::Null), pod("b", Value::Null)];
        let minute = Next::After(Duration::from_secs(60));
        assert_eq!(seen(&both, now), (1, 0, vec!["a".to_owned()], minute));
        let going = [pod("a", "2026-01-01T00:09:30Z".into()), pod("b", Value::Null)];
        assert_eq!(seen(&going, now), (1, 0, vec![], Next::Wait));
        let later = "2026-01-01T00:11:01Z".parse().unwrap();
        assert_eq!(seen(&both, later), (2, 1, vec![], Next::Wait));
    }

    #[test]
    fn nothing_may_be_missing_of_what_nobody_can_count() {
        let status =
            json!({"currentHealthy": 3, "desiredHealthy": 2, "disruptionsAllowed": 1, "expectedPods": 3});
        let budget = json!({"metadata": {"name": "b"}, "spec": {}, "status": status});
        let budget: PodDisruptionBudget = serde_json::from_value(budget).unwrap();
        let status =
            unknown(&budget, "jobs.batch does not implement the scale subresource", Timestamp::now());
        assert_eq!((status.disruptions_allowed, status.current_healthy), (0, 3));
        let condition = &status.conditions.unwrap()[0];
        assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("False", "SyncFailed"));
        assert_eq!(condition.message, "jobs.batch does not implement the scale subresource");
    }
}
