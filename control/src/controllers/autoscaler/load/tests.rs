//! What metrics ask for: by usage, by amount, by what other servers say.

use super::super::readings::Found;
use super::*;
use serde_json::json;

fn sample(used: Option<&str>, ready: bool) -> Sample {
    let pod = json!({"metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}]},
        "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z", "conditions": [
            {"type": "Ready", "status": if ready { "True" } else { "False" }, "lastTransitionTime": "2026-01-01T00:00:10Z"}]}});
    let usage =
        used.map(|cpu| json!({"containers": [{"name": "c", "usage": {"cpu": cpu, "memory": "50Mi"}}]}));
    Sample { pod: serde_json::from_value(pod).unwrap(), usage }
}

fn spec(metrics: Value) -> HorizontalPodAutoscalerSpec {
    serde_json::from_value(
        json!({"maxReplicas": 10, "scaleTargetRef": {"kind": "D", "name": "d"}, "metrics": metrics}),
    )
    .unwrap()
}

fn facts(samples: &[Sample], replicas: i32) -> Facts<'_> {
    let now = "2026-01-01T00:01:00Z".parse().unwrap();
    let tolerance = Tolerance::of(&spec(json!([])));
    Facts { namespace: "ns", replicas, stated: replicas, samples, silent: None, now, tolerance }
}

fn own(share: i32) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": share}}}])
}

fn size(share: i32, samples: &[Sample], replicas: i32) -> Option<i32> {
    judge(&spec(own(share)), &[Reading::Own], &facts(samples, replicas)).wanted.map(|(size, _)| size)
}

#[test]
fn a_behavior_says_what_is_near_enough() {
    let sized = |used: &str, up: Value, down: Value| {
        let mut spec = spec(own(50));
        let behavior = json!({"scaleUp": {"tolerance": up}, "scaleDown": {"tolerance": down}});
        spec.behavior = serde_json::from_value(behavior).unwrap();
        let samples = [sample(Some(used), true), sample(Some(used), true), sample(Some(used), true)];
        let facts = Facts { tolerance: Tolerance::of(&spec), ..facts(&samples, 3) };
        judge(&spec, &[Reading::Own], &facts).wanted.map(|(size, _)| size)
    };
    for (used, up, down, size) in [
        ("54m", json!(null), json!(null), 3),
        ("54m", json!("0.05"), json!(null), 4),
        ("54m", json!(null), json!("0.05"), 3),
        ("30m", json!(null), json!("500m"), 3),
        ("30m", json!("1"), json!(null), 2),
    ] {
        assert_eq!(sized(used, up, down), Some(size), "{used}");
    }
}

#[test]
fn a_pod_speaks_for_its_containers() {
    let pod = |resources: Value| -> Pod {
        let containers = json!([{"name": "c", "resources": {"requests": {"cpu": "1"}}}, {"name": "d"}]);
        let spec = json!({"containers": containers, "resources": resources, "overhead": {"cpu": "1"}});
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    };
    let own = pod(json!({"requests": {"memory": "1"}}));
    assert_eq!(measured::requested(&own, "memory", None), Ok(1000));
    assert_eq!(measured::requested(&own, "cpu", None), Ok(2000));
    assert_eq!(measured::requested(&own, "cpu", Some("c")), Ok(1000));
    let missing = "missing pod-level request for hugepages-2Mi in Pod p".to_owned();
    assert_eq!(measured::requested(&own, "hugepages-2Mi", None), Err(missing));
    let silent = pod(json!(null));
    let missing = "missing request for cpu in container d of Pod p".to_owned();
    assert_eq!(measured::requested(&silent, "cpu", None), Err(missing));
}

#[test]
fn sizes_by_utilization() {
    let ready = |used| sample(Some(used), true);
    for (samples, replicas, expected) in [
        (vec![ready("100m")], 1, Some(2)),
        (vec![ready("52m")], 1, Some(1)),
        // Whole percent, and the tolerance with its bounds.
        (vec![ready("55m")], 1, Some(1)),
        (vec![ready("56m")], 1, Some(2)),
        (vec![ready("10m"), ready("10m")], 2, Some(1)),
        // One that does not report would be busy if fewer are asked for, idle if more are.
        (vec![ready("10m"), sample(None, true)], 2, Some(2)),
        (vec![ready("100m"), sample(None, true)], 2, Some(2)),
        // One that is starting does not count for more.
        (vec![ready("200m"), sample(Some("500m"), false)], 2, Some(4)),
        // Of none is anything known that counts.
        (vec![sample(None, true)], 1, None),
        (vec![sample(Some("500m"), false)], 1, None),
    ] {
        assert_eq!(size(50, &samples, replicas), expected);
    }
    // One that may use more than it requests is taken to do so.
    assert_eq!(size(200, &[ready("150m"), sample(None, true), ready("150m")], 3), Some(3));
    let samples = [ready("25m"), sample(Some("500m"), false)];
    let status = judge(&spec(own(50)), &[Reading::Own], &facts(&samples, 1)).metrics;
    let current = &status[0].resource.as_ref().unwrap().current;
    assert_eq!(
        (current.average_utilization, &current.average_value),
        (Some(25), &Some(Quantity("25m".into())))
    );
}

