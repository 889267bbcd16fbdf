//! Cron jobs: jobs that are started by the clock.

use super::columns::{age, integer, name, text, timed};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, faults::Faults, fields, jobs, validation, warnings};
use serde_json::{Value, json};

const POD: &str = "/spec/jobTemplate/spec/template/spec";

pub(super) fn row() -> Resource {
    Row::namespaced("batch", "v1", "CronJob", "cronjobs")
        .short(&["cj"])
        .category("all")
        .status()
        .columns(vec![
            name(),
            text("Schedule", "When jobs are started.", |object| {
                fields::text(object, "/spec/schedule").to_owned()
            }),
            text("Timezone", "Whose clock counts.", |object| {
                cells::or_none(fields::text(object, "/spec/timeZone"))
            }),
            text("Suspend", "Whether it rests.", |object| {
                match object.pointer("/spec/suspend").and_then(Value::as_bool) {
                    Some(true) => "True".to_owned(),
                    Some(false) => "False".to_owned(),
                    None => "<unset>".to_owned(),
                }
            }),
            integer("Active", "Jobs that run now.", |object| {
                fields::list(object, "/status/active").len() as i64
            }),
            timed("Last Schedule", "When a job was last started.", |object, now| {
                match fields::text(object, "/status/lastScheduleTime") {
                    "" => cells::NONE.to_owned(),
                    last => cells::since(last, now),
                }
            }),
            age(),
            text("Containers", "Names of the containers.", |object| {
                cells::container_fields(object, POD, "name")
            })
            .wide(),
            text("Images", "Images of the containers.", |object| {
                cells::container_fields(object, POD, "image")
            })
            .wide(),
            text("Selector", "Labels of its pods.", |object| {
                cells::label_selector(object, "/spec/jobTemplate/spec/selector")
            })
            .wide(),
        ])
        .rules(Rules {
            has_generation: true,
            defaults,
            validate,
            warnings: |object| {
                let mut found = warnings::of_name(object, "Pod names and hostnames");
                if let Some(template) = object.pointer("/spec/jobTemplate/spec/template") {
                    found.extend(warnings::of_template(template, "spec.jobTemplate.spec.template."));
                }
                found
            },
            ..Rules::NONE
        })
        .done()
}

fn defaults(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else { return };
    fields::fill_text(spec, "concurrencyPolicy", "Allow");
    fields::fill(spec, "suspend", false);
    fields::fill(spec, "successfulJobsHistoryLimit", 3);
    fields::fill(spec, "failedJobsHistoryLimit", 1);
    if let Some(job) = fields::child(spec, "jobTemplate").and_then(|template| fields::child(template, "spec"))
    {
        let given = job.clone();
        jobs::spec_defaults(job);
        // A template keeps open what only a job itself settles.
        for field in [
            "completions",
            "parallelism",
            "backoffLimit",
            "completionMode",
            "suspend",
            "podReplacementPolicy",
        ] {
            fields::copy(job, &given, field);
        }
    }
}

fn validate(object: &Value, faults: &mut Faults) {
    let name = fields::text(object, "/metadata/name");
    if name.len() > 52 {
        faults.invalid("metadata.name", &json!(name), "must be no more than 52 characters");
    }
    schedule(object, faults);
    validation::one_of(object, "spec.concurrencyPolicy", &["Allow", "Forbid", "Replace"], faults);
    for field in ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        validation::not_negative(object, &format!("spec.{field}"), faults);
    }
    let mut settled = object.clone();
    if let Some(job) = settled.pointer_mut("/spec/jobTemplate/spec") {
        jobs::spec_defaults(job);
    }
    jobs::validate_spec(&settled, "spec.jobTemplate.spec", faults);
    if let Some(selector) = object.pointer("/spec/jobTemplate/spec/selector") {
        faults.invalid("spec.jobTemplate.spec.selector", selector, "`selector` will be auto-generated");
    }
    if fields::flag(object, "/spec/jobTemplate/spec/manualSelector") {
        let field = "spec.jobTemplate.spec.manualSelector";
        faults.not_supported_value(field, &json!(true), &["nil", "false"]);
    }
}

fn schedule(object: &Value, faults: &mut Faults) {
    let schedule = fields::text(object, "/spec/schedule");
    match crate::cron_schedule::parse(schedule) {
        _ if schedule.is_empty() => faults.required("spec.schedule", ""),
        _ if schedule.contains("TZ") => {
            faults.invalid(
                "spec.schedule",
                &json!(schedule),
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            );
        }
        Ok(_) => {}
        Err(detail) => faults.invalid("spec.schedule", &json!(schedule), &detail),
    }
    if let Some(zone) = object.pointer("/spec/timeZone").and_then(Value::as_str) {
        time_zone(zone, faults);
    }
}

/// A zone by its name in the database of time zones, letter for letter.
fn time_zone(zone: &str, faults: &mut Faults) {
    let found = jiff::tz::TimeZone::get(zone).ok();
    let detail = match zone {
        "" => "timeZone must be nil or non-empty string".to_owned(),
        _ if zone.eq_ignore_ascii_case("local") => {
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".to_owned()
        }
        _ if found.as_ref().is_some_and(|found| found.iana_name() == Some(zone)) => return,
        _ => format!("unknown time zone {zone}"),
    };
    faults.invalid("spec.timeZone", &json!(zone), &detail);
}
