//! DELETE of one object: at once, or in steps. An object with a grace period (pods) or with finalizers is marked with
//! a `deletionTimestamp` first, and goes when the grace is over and the last finalizer has been taken away.

use super::super::change::{At, Manner, Part, Written, is_finished};
use super::super::{Call, Server, answer, namespace, object_meta, read_body};
use crate::registry::Resource;
use crate::server::Answer;
use jiff::{SignedDuration, Timestamp};
use knarr_api::{Status, StatusCause, meta};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
const POLICIES: [&str; 4] = ["", "Foreground", "Background", "Orphan"];

/// How a client wants an object deleted; from the body, or from the query.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    propagation_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orphan_dependents: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preconditions: Option<Preconditions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dry_run: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
}

impl Options {
    /// From a DeleteOptions object.
    pub(super) fn from_object(object: &Value) -> Result<Self, Status> {
        serde_json::from_value(object.clone())
            .map_err(|error| Status::bad_request(format!("error decoding DeleteOptions: {error}")))
    }

    pub(super) fn read(call: &Call) -> Result<Self, Status> {
        let body = read_body::any(call)?;
        let mut options = body.as_ref().map_or(Ok(Self::default()), Self::from_object)?;
        if let Some(seconds) = call.query.number("gracePeriodSeconds")? {
            options.grace_period_seconds = Some(seconds);
        }
        if let Some(policy) = call.query.get("propagationPolicy") {
            options.propagation_policy = Some(policy.to_owned());
        }
        if options.dry_run.is_empty() {
            options.dry_run = call.query.all("dryRun").map(str::to_owned).collect();
        }
        if call.query.all("orphanDependents").next().is_some() {
            options.orphan_dependents = Some(call.query.flag("orphanDependents"));
        }
        options.check()?;
        Ok(options)
    }

    /// As those who have a say are told.
    pub(super) fn told(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// `dryRun: [All]`
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run.iter().any(|value| value == "All")
    }

    /// Every fault of it.
    pub(super) fn check(&self) -> Result<(), Status> {
        let policy = self.propagation_policy.as_deref();
        let fault = |reason: &str, message: String| StatusCause {
            reason: reason.into(),
            message,
            field: "propagationPolicy".into(),
        };
        let mut faults = Vec::new();
        if let (Some(policy), Some(_)) = (policy, self.orphan_dependents) {
            let both = "orphanDependents and deletionPropagation cannot be both set";
            faults.push(fault("FieldValueInvalid", format!("Invalid value: {policy:?}: {both}")));
        }
        if let Some(other) = policy.filter(|policy| !POLICIES.contains(policy)) {
            let message = format!(
                "Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
            );
            faults.push(fault("FieldValueNotSupported", message));
        }
        let values: Vec<&str> = self.dry_run.iter().map(String::as_str).collect();
        faults.extend(super::options::dry_run_fault(&values));
        super::options::refuse("DeleteOptions", faults)
    }

    /// Whether they leave it to the kind, or to a finalizer, what becomes of the dependents.
    fn are_silent(&self) -> bool {
        self.propagation_policy.is_none() && self.orphan_dependents.is_none()
    }

    fn finalizer(&self, resource: &Resource, old: &Value) -> Option<&'static str> {
        match (self.propagation_policy.as_deref(), self.orphan_dependents) {
            (Some("Orphan"), _) | (None, Some(true)) => Some(ORPHAN),
            (Some("Foreground"), _) => Some(FOREGROUND),
            (None, None) if orphans(resource) && !meta::finalizers(old).any(is_policy) => Some(ORPHAN),
            _ => None,
        }
    }

    fn check_preconditions(&self, at: At<'_>, object: &Value) -> Result<(), Status> {
        let Some(wanted) = &self.preconditions else { return Ok(()) };
        let refuse = |what: &str, wanted: &str, found: &str| {
            let since = if what == "UID" { "deleted and then recreated" } else { "modified" };
            let why = format!(
                "the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). The object might have been {since}"
            );
            Err(Status::conflict(&at.resource.group, &at.resource.kind, at.name, &why))
        };
        match (&wanted.uid, &wanted.resource_version) {
            (Some(uid), _) if uid != meta::uid(object) => refuse("UID", uid, meta::uid(object)),
            (_, Some(version)) if version != meta::resource_version(object) => {
                refuse("ResourceVersion", version, meta::resource_version(object))
            }
            _ => Ok(()),
        }
    }
}