/// A pod that started at midnight, with the seconds after which its readiness last changed and it was measured.
fn started(ready: bool, changed: i64, measured: i64) -> Sample {
    let midnight: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let at = |seconds: i64| (midnight + jiff::SignedDuration::from_secs(seconds)).to_string();
    let mut one = sample(Some("200m"), ready);
    let conditions = one.pod.status.as_mut().unwrap().conditions.as_mut().unwrap();
    conditions[0].last_transition_time = Some(serde_json::from_value(at(changed).into()).unwrap());
    let usage = one.usage.as_mut().unwrap();
    usage["timestamp"] = at(measured).into();
    usage["window"] = "30s".into();
    one
}

#[test]
fn a_pod_counts_when_it_was_ready_while_it_was_measured() {
    let at = |seconds: i64| {
        let midnight: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        midnight + jiff::SignedDuration::from_secs(seconds)
    };
    for (sample, now, counts) in [
        (started(true, 10, 45), 60, true),
        // Its window began before it was ready.
        (started(true, 20, 45), 60, false),
        (started(true, 390, 400), 400, true),
        // It was ready once.
        (started(false, 350, 400), 400, true),
        (started(false, 20, 400), 400, false),
    ] {
        let samples = [sample];
        let facts = Facts { now: at(now), ..facts(&samples, 1) };
        assert_eq!(judge(&spec(own(50)), &[Reading::Own], &facts).wanted.is_some(), counts, "at {now}");
    }
}

fn failure(metrics: Value, reading: Reading, facts: &Facts<'_>) -> (&'static str, String, String) {
    let failure = judge(&spec(metrics), &[reading], facts).failures.remove(0);
    (failure.reason, failure.prefix, failure.message)
}

