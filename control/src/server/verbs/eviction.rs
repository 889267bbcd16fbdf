//! POST pods/NAME/eviction: a deletion that disruption budgets can refuse (429, try again).

use super::super::change::At;
use super::super::{Call, Server, answer, read_body, stored};
use super::delete::{self, Options};
use crate::server::Answer;
use crate::store::ListQuery;
use knarr_api::{LabelSelector, Status, meta};
use serde_json::{Value, json};

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let eviction = read_body::object(call, ("policy", "v1", "Eviction"))?;
    let at = At { resource: &call.resource, namespace: call.path.namespace(), name: call.path.name() };
    let pod = stored::decode(at.resource, &*server.entry(at).await?);
    if disrupts(&pod) {
        check_budgets(server, at, &pod).await?;
    }
    let options = Options::from_object(eviction.get("deleteOptions").unwrap_or(&json!({})))?;
    delete::delete(server, at, &options, super::dry_run(call)?).await?;
    Ok(answer::value(201, call.accept.encoding(), &Status::success().to_value()))
}

/// A pod that has ended, has not begun or is going anyway disturbs nobody.
fn disrupts(pod: &Value) -> bool {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    !matches!(phase, "Succeeded" | "Failed" | "Pending") && meta::deletion_timestamp(pod).is_none()
}

async fn check_budgets(server: &Server, at: At<'_>, pod: &Value) -> Result<(), Status> {
    let prefix = format!("policy/poddisruptionbudgets/{}/", at.namespace);
    let query = ListQuery { prefix: &prefix, ..ListQuery::default() };
    let page =
        server.store.list(query).await.map_err(|error| stored::refusal(at.resource, at.name, error))?;
    for entry in page.entries {
        let budget = entry.object();
        let selects = budget.pointer("/spec/selector").map(LabelSelector::from_object);
        if selects.is_some_and(|selector| selector.is_ok_and(|selector| selector.matches_object(pod))) {
            refuse_if_spent(&budget)?;
        }
    }
    Ok(())
}

fn refuse_if_spent(budget: &Value) -> Result<(), Status> {
    let number = |field: &str| budget["status"][field].as_i64().unwrap_or(0);
    if number("disruptionsAllowed") > 0 {
        return Ok(());
    }
    let why = format!(
        "The disruption budget {} needs {} healthy pods and has {} currently",
        meta::name(budget),
        number("desiredHealthy"),
        number("currentHealthy")
    );
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    Err(Status::too_many_requests(text, Some(10)).with_cause("DisruptionBudget", &why))
}