/// Kinds whose dependents stay, unless the client says otherwise: so it was when they were first there.
const ORPHANING: [(&str, &str); 2] = [("", "replicationcontrollers"), ("batch", "jobs")];

fn orphans(resource: &Resource) -> bool {
    ORPHANING.contains(&(&*resource.group, &*resource.plural))
}

fn is_policy(finalizer: &str) -> bool {
    matches!(finalizer, FOREGROUND | ORPHAN)
}

/// Said to who deletes a job without a word about its pods.
const PODS_STAY: &str = "child pods are preserved by default when jobs are deleted; \
    set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";

/// Kinds of which a client is shown what it has deleted; of others it is told that they are gone.
const TOLD_WHOLE: [(&str, &str); 11] = [
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "pods"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
];

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let options = Options::read(call)?;
    let at = At { resource: &call.resource, namespace: call.path.namespace(), name: call.path.name() };
    let dry_run = super::dry_run(call) || options.is_dry_run();
    let manner = Manner { dry_run, by: Some(call.user.clone()), options: options.told(), ..Manner::OWN };
    let written = delete(server, at, &options, &manner).await?;
    let mut answer = told(call, at, written)?;
    if options.are_silent() && at.resource.group == "batch" && at.resource.plural == "jobs" {
        answer::warn(&mut answer, &[PODS_STAY.to_owned()]);
    }
    Ok(answer)
}

fn told(call: &Call, at: At<'_>, written: Written) -> Result<Answer, Status> {
    let row = (&*at.resource.group, &*at.resource.plural);
    if !written.deleted || TOLD_WHOLE.contains(&row) {
        return answer::object(call, 200, written.bytes);
    }
    let object: Value = serde_json::from_slice(&written.bytes).map_err(Status::internal)?;
    let status = Status::deleted(&at.resource.group, &at.resource.plural, at.name, meta::uid(&object));
    Ok(answer::status(call.accept.encoding(), &status))
}

/// Deletes an object, or takes the next step towards it.
pub(super) async fn delete(
    server: &Server,
    at: At<'_>,
    options: &Options,
    manner: &Manner,
) -> Result<Written, Status> {
    if at.resource.plural == "namespaces" && namespace::PERMANENT.contains(&at.name) {
        return Err(Status::forbidden("", "namespaces", at.name, "this namespace may not be deleted"));
    }
    let change = |old: &Value| {
        options.check_preconditions(at, old)?;
        Ok(next_step(at.resource, old, options, Timestamp::now()))
    };
    server.modify(at, Part::Deletion, manner, change).await
}

/// Deletes a pod, saying on it that it is evicted.
pub(super) async fn evict(
    server: &Server,
    at: At<'_>,
    options: &Options,
    manner: &Manner,
) -> Result<Written, Status> {
    let change = |old: &Value| {
        options.check_preconditions(at, old)?;
        Ok(next_step(at.resource, &disrupted(old), options, Timestamp::now()))
    };
    server.modify(at, Part::Deletion, manner, change).await
}

/// The pod with the condition of who is evicted.
fn disrupted(pod: &Value) -> Value {
    let mut new = pod.clone();
    let known = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let before = known.clone().find(|one| one["type"] == "DisruptionTarget" && one["status"] == "True");
    let since = before.map_or_else(|| object_meta::now().into(), |one| one["lastTransitionTime"].clone());
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": since});
    let others = known.filter(|one| one["type"] != "DisruptionTarget").cloned();
    new["status"]["conditions"] = others.chain([condition]).collect();
    new
}

