//! Decisions of a job as tables, and its whole life against simulated pods.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T01:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn job(spec: Value, status: Value) -> Job {
    let mut whole = json!({"parallelism": 1, "backoffLimit": 6, "template": {"spec": {"containers": [], "restartPolicy": "Never"}}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let meta = json!({"name": "j", "namespace": "default", "uid": "u"});
    serde_json::from_value(json!({"metadata": meta, "spec": whole, "status": status})).unwrap()
}

fn pod(uid: &str, phase: &str, tracked: bool, index: Option<i32>) -> Arc<Pod> {
    let finalizers = if tracked { vec![tracking::FINALIZER] } else { vec![] };
    let annotations = index.map(|index| json!({template::INDEX: index.to_string()}));
    Arc::new(
        serde_json::from_value(json!({
            "metadata": {"name": uid, "uid": uid, "finalizers": finalizers, "annotations": annotations, "creationTimestamp": NOW},
            "status": {"phase": phase},
        }))
        .unwrap(),
    )
}

fn reason(plan: &Plan, kind: &str) -> String {
    conditions::holding(&plan.status, kind).and_then(|one| one.reason.clone()).unwrap_or_default()
}

#[test]
fn how_many_pods_start_and_stop() {
    let running = |count: usize| -> Vec<Arc<Pod>> {
        (0..count).map(|at| pod(&at.to_string(), "Running", true, None)).collect()
    };
    for (spec, active, succeeded, create, delete) in [
        (json!({"completions": 1}), 0, 0, 1, 0),
        (json!({"completions": 5, "parallelism": 3}), 1, 0, 2, 0),
        (json!({"completions": 5, "parallelism": 3}), 0, 4, 1, 0),
        (json!({"completions": 5, "parallelism": 1}), 3, 0, 0, 2),
        (json!({"parallelism": 3}), 1, 0, 2, 0),
        (json!({"parallelism": 3}), 2, 1, 0, 0),
        (json!({"completions": 5, "parallelism": 3, "suspend": true}), 2, 0, 0, 2),
    ] {
        let plan = plan(&job(spec.clone(), json!({"succeeded": succeeded})), &running(active), true, now());
        assert_eq!((plan.create.len(), plan.delete.len()), (create, delete), "{spec}");
    }
}

#[test]
fn pods_of_indexes_that_nobody_needs_go_first() {
    let indexed = |all: i32| json!({"completions": all, "parallelism": all, "completionMode": "Indexed"});
    let running = |uid: &str, index: Option<i32>| pod(uid, "Running", true, index);
    let five: Vec<Arc<Pod>> = (0..5).map(|at| running(&at.to_string(), Some(at))).collect();
    let waiting = pod("b", "Pending", true, Some(0));
    for (all, pods, deleted) in [
        (5, five.clone(), vec![]),
        (3, five, vec!["3", "4"]),
        (2, vec![running("a", Some(0)), waiting, running("c", Some(1))], vec!["b"]),
        // Another pod of that index comes as soon as this one is gone.
        (2, vec![running("a", Some(1)), running("b", None)], vec!["b"]),
    ] {
        let plan = plan(&job(indexed(all), json!({})), &pods, true, now());
        let mut names: Vec<String> =
            plan.delete.iter().map(|pod| pod.metadata.uid.clone().unwrap()).collect();
        names.sort();
        assert_eq!((names, plan.create.len()), (deleted.into_iter().map(str::to_owned).collect(), 0));
    }
}

#[test]
fn a_job_that_has_done_its_work_does_not_fail_any_more() {
    let met =
        json!({"type": "SuccessCriteriaMet", "status": "True", "reason": "SuccessPolicy", "message": "m"});
    let status = json!({"conditions": [met], "startTime": "2026-01-01T00:00:00Z"});
    let spec =
        json!({"completions": 2, "completionMode": "Indexed", "activeDeadlineSeconds": 5, "backoffLimit": 0});
    let late = plan(&job(spec, status), &[pod("a", "Failed", false, Some(1))], true, now());
    assert_eq!((reason(&late, "FailureTarget"), reason(&late, "Failed")), (String::new(), String::new()));
    assert_eq!(reason(&late, "Complete"), "SuccessPolicy");
}

#[test]
fn restarts_before_the_containers_count() {
    let spec = json!({"completions": 1, "backoffLimit": 2, "template": {"spec": {"containers": [], "restartPolicy": "OnFailure"}}});
    for (restarts, expected) in [(1, ""), (2, "BackoffLimitExceeded")] {
        let mut one = (*pod("a", "Pending", true, None)).clone();
        let init =
            json!([{"name": "i", "image": "i", "imageID": "", "ready": false, "restartCount": restarts}]);
        one.status.as_mut().unwrap().init_container_statuses = Some(serde_json::from_value(init).unwrap());
        let plan = plan(&job(spec.clone(), json!({})), &[Arc::new(one)], true, now());
        assert_eq!(reason(&plan, "FailureTarget"), expected);
    }
}

#[test]
fn a_pod_is_counted_in_three_steps() {
    let spec = json!({"completions": 1});
    let first = plan(&job(spec.clone(), json!({})), &[pod("a", "Succeeded", true, None)], true, now());
    let uncounted = first.status.uncounted_terminated_pods.clone().unwrap();
    assert_eq!((uncounted.succeeded, first.status.succeeded), (Some(vec!["a".to_owned()]), None));
    assert_eq!((first.release.len(), reason(&first, "Complete")), (1, String::new()));
    let status = serde_json::to_value(&first.status).unwrap();
    let second = plan(&job(spec, status), &[pod("a", "Succeeded", false, None)], true, now());
    assert_eq!(second.status.succeeded, Some(1));
    assert_eq!(reason(&second, "Complete"), "CompletionsReached");
    assert_eq!(second.events[0].2, "Job completed");
}

#[test]
fn reasons_to_fail() {
    let failed = [pod("a", "Failed", false, None)];
    let rule = json!({"rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]});
    let disrupted: Arc<Pod> = Arc::new(
        serde_json::from_value(
            json!({"metadata": {"name": "p", "namespace": "default"}, "status": {"phase": "Failed",
            "conditions": [{"type": "DisruptionTarget", "status": "True"}]}}),
        )
        .unwrap(),
    );
    for (spec, status, pods, expected) in [
        (json!({"backoffLimit": 0}), json!({"failed": 1}), &failed, "BackoffLimitExceeded"),
        (json!({"backoffLimit": 1}), json!({"failed": 1}), &failed, ""),
        (
            json!({"activeDeadlineSeconds": 5}),
            json!({"startTime": "2026-01-01T00:59:55Z"}),
            &failed,
            "DeadlineExceeded",
        ),
        (json!({"activeDeadlineSeconds": 5}), json!({"startTime": "2026-01-01T00:59:56Z"}), &failed, ""),
        (json!({"podFailurePolicy": rule}), json!({}), &[disrupted], "PodFailurePolicy"),
    ] {
        let plan = plan(&job(spec.clone(), status), pods, true, now());
        assert_eq!(reason(&plan, "FailureTarget"), expected, "{spec}");
        assert_eq!(reason(&plan, "Failed"), expected, "no pod is left: {spec}");
    }
}

#[test]
fn a_job_has_begun_as_soon_as_it_may_run() {
    const BEFORE: &str = "2026-01-01T00:00:00Z";
    let suspended = json!([{"type": "Suspended", "status": "True"}]);
    for (spec, status, start) in [
        (json!({"completions": 1}), json!({}), Some(NOW)),
        (json!({"completions": 0}), json!({}), Some(NOW)),
        (json!({"completions": 1}), json!({"startTime": BEFORE}), Some(BEFORE)),
        (json!({"completions": 1, "suspend": true}), json!({}), None),
        (json!({"completions": 1, "suspend": true}), json!({"startTime": BEFORE}), Some(BEFORE)),
        (json!({"completions": 1}), json!({"startTime": BEFORE, "conditions": suspended}), Some(NOW)),
    ] {
        let plan = plan(&job(spec.clone(), status.clone()), &[], true, now());
        let found = plan.status.start_time.map(|Time(at)| at.to_string());
        assert_eq!(found.as_deref(), start, "{spec} {status}");
    }
}

#[test]
fn a_job_on_its_way_out_is_still_judged() {
    let mut job = job(json!({"completions": 1}), json!({"succeeded": 1}));
    job.metadata.deletion_timestamp = Some(Time(now()));
    assert_eq!(reason(&plan(&job, &[], true, now()), "Complete"), "CompletionsReached");
    job.status = None;
    assert!(plan(&job, &[], true, now()).create.is_empty(), "no pod starts for it");
}

#[test]
fn failures_delay_the_next_pod() {
    let failed = |count: usize| -> Vec<Arc<Pod>> {
        (0..count).map(|at| pod(&at.to_string(), "Failed", false, None)).collect()
    };
    for (count, seconds) in [(1, 10), (2, 20), (4, 80)] {
        let plan = plan(&job(json!({"completions": 1}), json!({})), &failed(count), true, now());
        assert!(plan.create.is_empty());
        assert_eq!(plan.next, Next::After(Duration::from_secs(seconds)));
    }
}

#[test]
fn indexes_are_filled_and_may_fail() {
    let spec =
        json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed", "backoffLimitPerIndex": 0});
    let pods = [pod("a", "Running", true, Some(0)), pod("b", "Succeeded", true, Some(2))];
    let first = plan(&job(spec.clone(), json!({})), &pods, true, now());
    assert_eq!(first.create, [Some(1), Some(3)]);
    assert_eq!(first.status.completed_indexes.as_deref(), Some("2"));
    let failed = [pod("a", "Failed", false, Some(0))];
    let status = json!({"completedIndexes": "1-3", "succeeded": 3, "failed": 1});
    let last = plan(&job(spec, status), &failed, true, now());
    assert_eq!(reason(&last, "Failed"), "FailedIndexes");
    assert_eq!(last.status.failed_indexes.as_deref(), Some("0"));
}

#[test]
fn an_index_that_failed_waits_for_itself() {
    let spec = json!({"completions": 4, "parallelism": 3, "completionMode": "Indexed", "backoffLimitPerIndex": 2,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]}});
    let failed = |uid: &str, failures: &str, ended: &str, condition: &str| {
        let mut pod = Pod::clone(&pod(uid, "Failed", true, Some(1)));
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert("batch.kubernetes.io/job-index-failure-count".to_owned(), failures.to_owned());
        let state = json!({"terminated": {"exitCode": 1, "finishedAt": ended}});
        let container = json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let conditions = json!([{"type": condition, "status": "True"}]);
        let status = json!({"phase": "Failed", "containerStatuses": [container], "conditions": conditions});
        pod.status = serde_json::from_value(status).unwrap();
        Arc::new(pod)
    };
    let running = pod("a", "Running", true, Some(0));
    let once = [running.clone(), failed("b", "0", "2026-01-01T00:59:55Z", "Ready")];
    let first = plan(&job(spec.clone(), json!({})), &once, true, now());
    assert_eq!((first.create, first.next), (vec![Some(2)], Next::After(Duration::from_secs(5))));
    assert!(first.release.is_empty(), "its successor must learn from it");
    let later = "2026-01-01T01:00:05Z".parse().unwrap();
    let next = plan(&job(spec.clone(), json!({})), &once, true, later);
    assert_eq!(next.create, [Some(1), Some(2)]);
    let made = template::pod(&job(spec.clone(), json!({})), Some(1), next.failures_of(Some(1)));
    assert_eq!(template::failures_of(&made), Failures { counted: 1, ignored: 0 });
    let replaced = [running.clone(), once[1].clone(), pod("c", "Running", true, Some(1))];
    assert_eq!(plan(&job(spec.clone(), json!({})), &replaced, true, later).release.len(), 1);
    let third = [running.clone(), failed("d", "2", "2026-01-01T00:59:55Z", "Ready")];
    let status = plan(&job(spec.clone(), json!({})), &third, true, later).status;
    assert_eq!(status.failed_indexes.as_deref(), Some("1"), "earlier pods need not be there");
    let moved = [running, failed("e", "2", "2026-01-01T00:59:00Z", "DisruptionTarget")];
    let evicted = plan(&job(spec, json!({})), &moved, true, later);
    assert_eq!(
        (evicted.status.failed_indexes.as_deref(), evicted.create),
        (Some(""), vec![Some(1), Some(2)])
    );
    assert_eq!(evicted.failures.unwrap().failures(1), Failures { counted: 2, ignored: 1 });
}

#[test]
fn the_time_to_live_counts_from_the_end() {
    let ended = json!({"conditions": [{"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:59:00Z"}]});
    for (ttl, expired, next) in
        [(60, true, Next::After(Duration::ZERO)), (90, false, Next::After(Duration::from_secs(30)))]
    {
        let plan = plan(&job(json!({"ttlSecondsAfterFinished": ttl}), ended.clone()), &[], true, now());
        assert_eq!((plan.expired, plan.next), (expired, next));
    }
}

#[test]
fn a_success_policy_ends_a_job_early() {
    for (rule, succeeds) in [
        (json!({"succeededIndexes": "0,2"}), true),
        (json!({"succeededIndexes": "0-2"}), false),
        (json!({"succeededCount": 2}), true),
        (json!({"succeededIndexes": "1-4", "succeededCount": 2}), false),
    ] {
        let spec = json!({"completions": 5, "parallelism": 5, "completionMode": "Indexed", "successPolicy": {"rules": [rule]}});
        let pods = [
            pod("a", "Succeeded", true, Some(0)),
            pod("b", "Succeeded", true, Some(2)),
            pod("c", "Running", true, Some(3)),
        ];
        let plan = plan(&job(spec, json!({})), &pods, true, now());
        let met = conditions::holding(&plan.status, "SuccessCriteriaMet");
        assert_eq!(met.is_some(), succeeds, "{rule}");
        if let Some(met) = met {
            assert_eq!(met.message.as_deref(), Some("Matched rules at index 0"));
            assert_eq!(plan.delete.len(), 1, "those that still run are ended");
        }
    }
}

proptest! {
    /// Whatever the order in which pods end and disappear, a job ends with exactly its completions.
    #[test]
    fn a_job_ends_with_its_completions(
        completions in 1..6_i32,
        parallelism in 1..4_i32,
        indexed: bool,
        choices in proptest::collection::vec((0..8_usize, any::<bool>()), 200),
    ) {
        let table = crate::registry::Table::builtin();
        let rules = table.find("batch", "v1", "jobs").unwrap();
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let spec = json!({"completions": completions, "parallelism": parallelism, "completionMode": mode});
        let mut job = job(spec, json!({}));
        let (mut pods, mut made): (Vec<Arc<Pod>>, usize) = (Vec::new(), 0);
        for (at, vanish) in choices {
            let plan = plan(&job, &pods, true, now());
            prop_assert!(plan.status.active.unwrap_or(0) <= parallelism);
            let before = serde_json::to_value(&job).unwrap();
            job.status = Some(plan.status);
            let refused = rules.strategy.validate_status_update(&serde_json::to_value(&job).unwrap(), &before);
            prop_assert_eq!(refused, Vec::new(), "what the server takes from others");
            let gone: Vec<String> = plan.delete.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
            pods.retain(|pod| !gone.contains(pod.metadata.uid.as_ref().unwrap()));
            for ended in plan.release {
                let uid = ended.metadata.uid.clone().unwrap();
                pods.retain(|pod| pod.metadata.uid.as_ref() != Some(&uid));
                if !vanish {
                    pods.push(pod(&uid, "Succeeded", false, template::index_of(&ended)));
                }
            }
            for index in plan.create {
                made += 1;
                pods.push(pod(&made.to_string(), "Running", true, index));
            }
            let running: Vec<usize> = (0..pods.len()).filter(|at| pods::is_active(&pods[*at])).collect();
            if let Some(at) = running.get(at % running.len().max(1)) {
                let uid = pods[*at].metadata.uid.clone().unwrap();
                pods[*at] = pod(&uid, "Succeeded", true, template::index_of(&pods[*at]));
            }
        }
        prop_assert!(conditions::ended(&job).is_some());
        prop_assert_eq!(job.status.unwrap().succeeded, Some(completions));
    }
}
