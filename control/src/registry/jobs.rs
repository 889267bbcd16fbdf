//! Jobs: pods that run until enough of them have succeeded.

use super::columns::{self, age, name, text, timed};
use super::row::Row;
use super::rules::Rules;
use super::{
    Resource, cells, faults::Faults, fields, job_policies, job_status_rules, pod_template, validation,
    warnings,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Pods that a job with numbered pods may run at once.
const MAX_INDEXED: i64 = 100_000;
const UID_LABEL: &str = "batch.kubernetes.io/controller-uid";

pub(super) fn row() -> Resource {
    let mut columns = vec![
        name(),
        text("Status", "How far it is.", status),
        text("Completions", "Pods that succeeded, of those needed.", completions),
        timed("Duration", "Time it has run, or took.", duration),
        age(),
    ];
    columns.extend(columns::workload(true));
    Row::namespaced("batch", "v1", "Job", "jobs")
        .category("all")
        .status()
        .columns(columns)
        .rules(Rules {
            has_generation: true,
            defaults,
            on_create,
            validate,
            validate_update,
            validate_status_update: job_status_rules::validate,
            selectable,
            warnings: warnings::of_named_workload,
            ..Rules::NONE
        })
        .done()
}

fn status(job: &Value) -> String {
    let deleted = job.pointer("/metadata/deletionTimestamp").is_some();
    let states = ["Complete", "Failed", "Suspended", "FailureTarget", "SuccessCriteriaMet"];
    let held = |state: &&&str| cells::condition_holds(job, state);
    match states.iter().find(held) {
        Some(&ended @ ("Complete" | "Failed")) => ended.to_owned(),
        _ if deleted => "Terminating".to_owned(),
        Some(other) => (*other).to_owned(),
        None => "Running".to_owned(),
    }
}

fn completions(job: &Value) -> String {
    let succeeded = fields::int(job, "/status/succeeded").unwrap_or(0);
    let parallelism = fields::int(job, "/spec/parallelism").unwrap_or(0);
    match fields::int(job, "/spec/completions") {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    }
}

fn duration(job: &Value, now: Timestamp) -> String {
    let time = |pointer: &str| fields::text(job, pointer).parse::<Timestamp>().ok();
    let failed =
        || fields::text(cells::condition(job, "Failed")?, "/lastTransitionTime").parse::<Timestamp>().ok();
    let Some(start) = time("/status/startTime") else { return String::new() };
    let end = time("/status/completionTime").or_else(failed).unwrap_or(now);
    cells::duration(end.as_second() - start.as_second())
}

fn defaults(job: &mut Value) {
    if let Some(spec) = fields::child(job, "spec") {
        spec_defaults(spec);
        fields::fill(spec, "manualSelector", false);
    }
    let labels = job.pointer("/spec/template/metadata/labels").cloned();
    if let Some(labels) = labels.filter(|_| fields::pairs(job, "/metadata/labels").next().is_none()) {
        fields::set_in(job, "metadata", "labels", labels);
    }
}

/// The defaults of a job specification, alone or in a cron job.
pub(super) fn spec_defaults(spec: &mut Value) {
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        fields::fill(spec, "completions", 1);
    }
    fields::fill(spec, "parallelism", 1);
    let unlimited = spec.get("backoffLimitPerIndex").is_some();
    fields::fill(spec, "backoffLimit", if unlimited { i64::from(i32::MAX) } else { 6 });
    fields::fill_text(spec, "completionMode", "NonIndexed");
    fields::fill(spec, "suspend", false);
    let replacement = if spec.get("podFailurePolicy").is_some() { "Failed" } else { "TerminatingOrFailed" };
    fields::fill_text(spec, "podReplacementPolicy", replacement);
    if let Some(policy) = spec.get_mut("podFailurePolicy") {
        for rule in fields::each(policy, "rules") {
            for condition in fields::each(rule, "onPodConditions") {
                fields::fill_text(condition, "status", "True");
            }
        }
    }
    pod_template::defaults(spec);
}

/// A job finds its pods by its own uid, unless its author selects them by hand.
fn on_create(job: &mut Value) {
    if fields::flag(job, "/spec/manualSelector") {
        return;
    }
    let uid = fields::text(job, "/metadata/uid").to_owned();
    let name = fields::text(job, "/metadata/name").to_owned();
    let Some(spec) = fields::child(job, "spec") else { return };
    if let Some(labels) = fields::child(spec, "template")
        .and_then(|template| fields::child(template, "metadata"))
        .and_then(|metadata| fields::child(metadata, "labels"))
    {
        for (key, value) in [
            ("controller-uid", &uid),
            (UID_LABEL, &uid),
            ("job-name", &name),
            ("batch.kubernetes.io/job-name", &name),
        ] {
            fields::set(labels, key, value.as_str().into());
        }
    }
    if let Some(labels) =
        fields::child(spec, "selector").and_then(|selector| fields::child(selector, "matchLabels"))
    {
        fields::set(labels, UID_LABEL, uid.into());
    }
    let has_own = fields::pairs(job, "/metadata/labels").next().is_some();
    let labels = job.pointer("/spec/template/metadata/labels").cloned();
    if let Some(labels) = labels.filter(|_| !has_own) {
        fields::set_in(job, "metadata", "labels", labels);
    }
}

fn validate(job: &Value, faults: &mut Faults) {
    if let Some(selector) = job.pointer("/spec/selector") {
        validation::label_selector(selector, "spec.selector", faults);
    } else {
        faults.required("spec.selector", "");
    }
    let uid = fields::text(job, "/metadata/uid");
    let given = fields::pairs(job, "/spec/selector/matchLabels");
    let foreign = given.into_iter().any(|(key, value)| key != UID_LABEL || *value != uid);
    if foreign && !fields::flag(job, "/spec/manualSelector") {
        let selector = job.pointer("/spec/selector").unwrap_or(&Value::Null);
        faults.invalid("spec.selector", selector, "`selector` not auto-generated");
    }
    validation::labels_match_selector(job, faults);
    validate_spec(job, "spec", faults);
}