/// The object after one DELETE: marked, its grace shortened, or finished.
fn next_step(resource: &Resource, old: &Value, options: &Options, now: Timestamp) -> Value {
    let mut new = old.clone();
    if let Some(finalizer) = options.finalizer(resource, old) {
        let others = meta::finalizers(old).filter(|name| !is_policy(name)).map(str::to_owned);
        let all = others.chain([finalizer.to_owned()]).collect();
        meta::set_finalizers(&mut new, all);
    }
    let requested = options.grace_period_seconds.map(|seconds| seconds.max(0));
    let grace = resource.strategy.deletion_grace_seconds(old, requested).max(0);
    let grace = match meta::deletion_timestamp(old) {
        // A second DELETE can only shorten the grace, and only if it says so.
        Some(_) => {
            let left = meta::deletion_grace_period_seconds(old).unwrap_or(0);
            if requested.is_some() { grace.min(left) } else { left }
        }
        None => grace,
    };
    let changed = meta::deletion_grace_period_seconds(old) != Some(grace);
    if meta::deletion_timestamp(old).is_none() || changed {
        let end = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
        meta::set(&mut new, "deletionTimestamp", object_meta::timestamp(end));
        meta::set(&mut new, "deletionGracePeriodSeconds", grace);
        if meta::deletion_timestamp(old).is_none() && resource.strategy.has_generation() {
            meta::set(&mut new, "generation", meta::generation(old).unwrap_or(0) + 1);
        }
    }
    if resource.plural == "namespaces" && resource.group.is_empty() && !is_finished(&new) {
        new["status"]["phase"] = "Terminating".into();
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    /// Objects of this kind live on for 30 s unless the client says otherwise.
    struct Graceful;

    impl crate::registry::Strategy for Graceful {
        fn deletion_grace_seconds(&self, _: &Value, requested: Option<i64>) -> i64 {
            requested.unwrap_or(30)
        }
    }

    struct Plain;

    impl crate::registry::Strategy for Plain {}

    fn resource(strategy: Arc<dyn crate::registry::Strategy>) -> Resource {
        Resource {
            group: "".into(),
            version: "v1".into(),
            kind: "Thing".into(),
            plural: "things".into(),
            singular: "thing".into(),
            short_names: vec![],
            categories: vec![],
            namespaced: true,
            verbs: vec![],
            subresources: vec![],
            columns: vec![],
            strategy,
            stored_as: None,
            schema: None,
            custom: None,
        }
    }

    fn step(strategy: impl crate::registry::Strategy, old: Value, options: Value) -> Value {
        let options = Options::from_object(&options).unwrap();
        let now: Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        next_step(&resource(Arc::new(strategy)), &old, &options, now)
    }

    #[test]
    fn an_object_without_grace_and_finalizers_is_finished_at_once() {
        assert!(is_finished(&step(Plain, json!({"metadata": {"name": "a"}}), json!({}))));
        assert!(is_finished(&step(
            Graceful,
            json!({"metadata": {"name": "a"}}),
            json!({"gracePeriodSeconds": 0})
        )));
    }

    #[test]
    fn grace_can_only_be_shortened() {
        let first = step(Graceful, json!({"metadata": {"name": "a"}}), json!({}));
        assert_eq!(first["metadata"]["deletionTimestamp"], "2024-01-01T00:00:30Z");
        assert!(!is_finished(&first));
        assert_eq!(step(Graceful, first.clone(), json!({})), first);
        assert_eq!(step(Graceful, first.clone(), json!({"gracePeriodSeconds": 60})), first);
        let second = step(Graceful, first.clone(), json!({"gracePeriodSeconds": 5}));
        assert_eq!(second["metadata"]["deletionGracePeriodSeconds"], 5);
        assert!(is_finished(&step(Graceful, second, json!({"gracePeriodSeconds": 0}))));
    }

    #[test]
    fn propagation_is_a_finalizer() {
        let old = json!({"metadata": {"name": "a", "finalizers": ["x/y"]}});
        let marked = step(Plain, old.clone(), json!({"propagationPolicy": "Foreground"}));
        assert_eq!(marked["metadata"]["finalizers"], json!(["x/y", FOREGROUND]));
        assert!(!is_finished(&marked));
        assert_eq!(
            step(Plain, old, json!({"propagationPolicy": "Orphan"}))["metadata"]["finalizers"][1],
            ORPHAN
        );
    }
}
