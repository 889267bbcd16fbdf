//! What may be written into the status of a job. Others than our own controller may run a job (`spec.managedBy`), and
//! whoever waits for its end relies on this: an end is said in order, once, and with all its numbers, and is not taken
//! back. A rule looks only at what changes, so that a status which broke it before can still be written.

use super::faults::Faults;
use super::{cells, fields, job_status_indexes as indexes, validation};
use jiff::Timestamp;
use serde_json::{Value, json};

const CONDITIONS: &str = "status.conditions";
const LISTS: [&str; 2] = ["succeeded", "failed"];

/// A job as it was and as it is to be.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
}

/// Every fault of a change.
pub(super) fn validate(new: &Value, old: &Value, faults: &mut Faults) {
    let change = Change { new, old };
    for name in ["active", "succeeded", "failed", "ready", "terminating"] {
        validation::not_negative(new, &format!("status.{name}"), faults);
    }
    uncounted(new, faults);
    change.ways_to_end(faults);
    change.times(faults);
    change.numbers_of_the_end(faults);
    change.indexes(faults);
    change.success(faults);
    change.taken_back(faults);
}

/// Pods on their way to be counted, each once.
fn uncounted(job: &Value, faults: &mut Faults) {
    let mut seen = Vec::new();
    for list in LISTS {
        let pods = fields::list(job, &format!("/status/uncountedTerminatedPods/{list}"));
        for (index, uid) in pods.iter().enumerate() {
            let path = format!("status.uncountedTerminatedPods.{list}[{index}]");
            if uid == "" {
                faults.invalid(path, uid, "must not be empty");
            } else if seen.contains(&uid) {
                faults.duplicate(path, uid);
            } else {
                seen.push(uid);
            }
        }
    }
}

fn number(job: &Value, name: &str) -> i64 {
    fields::int(job, &format!("/status/{name}")).unwrap_or(0)
}

fn time(job: &Value, name: &str) -> Option<i64> {
    let time: Timestamp = fields::text(job, &format!("/status/{name}")).parse().ok()?;
    Some(time.as_second())
}

fn ended(job: &Value) -> bool {
    ["Complete", "Failed"].iter().any(|kind| cells::condition_holds(job, kind))
}

