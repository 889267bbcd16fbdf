//! Tables: a job's status as it was, as it is to be, and the words that refuse that.

use super::*;

const START: &str = "2026-01-01T00:00:00Z";
const END: &str = "2026-01-01T00:01:00Z";

fn told(spec: &Value, before: &Value, after: &Value) -> Vec<String> {
    let job = |status: &Value| json!({"spec": spec, "status": status});
    let mut faults = Faults::default();
    validate(&job(after), &job(before), &mut faults);
    let causes = faults.into_causes().into_iter();
    causes.map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

fn holding(kinds: &[&str], more: Value) -> Value {
    let conditions: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind, "status": "True"})).collect();
    let mut status = json!({"startTime": START, "conditions": conditions});
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    status
}

/// A plain job of one pod unless said otherwise.
fn plain() -> Value {
    json!({"completions": 1, "parallelism": 1, "completionMode": "NonIndexed", "suspend": false})
}

#[test]
fn a_job_may_go_the_usual_way() {
    let started = json!({"startTime": START, "active": 1, "ready": 1, "terminating": 0});
    let met = holding(&["SuccessCriteriaMet"], json!({"uncountedTerminatedPods": {"succeeded": ["u"]}}));
    let complete = holding(
        &["SuccessCriteriaMet", "Complete"],
        json!({"completionTime": END, "succeeded": 1, "uncountedTerminatedPods": {}}),
    );
    let doomed = holding(&["FailureTarget"], json!({"failed": 1}));
    let failed = holding(&["FailureTarget", "Failed"], json!({"failed": 1}));
    for (before, after) in [
        (&json!({}), &started),
        (&started, &met),
        (&met, &complete),
        (&complete, &complete),
        (&started, &doomed),
        (&doomed, &failed),
    ] {
        assert_eq!(told(&plain(), before, after), Vec::<String>::new(), "{before} {after}");
    }
}

#[test]
fn an_end_is_said_in_order_and_once() {
    let met = holding(&["SuccessCriteriaMet"], json!({}));
    let complete = |more: Value| holding(&["SuccessCriteriaMet", "Complete"], more);
    let done = complete(json!({"completionTime": END}));
    let table = [
        (
            json!({}),
            holding(&["Complete"], json!({"completionTime": END})),
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (
            json!({}),
            holding(&["Failed"], json!({})),
            "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            met.clone(),
            complete(json!({})),
            "status.completionTime: Required value: completionTime is required for Complete jobs",
        ),
        (
            met.clone(),
            complete(json!({"completionTime": END, "startTime": null})),
            "status.startTime: Required value: startTime is required for finished job",
        ),
        (
            met.clone(),
            complete(json!({"completionTime": "2025-01-01T00:00:00Z"})),
            "status.completionTime: Invalid value: \"2025-01-01T00:00:00Z\": must be equal to or after `startTime`",
        ),
        (
            met.clone(),
            complete(json!({"completionTime": END, "active": 1})),
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ),
        (
            met.clone(),
            complete(json!({"completionTime": END, "terminating": 1})),
            "status.terminating: Invalid value: 1: terminating>0 is invalid for finished job",
        ),
        (
            met.clone(),
            complete(json!({"completionTime": END, "uncountedTerminatedPods": {"failed": ["u"]}})),
            "status.uncountedTerminatedPods: Invalid value: {\"Succeeded\":null,\"Failed\":[\"u\"]}: must be empty for finished job",
        ),
        (
            met.clone(),
            holding(&["SuccessCriteriaMet", "FailureTarget"], json!({})),
            "status.conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            met.clone(),
            holding(&[], json!({})),
            "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ),
        (
            met.clone(),
            holding(&["SuccessCriteriaMet"], json!({"completionTime": END})),
            "status.completionTime: Invalid value: \"2026-01-01T00:01:00Z\": cannot set completionTime when there is no Complete=True condition",
        ),
        (
            done.clone(),
            complete(json!({"completionTime": START})),
            "status.completionTime: Invalid value: \"2026-01-01T00:00:00Z\": field is immutable",
        ),
        (
            done.clone(),
            holding(&["SuccessCriteriaMet"], json!({})),
            "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
        ),
        (
            holding(&["FailureTarget", "Failed"], json!({})),
            holding(&["FailureTarget"], json!({})),
            "status.conditions: Invalid value: cannot disable the terminal Failed=True condition",
        ),
    ];
    for (before, after, words) in table {
        let found = told(&plain(), &before, &after);
        assert!(found.iter().any(|found| found == words), "{before} {after}: {found:?}");
    }
}

#[test]
fn numbers_fit_each_other() {
    let table = [
        (
            json!({}),
            json!({"active": -1}),
            "status.active: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            json!({}),
            json!({"active": 1, "ready": 2}),
            "status.ready: Invalid value: 2: cannot set more ready pods than active",
        ),
        (
            json!({"failed": 2}),
            json!({"failed": 1}),
            "status.failed: Invalid value: 1: cannot decrease the failed counter",
        ),
        (
            json!({"succeeded": 2}),
            json!({}),
            "status.succeeded: Invalid value: 0: cannot decrease the succeeded counter",
        ),
        (
            json!({"startTime": START}),
            json!({}),
            "status.startTime: Required value: startTime cannot be removed for unsuspended job",
        ),
        (
            json!({}),
            json!({"uncountedTerminatedPods": {"succeeded": ["u"], "failed": ["u"]}}),
            "status.uncountedTerminatedPods.failed[0]: Duplicate value: \"u\"",
        ),
        (
            json!({}),
            json!({"completedIndexes": "0"}),
            "status.completedIndexes: Invalid value: \"0\": cannot set non-empty completedIndexes when non-indexed completion mode",
        ),
        (
            json!({}),
            json!({"failedIndexes": ""}),
            "status.failedIndexes: Invalid value: \"\": cannot set non-null failedIndexes when backoffLimitPerIndex is null",
        ),
    ];
    for (before, after, words) in table {
        assert_eq!(told(&plain(), &before, &after), [words], "{before} {after}");
    }
}

#[test]
fn indexes_are_told_apart() {
    let spec =
        json!({"completions": 4, "parallelism": 2, "completionMode": "Indexed", "backoffLimitPerIndex": 1});
    let overlap =
        "status.failedIndexes: Invalid value: \"1\": failedIndexes and completedIndexes overlap at index: 1";
    let table = [
        (json!({"completedIndexes": "0,2", "failedIndexes": "1"}), ""),
        (json!({"completedIndexes": "0-2", "failedIndexes": "1"}), overlap),
        (
            json!({"completedIndexes": "4"}),
            "status.completedIndexes: Invalid value: \"4\": error parsing completedIndexes: too large index: \"4\"",
        ),
        (
            json!({"failedIndexes": "a"}),
            "status.failedIndexes: Invalid value: \"a\": error parsing failedIndexes: cannot convert string to integer for index: \"a\"",
        ),
    ];
    for (after, words) in table {
        assert_eq!(told(&spec, &json!({}), &after).join(", "), words, "{after}");
        assert!(told(&spec, &after, &after).is_empty(), "what was so before can stay: {after}");
    }
    let mut elastic = spec;
    elastic["parallelism"] = json!(4);
    assert!(told(&elastic, &json!({"succeeded": 3}), &json!({"succeeded": 2})).is_empty());
}
