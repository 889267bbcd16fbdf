//! POST pods/NAME/eviction: a deletion that disruption budgets can refuse (429, try again).
//!
//! The budget's `disruptionsAllowed` is taken down by one in the same step that checks it, so that two evictions never
//! use the same allowance; the controller counts anew when the pod is gone.

use super::super::change::{At, Manner, Part};
use super::super::{Call, Server, answer, object_meta, read_body, stored};
use super::delete::{self, Options};
use crate::admission::{Kind, Operation};
use crate::registry::Resource;
use crate::server::Answer;
use crate::store::ListQuery;
use knarr_api::{LabelSelector, Status, meta};
use serde_json::{Value, json};

const KIND: Kind<'_> = ("policy", "v1", "Eviction");
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// When a refused client should try again, seconds.
const RETRY: u32 = 10;

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let mut eviction = read_body::object_of(call, KIND, &["policy/v1beta1"])?;
    if meta::name(&eviction) != call.path.name() && !meta::name(&eviction).is_empty() {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    meta::set(&mut eviction, "name", call.path.name());
    let at = At { resource: &call.resource, namespace: call.path.namespace(), name: call.path.name() };
    let mut write = super::write_of(call, Operation::Create, KIND);
    let asked = Options::from_object(eviction.get("deleteOptions").unwrap_or(&json!({})))?;
    write.dry_run |= asked.is_dry_run();
    let warnings = server.admit_sent(write, &mut eviction).await?;
    let options = Options::from_object(eviction.get("deleteOptions").unwrap_or(&json!({})))?;
    options.check()?;
    let dry_run = write.dry_run || options.is_dry_run();
    let pod = stored::decode(at.resource, &*server.entry(at).await?);
    if disrupts(&pod)
        && let Some(budget) = budget_of(server, at, &pod).await?
    {
        take(server, at, &pod, &budget, dry_run).await?;
    }
    // Who has a say in evictions was asked; it is no deletion to them.
    let manner = Manner { dry_run, ..Manner::OWN };
    delete::evict(server, at, &options, &manner).await?;
    let mut answer = answer::status(call.accept.encoding(), &Status::success());
    answer::warn(&mut answer, &warnings);
    Ok(answer)
}

/// A pod that has ended, has not begun or is going anyway disturbs nobody.
fn disrupts(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    !matches!(phase, "Succeeded" | "Failed" | "Pending") && meta::deletion_timestamp(pod).is_none()
}

/// The one budget that is about the pod.
async fn budget_of(server: &Server, at: At<'_>, pod: &Value) -> Result<Option<Value>, Status> {
    let prefix = format!("policy/poddisruptionbudgets/{}/", at.namespace);
    let query = ListQuery { prefix: &prefix, ..ListQuery::default() };
    let page =
        server.store.list(query).await.map_err(|error| stored::refusal(at.resource, at.name, error))?;
    let selects = |budget: &Value| {
        let selector = budget.pointer("/spec/selector").map(LabelSelector::from_object);
        selector.is_some_and(|selector| selector.is_ok_and(|selector| selector.matches_object(pod)))
    };
    let mut budgets = page.entries.iter().map(|entry| entry.object()).filter(selects);
    let first = budgets.next();
    if budgets.next().is_some() {
        let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
        return Err(Status::internal(why));
    }
    Ok(first)
}

/// Takes one disruption from the budget.
async fn take(server: &Server, at: At<'_>, pod: &Value, budget: &Value, dry_run: bool) -> Result<(), Status> {
    let row =
        server.table.find("policy", "v1", "poddisruptionbudgets").ok_or_else(Status::no_such_resource)?;
    let resource: &Resource = &row;
    let place = At { resource, namespace: at.namespace, name: meta::name(budget) };
    let take = |budget: &Value| match decide(budget, pod)? {
        Decision::Free => Ok(budget.clone()),
        Decision::Take => Ok(taken(budget, pod)),
    };
    server.modify(place, Part::Internal, &Manner { dry_run, ..Manner::OWN }, take).await.map(drop)
}

/// What an eviction costs.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Free,
    Take,
}

fn number(budget: &Value, field: &str) -> i64 {
    budget["status"][field].as_i64().unwrap_or(0)
}

fn decide(budget: &Value, pod: &Value) -> Result<Decision, Status> {
    let name = meta::name(budget);
    let enough = number(budget, "currentHealthy") >= number(budget, "desiredHealthy");
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    if !is_ready(pod) && (always || enough && number(budget, "desiredHealthy") > 0) {
        return Ok(Decision::Free);
    }
    let refuse = |retry: Option<u32>, why: String| {
        Err(Status::too_many_requests(REFUSED, retry).with_cause("DisruptionBudget", &why))
    };
    if number(budget, "observedGeneration") < meta::generation(budget).unwrap_or(0) {
        return refuse(
            Some(RETRY),
            format!("The disruption budget {name} is still being processed by the server."),
        );
    }
    if number(budget, "disruptionsAllowed") > 0 {
        return Ok(Decision::Take);
    }
    // Without a time to try again: clients that obey one would wait for it in silence, whatever their own deadline.
    refuse(
        None,
        format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number(budget, "desiredHealthy"),
            number(budget, "currentHealthy")
        ),
    )
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// The budget after the eviction: one less, and the pod noted until the controller has seen it go.
fn taken(budget: &Value, pod: &Value) -> Value {
    let mut new = budget.clone();
    new["status"]["disruptionsAllowed"] = (number(budget, "disruptionsAllowed") - 1).into();
    new["status"]["disruptedPods"][meta::name(pod)] = object_meta::now().into();
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(allowed: i64, healthy: i64) -> Value {
        json!({"metadata": {"name": "b", "generation": 1}, "spec": {}, "status": {"observedGeneration": 1,
            "disruptionsAllowed": allowed, "desiredHealthy": 2, "currentHealthy": healthy}})
    }

    fn pod(ready: bool) -> Value {
        let status = if ready { "True" } else { "False" };
        json!({"metadata": {"name": "p"}, "status": {"conditions": [{"type": "Ready", "status": status}]}})
    }

    #[test]
    fn an_allowance_is_used_once() {
        let first = budget(1, 3);
        assert_eq!(decide(&first, &pod(true)).unwrap(), Decision::Take);
        let second = taken(&first, &pod(true));
        assert!(second["status"]["disruptedPods"]["p"].is_string());
        let refused = decide(&second, &pod(true)).unwrap_err();
        assert_eq!((refused.code, &*refused.message), (429, REFUSED));
    }

    #[test]
    fn pods_that_are_not_ready_cost_nothing_while_enough_are() {
        assert_eq!(decide(&budget(0, 2), &pod(false)).unwrap(), Decision::Free);
        assert!(decide(&budget(0, 1), &pod(false)).is_err());
        let mut always = budget(0, 1);
        always["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into();
        assert_eq!(decide(&always, &pod(false)).unwrap(), Decision::Free);
        let mut stale = budget(1, 3);
        stale["metadata"]["generation"] = 2.into();
        assert!(decide(&stale, &pod(true)).is_err());
    }
}