#[test]
fn sizes_by_amount_and_what_cannot_be_had() {
    let amount = json!([{"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "20Mi"}}}]);
    let samples = [sample(Some("1m"), true)];
    let verdict = judge(&spec(amount), &[Reading::Own], &facts(&samples, 1));
    assert_eq!(verdict.wanted, Some((3, "memory resource usage".to_owned())));
    let samples = [sample(None, true)];
    let unserved =
        "unable to fetch metrics from resource metrics API: the server could not find the requested resource";
    let silent = Facts { silent: Some(unserved), ..facts(&samples, 1) };
    let words = format!("failed to get cpu utilization: unable to get metrics for resource cpu: {unserved}");
    assert_eq!(failure(own(50), Reading::Own, &silent), ("FailedGetResourceMetric", String::new(), words));
    let none = "failed to get cpu utilization: unable to get metrics for resource cpu: no metrics returned from \
        resource metrics API";
    assert_eq!(failure(own(50), Reading::Own, &facts(&samples, 1)).2, none);
    let mut greedy = sample(Some("1m"), true);
    greedy.pod.spec.as_mut().unwrap().containers[0].resources = None;
    let words = "failed to get cpu utilization: missing request for cpu in container c of Pod p";
    assert_eq!(failure(own(50), Reading::Own, &facts(&[greedy], 1)).2, words);
}

#[test]
fn a_metric_that_is_missing_keeps_the_size_from_falling() {
    let mut metrics = own(50);
    metrics.as_array_mut().unwrap().insert(0, queue(json!({"type": "Value", "value": "10"})));
    let silent = || [Reading::Foreign(Err("x".into())), Reading::Own];
    for (used, expected) in [("200m", Some(4)), ("50m", Some(1)), ("10m", None)] {
        let samples = [sample(Some(used), true)];
        let replicas = if used == "10m" { 2 } else { 1 };
        let verdict = judge(&spec(metrics.clone()), &silent(), &facts(&samples, replicas));
        assert_eq!(verdict.wanted.map(|(size, _)| size), expected, "{used}");
        // Each stands in its own place.
        assert_eq!((verdict.metrics[0].type_.as_str(), verdict.metrics[1].type_.as_str()), ("", "Resource"));
    }
}

fn queue(target: Value) -> Value {
    let metric = json!({"name": "queue", "selector": {"matchLabels": {"q": "a"}}});
    json!({"type": "External", "external": {"metric": metric, "target": target}})
}

const SELECTOR: &str =
    "&LabelSelector{MatchLabels:map[string]string{q: a,},MatchExpressions:[]LabelSelectorRequirement{},}";

#[test]
fn sizes_by_what_is_outside() {
    let samples = [sample(None, true), sample(None, true), sample(None, false)];
    let facts = facts(&samples, 3);
    let external = |target: Value, amount: i64| {
        let found = Reading::Foreign(Ok(Found::Sum(amount)));
        let mut verdict = judge(&spec(json!([queue(target)])), &[found], &facts);
        let status = verdict.metrics.remove(0).external.unwrap().current;
        let amount = status.average_value.or(status.value).unwrap().0;
        let (size, name) = verdict.wanted.unwrap();
        assert_eq!(name, format!("external metric queue({SELECTOR})"));
        (size, amount)
    };
    let each = json!({"type": "AverageValue", "averageValue": "10"});
    assert_eq!(external(each.clone(), 31_000), (3, "10334m".to_owned()));
    assert_eq!(external(each.clone(), 61_000), (7, "20334m".to_owned()));
    assert_eq!(external(each.clone(), 0), (0, "0".to_owned()));
    let kept = json!({"type": "Value", "value": "10"});
    // For each of the two that are ready twice as many.
    assert_eq!(external(kept.clone(), 20_000), (4, "20".to_owned()));
    assert_eq!(external(kept.clone(), 11_000), (3, "11".to_owned()));
    let failed =
        |target: &Value| failure(json!([queue(target.clone())]), Reading::Foreign(Err("why".into())), &facts);
    let message = format!("unable to get external metric ns/queue/{SELECTOR}: why");
    let reason = "FailedGetExternalMetric";
    assert_eq!(failed(&each), (reason, "failed to get queue external metric: ".to_owned(), message.clone()));
    assert_eq!(failed(&kept), (reason, "failed to get external metric queue: ".to_owned(), message));
}

#[test]
fn sizes_by_metrics_of_pods_and_objects() {
    let samples = [sample(None, true), sample(None, false)];
    let facts = facts(&samples, 2);
    let rate = json!([{"type": "Pods", "pods": {"metric": {"name": "rate"}, "target": {"type": "AverageValue", "averageValue": "10"}}}]);
    let values = [("p".to_owned(), 25_000)].into();
    let verdict = judge(&spec(rate.clone()), &[Reading::Foreign(Ok(Found::Pods(values)))], &facts);
    assert_eq!(verdict.wanted, Some((5, "pods metric rate".to_owned())));
    let current = &verdict.metrics[0].pods.as_ref().unwrap().current;
    assert_eq!(current.average_value, Some(Quantity("25".into())));
    let message = "unable to get metric rate: why".to_owned();
    let failed = failure(rate, Reading::Foreign(Err("why".into())), &facts);
    assert_eq!(failed, ("FailedGetPodsMetric", String::new(), message));

    let object = |target: Value| {
        let described = json!({"kind": "Ingress", "name": "front", "apiVersion": "networking.k8s.io/v1"});
        json!([{"type": "Object", "object": {"metric": {"name": "hits"}, "describedObject": described, "target": target}}])
    };
    let found = || Reading::Foreign(Ok(Found::Sum(50_000)));
    let kept = object(json!({"type": "Value", "value": "10"}));
    let verdict = judge(&spec(kept.clone()), &[found()], &facts);
    assert_eq!(verdict.wanted, Some((5, "Ingress metric hits".to_owned())));
    let each = object(json!({"type": "AverageValue", "averageValue": "10"}));
    let verdict = judge(&spec(each), &[found()], &facts);
    assert_eq!(verdict.wanted, Some((5, "external metric hits(nil)".to_owned())));
    let message = "unable to get metric hits: Ingress on ns front/why".to_owned();
    let failed = failure(kept, Reading::Foreign(Err("why".into())), &facts);
    assert_eq!(failed, ("FailedGetObjectMetric", String::new(), message));
}
