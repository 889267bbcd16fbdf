//! Starts, policies and histories as tables.

use super::*;
use serde_json::{Value, json};

const CREATED: &str = "2026-01-01T00:00:30Z";

fn cron(spec: Value, status: Value) -> CronJob {
    let mut whole = json!({"schedule": "*/5 * * * *", "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    let meta = json!({"name": "c", "namespace": "n", "uid": "cron", "creationTimestamp": CREATED});
    serde_json::from_value(json!({"metadata": meta, "spec": whole, "status": status})).unwrap()
}

fn job(name: &str, condition: Option<&str>, start: &str) -> Arc<Job> {
    let conditions = condition.map(|kind| json!([{"type": kind, "status": "True"}]));
    let done = condition.filter(|kind| *kind == "Complete").map(|_| "2026-01-01T00:06:00Z");
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "n", "uid": name},
        "status": {"conditions": conditions, "startTime": start, "completionTime": done}}))
        .unwrap(),
    )
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn reasons(plan: &Plan) -> Vec<&'static str> {
    plan.events.iter().map(|(_, reason, _)| *reason).collect()
}

#[test]
fn a_due_time_makes_one_job_named_after_it() {
    let cron = cron(json!({}), json!({}));
    let early = plan(&cron, &[], at("2026-01-01T00:04:59Z"));
    assert!(early.create.is_none());
    assert_eq!(early.next, Next::After(Duration::from_millis(1100)));
    let mut due = plan(&cron, &[], at("2026-01-01T00:05:00.2Z"));
    let job = due.create.take().unwrap();
    assert_eq!(job.name_any(), format!("c-{}", at("2026-01-01T00:05:00Z").as_second() / 60));
    assert_eq!(job.annotations()[SCHEDULED], "2026-01-01T00:05:00Z");
    assert_eq!((job.labels()["a"].as_str(), job.owner_references()[0].uid.as_str()), ("b", "cron"));
    due.started(&job);
    assert_eq!(due.status.last_schedule_time, Some(Time(at("2026-01-01T00:05:00Z"))));
    assert_eq!(due.status.active.unwrap().len(), 1);
}

#[test]
fn a_time_that_was_served_is_not_served_again() {
    let served = cron(json!({}), json!({"lastScheduleTime": "2026-01-01T00:05:00Z"}));
    assert!(plan(&served, &[], at("2026-01-01T00:09:00Z")).create.is_none());
    assert!(plan(&served, &[], at("2026-01-01T00:10:00Z")).create.is_some());
}

#[test]
fn policies() {
    let active =
        json!({"lastScheduleTime": "2026-01-01T00:05:00Z", "active": [{"name": "c-1", "uid": "c-1"}]});
    let running = [job("c-1", None, CREATED)];
    let now = at("2026-01-01T00:10:00Z");
    let with =
        |policy: &str| plan(&cron(json!({"concurrencyPolicy": policy}), active.clone()), &running, now);
    let allow = with("Allow");
    assert!(allow.create.is_some() && allow.delete.is_empty());
    let forbid = with("Forbid");
    assert!(forbid.create.is_none());
    assert_eq!(reasons(&forbid), ["JobAlreadyActive"]);
    let replace = with("Replace");
    assert!(replace.create.is_some());
    assert_eq!(replace.delete[0].name_any(), "c-1");
    assert_eq!(replace.status.active, None);
}

#[test]
fn suspended_late_and_wrong_ones_start_nothing() {
    let now = at("2026-01-01T00:09:00Z");
    let case = |spec: Value| plan(&cron(spec, json!({})), &[], now);
    for (spec, reason) in [
        (json!({"suspend": true}), vec![]),
        (json!({"schedule": "x"}), vec!["UnparseableSchedule"]),
        (json!({"schedule": "59 23 31 2 *"}), vec!["InvalidSchedule"]),
        (json!({"timeZone": "Nowhere/Here"}), vec!["UnknownTimeZone"]),
        (json!({"startingDeadlineSeconds": 60}), vec![]),
    ] {
        let plan = case(spec.clone());
        assert!(plan.create.is_none(), "{spec}");
        assert_eq!(reasons(&plan), reason, "{spec}");
    }
    assert!(case(json!({"startingDeadlineSeconds": 600})).create.is_some());
}

#[test]
fn every_so_often_is_counted_from_the_start_before() {
    let every = |status: Value| cron(json!({"schedule": "@every 10m"}), status);
    let wait = |status: Value, now: &str| plan(&every(status), &[], at(now)).next;
    let after = |seconds: u64| Next::After(Duration::from_millis(seconds * 1000 + 100));
    assert_eq!(wait(json!({}), "2026-01-01T00:05:30Z"), after(300));
    let served = json!({"lastScheduleTime": "2026-01-01T00:10:30Z"});
    assert_eq!(wait(served.clone(), "2026-01-01T00:11:30Z"), after(540));
    let late = plan(&every(served), &[], at("2026-01-01T00:43:30Z"));
    assert_eq!(late.create.unwrap().annotations()[SCHEDULED], "2026-01-01T00:40:30Z");
    assert_eq!(late.next, after(420));
}

#[test]
fn many_missed_times_are_told_and_the_last_is_served() {
    let plan = plan(&cron(json!({}), json!({})), &[], at("2026-01-02T00:03:00Z"));
    assert_eq!(reasons(&plan), ["TooManyMissedTimes"]);
    assert_eq!(plan.create.unwrap().annotations()[SCHEDULED], "2026-01-02T00:00:00Z");
}

#[test]
fn histories_keep_the_newest() {
    let jobs = [
        job("a", Some("Complete"), "2026-01-01T00:01:00Z"),
        job("b", Some("Complete"), "2026-01-01T00:02:00Z"),
        job("c", Some("Failed"), "2026-01-01T00:01:00Z"),
        job("d", Some("Failed"), "2026-01-01T00:02:00Z"),
    ];
    let limits = json!({"suspend": true, "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    let active = json!({"active": [{"name": "b", "uid": "b"}, {"name": "z", "uid": "z"}]});
    let plan = plan(&cron(limits, active), &jobs, at("2026-01-01T00:04:00Z"));
    let gone: Vec<String> = plan.delete.iter().map(|job| job.name_any()).collect();
    assert_eq!(gone, ["a", "c", "d"]);
    assert_eq!(reasons(&plan), ["SawCompletedJob", "MissingJob"]);
    assert_eq!(plan.status.active, None);
    assert_eq!(plan.status.last_successful_time, Some(Time(at("2026-01-01T00:06:00Z"))));
}

#[test]
fn what_copies_disagree_about_is_looked_at_again() {
    let served = |active: Value| json!({"lastScheduleTime": "2026-01-01T00:05:00Z", "active": active});
    let now = at("2026-01-01T00:06:00Z");
    let gone = plan(&cron(json!({}), served(json!([{"name": "c-1", "uid": "c-1"}]))), &[], now);
    assert_eq!((reasons(&gone), gone.surprised), (vec!["MissingJob"], true));
    let running = [job("c-1", None, "2026-01-01T00:05:00Z")];
    let unknown = plan(&cron(json!({}), served(json!([]))), &running, now);
    assert_eq!((reasons(&unknown), unknown.surprised), (vec!["UnexpectedJob"], true));
    assert!(!plan(&cron(json!({}), served(json!([{"name": "c-1", "uid": "c-1"}]))), &running, now).surprised);
}
