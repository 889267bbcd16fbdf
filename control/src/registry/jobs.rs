//! Jobs: pods that run until enough of them have succeeded.

use super::columns::{self, age, name, text, timed};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, pod_template, validation};
use jiff::Timestamp;
use serde_json::{Value, json};

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
            selectable,
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
    fields::set(spec, "selector", json!({"matchLabels": {UID_LABEL: uid}}));
    let has_own = fields::pairs(job, "/metadata/labels").next().is_some();
    let labels = job.pointer("/spec/template/metadata/labels").cloned();
    if let Some(labels) = labels.filter(|_| !has_own) {
        fields::set_in(job, "metadata", "labels", labels);
    }
}

fn validate(job: &Value, faults: &mut Faults) {
    if fields::flag(job, "/spec/manualSelector") {
        validation::selector_matches_template(job, faults);
    }
    validate_spec(job, "spec", faults);
}

/// Every fault of the job specification at the dotted `path`.
pub(super) fn validate_spec(object: &Value, path: &str, faults: &mut Faults) {
    for field in
        ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"]
    {
        validation::not_negative(object, &format!("{path}.{field}"), faults);
    }
    validation::one_of(object, &format!("{path}.completionMode"), &["Indexed", "NonIndexed"], faults);
    let indexed =
        validation::at(object, &format!("{path}.completionMode")).is_some_and(|mode| mode == "Indexed");
    if indexed && validation::at(object, &format!("{path}.completions")).is_none() {
        faults.required(format!("{path}.completions"), "when completion mode is Indexed");
    }
    pod_template::validate(object, &format!("{path}.template"), &["OnFailure", "Never"], faults);
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let suspended = fields::flag(old, "/spec/suspend");
    for field in ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex"] {
        validation::unchanged(new, old, &format!("spec.{field}"), faults);
    }
    if !suspended {
        validation::unchanged(new, old, "spec.template", faults);
    }
    let indexed = fields::text(new, "/spec/completionMode") == "Indexed";
    if !indexed {
        validation::unchanged(new, old, "spec.completions", faults);
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