/// Every fault of the job specification at the dotted `path`.
pub(super) fn validate_spec(object: &Value, path: &str, faults: &mut Faults) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        validation::not_negative(object, &format!("{path}.{field}"), faults);
    }
    let Some(spec) = validation::at(object, path) else { return };
    let mode = fields::text(spec, "/completionMode");
    if !matches!(mode, "Indexed" | "NonIndexed") {
        faults.not_supported(format!("{path}.completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    match mode {
        "Indexed" => indexed(spec, path, faults),
        _ => not_indexed(spec, path, faults),
    }
    if let Some(manager) = spec.get("managedBy").and_then(Value::as_str) {
        validation::domain_path(&format!("{path}.managedBy"), manager, faults);
    }
    job_policies::failure(spec, path, faults);
    job_policies::success(spec, path, faults);
    replacement(spec, path, faults);
    pod_template::validate(object, &format!("{path}.template"), &["Always", "OnFailure", "Never"], faults);
    let restart = fields::text(spec, "/template/spec/restartPolicy");
    let field = format!("{path}.template.spec.restartPolicy");
    if !matches!(restart, "OnFailure" | "Never") {
        faults.required(field.as_str(), "valid values: \"OnFailure\", \"Never\"");
    }
    if restart == "OnFailure" && spec.get("podFailurePolicy").is_some() {
        let detail = "only \"Never\" is supported when podFailurePolicy is specified";
        faults.invalid(field, &json!(restart), detail);
    }
}

/// Pods that are numbered: how many there are must be known.
fn indexed(spec: &Value, path: &str, faults: &mut Faults) {
    let Some(completions) = fields::int(spec, "/completions") else {
        faults.required(format!("{path}.completions"), "when completion mode is Indexed");
        return;
    };
    let parallelism = fields::int(spec, "/parallelism").unwrap_or(0);
    if parallelism > MAX_INDEXED {
        let detail = format!("must be less than or equal to {MAX_INDEXED} when completion mode is Indexed");
        faults.invalid(format!("{path}.parallelism"), &json!(parallelism), &detail);
    }
    if let Some(failed) = fields::int(spec, "/maxFailedIndexes") {
        if spec.get("backoffLimitPerIndex").is_none() {
            faults.required(format!("{path}.backoffLimitPerIndex"), "when maxFailedIndexes is specified");
        }
        if failed > completions {
            let detail = "must be less than or equal to completions";
            faults.invalid(format!("{path}.maxFailedIndexes"), &json!(failed), detail);
        }
    }
}

fn not_indexed(spec: &Value, path: &str, faults: &mut Faults) {
    if spec.get("maxFailedIndexes").is_some() && spec.get("backoffLimitPerIndex").is_none() {
        faults.required(format!("{path}.backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if let Some(value) = fields::int(spec, &format!("/{field}")) {
            faults.invalid(format!("{path}.{field}"), &json!(value), "requires indexed completion mode");
        }
    }
}

/// When a pod that ends makes room for the next one.
fn replacement(spec: &Value, path: &str, faults: &mut Faults) {
    let allowed: &[&str] = match spec.get("podFailurePolicy") {
        Some(_) => &["Failed"],
        None => &["Failed", "TerminatingOrFailed"],
    };
    let policy = fields::text(spec, "/podReplacementPolicy");
    validation::optional_choice(&format!("{path}.podReplacementPolicy"), policy, allowed, faults);
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let suspended = fields::flag(old, "/spec/suspend");
    let indexed = fields::text(new, "/spec/completionMode") == "Indexed";
    if !indexed {
        validation::unchanged(new, old, "spec.completions", faults);
    } else if new.pointer("/spec/completions") != old.pointer("/spec/completions")
        && new.pointer("/spec/completions") != new.pointer("/spec/parallelism")
    {
        let completions = new.pointer("/spec/completions").unwrap_or(&Value::Null);
        faults.invalid(
            "spec.completions",
            completions,
            "can only be modified in tandem with spec.parallelism",
        );
    }
    validation::unchanged(new, old, "spec.selector", faults);
    if !suspended {
        validation::unchanged(new, old, "spec.template", faults);
    }
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        validation::unchanged(new, old, &format!("spec.{field}"), faults);
    }
}

fn selectable(job: &Value, field: &str) -> Option<String> {
    (field == "status.successful").then(|| fields::int(job, "/status/succeeded").unwrap_or(0).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_follow_the_conditions() {
        let mut job = json!({"metadata": {}, "spec": {"completions": 3, "parallelism": 1}, "status": {
            "succeeded": 1, "startTime": "2026-01-01T00:00:00Z"}});
        let now = "2026-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(
            (status(&job).as_str(), completions(&job).as_str(), duration(&job, now).as_str()),
            ("Running", "1/3", "60s")
        );
        job["status"]["conditions"] = json!([{"type": "Complete", "status": "True"}]);
        job["status"]["completionTime"] = json!("2026-01-01T00:00:10Z");
        assert_eq!((status(&job).as_str(), duration(&job, now).as_str()), ("Complete", "10s"));
    }

    #[test]
    fn a_job_selects_its_pods_by_its_uid() {
        let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {}}}});
        on_create(&mut job);
        assert_eq!(job["spec"]["selector"]["matchLabels"][UID_LABEL], "u");
        assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
    }
}