impl Change<'_> {
    fn holds(&self, kind: &str) -> bool {
        cells::condition_holds(self.new, kind)
    }

    fn held(&self, kind: &str) -> bool {
        cells::condition_holds(self.old, kind)
    }

    /// Whether one of these conditions holds now and did not, or the other way round.
    fn turned(&self, kinds: &[&str]) -> bool {
        kinds.iter().any(|kind| self.holds(kind) != self.held(kind))
    }

    fn part<'a>(&'a self, name: &str) -> &'a Value {
        part(self.new, name)
    }

    /// Whether a part of the status is another one than before.
    fn changed(&self, name: &str) -> bool {
        self.part(name) != part(self.old, name)
    }

    fn end_changed(&self) -> bool {
        ended(self.new) != ended(self.old)
    }

    /// Conditions that go together, and those that do not.
    fn ways_to_end(&self, faults: &mut Faults) {
        let (complete, failed) = (self.holds("Complete"), self.holds("Failed"));
        if self.turned(&["Complete", "Failed"]) && complete && failed {
            faults.invalid_as_a_whole(CONDITIONS, "cannot set Complete=True and Failed=true conditions");
        }
        if self.turned(&["Complete", "FailureTarget"]) && complete && self.holds("FailureTarget") {
            faults
                .invalid_as_a_whole(CONDITIONS, "cannot set Complete=True and FailureTarget=true conditions");
        }
        let may_fail = self.turned(&["Failed"]) || self.changed("failedIndexes");
        if may_fail && failed && !self.holds("FailureTarget") {
            let detail = "cannot set Failed=True condition without the FailureTarget=true condition";
            faults.invalid_as_a_whole(CONDITIONS, detail);
        }
        let may_complete = self.turned(&["Complete", "SuccessCriteriaMet"]);
        if may_complete && complete && !self.holds("SuccessCriteriaMet") {
            let detail = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
            faults.invalid_as_a_whole(CONDITIONS, detail);
        }
    }

    /// When it began and when it was complete.
    fn times(&self, faults: &mut Faults) {
        const FIELD: &str = "status.completionTime";
        let (start, completion) = (time(self.new, "startTime"), time(self.new, "completionTime"));
        let shown = self.part("completionTime");
        if self.turned(&["Complete"]) || self.changed("completionTime") {
            match (completion, self.holds("Complete")) {
                (Some(_), false) => {
                    let detail = "cannot set completionTime when there is no Complete=True condition";
                    faults.invalid(FIELD, shown, detail);
                }
                (None, true) => faults.required(FIELD, "completionTime is required for Complete jobs"),
                _ => {}
            }
        }
        let moved = self.changed("startTime") || self.changed("completionTime");
        if moved && start.zip(completion).is_some_and(|(start, completion)| completion < start) {
            faults.invalid(FIELD, shown, "must be equal to or after `startTime`");
        }
        let before = time(self.old, "completionTime");
        if before.zip(completion).is_some_and(|(before, after)| before != after) {
            faults.immutable(FIELD, shown);
        }
        self.start(faults);
    }

    fn start(&self, faults: &mut Faults) {
        const FIELD: &str = "status.startTime";
        let (before, after) = (time(self.old, "startTime"), time(self.new, "startTime"));
        let suspended = fields::flag(self.new, "/spec/suspend");
        let nothing_to_do = suspended && fields::int(self.new, "/spec/completions") == Some(0);
        if (self.end_changed() || before != after) && !nothing_to_do && after.is_none() && ended(self.new) {
            faults.required(FIELD, "startTime is required for finished job");
        }
        if before.is_some() && before != after && !suspended {
            faults.required(FIELD, "startTime cannot be removed for unsuspended job");
        }
    }

    /// Nothing runs of a job that has ended, and everything is counted.
    fn numbers_of_the_end(&self, faults: &mut Faults) {
        let over = |part: &str| ended(self.new) && (self.end_changed() || self.changed(part));
        for part in ["active", "terminating"] {
            if over(part) && number(self.new, part) > 0 {
                let detail = format!("{part}>0 is invalid for finished job");
                faults.invalid(format!("status.{part}"), self.part(part), &detail);
            }
        }
        let pods = self.part("uncountedTerminatedPods");
        let left = LISTS.iter().any(|list| !fields::list(pods, &format!("/{list}")).is_empty());
        if over("uncountedTerminatedPods") && left {
            let of = |list: &str| pods.get(list).unwrap_or(&Value::Null);
            let shown = format!("{{\"Succeeded\":{},\"Failed\":{}}}", of("succeeded"), of("failed"));
            let detail = "must be empty for finished job";
            faults.invalid_shown("status.uncountedTerminatedPods", &shown, detail);
        }
        let ready = fields::int(self.new, "/status/ready").unwrap_or(i64::MIN);
        if (self.changed("ready") || self.changed("active")) && ready > number(self.new, "active") {
            faults.invalid("status.ready", &json!(ready), "cannot set more ready pods than active");
        }
    }

    /// Which numbered pods have succeeded and failed.
    fn indexes(&self, faults: &mut Faults) {
        const COMPLETED: &str = "completedIndexes";
        const FAILED: &str = "failedIndexes";
        let (completed_changed, failed_changed) = (self.changed(COMPLETED), self.changed(FAILED));
        let (completed, failed) = (self.part(COMPLETED), self.part(FAILED));
        let limit = fields::int(self.new, "/spec/completions");
        let per_index = fields::int(self.new, "/spec/backoffLimitPerIndex").is_some();
        for (name, value, looked_at) in
            [(COMPLETED, completed, completed_changed), (FAILED, failed, failed_changed && per_index)]
        {
            let text = value.as_str().unwrap_or_default();
            if let (true, Some(Err(why))) = (looked_at, limit.map(|limit| indexes::check(text, limit))) {
                faults.invalid(
                    format!("status.{name}"),
                    &json!(text),
                    &format!("error parsing {name}: {why}"),
                );
            }
        }
        let text = completed.as_str().unwrap_or_default();
        if completed_changed
            && !text.is_empty()
            && fields::text(self.new, "/spec/completionMode") != "Indexed"
        {
            let detail = "cannot set non-empty completedIndexes when non-indexed completion mode";
            faults.invalid("status.completedIndexes", completed, detail);
        }
        if failed_changed && !failed.is_null() && !per_index {
            let detail = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
            faults.invalid("status.failedIndexes", failed, detail);
        }
        let both = limit.and_then(|limit| indexes::in_both(text, failed.as_str().unwrap_or_default(), limit));
        if let (true, Some(index)) = (completed_changed || failed_changed, both) {
            let detail = format!("failedIndexes and completedIndexes overlap at index: {index}");
            faults.invalid("status.failedIndexes", failed, &detail);
        }
    }

    /// Enough has succeeded: then it cannot fail any more.
    fn success(&self, faults: &mut Faults) {
        let met = self.holds("SuccessCriteriaMet");
        if met && self.holds("Failed") {
            faults.invalid_as_a_whole(
                CONDITIONS,
                "cannot set SuccessCriteriaMet=True and Failed=true conditions",
            );
        }
        if met && self.holds("FailureTarget") {
            let detail = "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions";
            faults.invalid_as_a_whole(CONDITIONS, detail);
        }
        let with_policy = self.new.pointer("/spec/successPolicy").is_some();
        if with_policy && !met && self.holds("Complete") {
            let detail = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
            faults.invalid_as_a_whole(CONDITIONS, detail);
        }
    }

    /// What was said holds, and what was counted stays counted.
    fn taken_back(&self, faults: &mut Faults) {
        for kind in ["Failed", "Complete", "FailureTarget"] {
            if self.held(kind) && !self.holds(kind) {
                let detail = format!("cannot disable the terminal {kind}=True condition");
                faults.invalid_as_a_whole(CONDITIONS, &detail);
            }
        }
        let (completions, parallelism) = ("/spec/completions", "/spec/parallelism");
        let elastic = fields::text(self.new, "/spec/completionMode") == "Indexed"
            && fields::int(self.new, completions) == fields::int(self.new, parallelism);
        for (count, free) in [("failed", false), ("succeeded", elastic)] {
            if !free && number(self.new, count) < number(self.old, count) {
                let detail = format!("cannot decrease the {count} counter");
                faults.invalid(format!("status.{count}"), &json!(number(self.new, count)), &detail);
            }
        }
        let (met, was_met) = (self.holds("SuccessCriteriaMet"), self.held("SuccessCriteriaMet"));
        if was_met && !met {
            faults.invalid_as_a_whole(CONDITIONS, "cannot disable the SuccessCriteriaMet=True condition");
        }
        if self.held("Complete") && !was_met && met {
            let detail = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
            faults.invalid_as_a_whole(CONDITIONS, detail);
        }
    }
}

/// A part of a status; an empty text, a zero and nothing at all are the same.
fn part<'a>(job: &'a Value, name: &str) -> &'a Value {
    let value = job.pointer(&format!("/status/{name}")).unwrap_or(&Value::Null);
    let empty = (name != "failedIndexes" && value == "")
        || value == 0
        || name == "uncountedTerminatedPods"
            && LISTS.iter().all(|list| fields::list(value, &format!("/{list}")).is_empty());
    if empty { &Value::Null } else { value }
}

#[cfg(test)]
mod tests;
