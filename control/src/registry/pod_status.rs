//! What a pod is doing, in the words of `kubectl get pods`: one word made from phase, conditions and the state of every
//! container, which people know better than any of its sources.

use super::{cells, fields};
use jiff::Timestamp;
use serde_json::Value;

/// The cells that containers decide.
struct Summary {
    ready: usize,
    total: usize,
    status: String,
    restarts: i64,
    /// RFC 3339; empty when nothing was restarted.
    last_restart: String,
}

/// `1/2`
pub(super) fn ready(pod: &Value) -> String {
    let summary = summarize(pod);
    format!("{}/{}", summary.ready, summary.total)
}

/// `Running`, `Init:0/1`, `CrashLoopBackOff`, `Terminating`, ...
pub(super) fn status(pod: &Value) -> String {
    summarize(pod).status
}

/// `3 (5m ago)`
pub(super) fn restarts(pod: &Value, now: Timestamp) -> String {
    let summary = summarize(pod);
    if summary.restarts == 0 || summary.last_restart.is_empty() {
        return summary.restarts.to_string();
    }
    format!("{} ({} ago)", summary.restarts, cells::since(&summary.last_restart, now))
}

fn summarize(pod: &Value) -> Summary {
    let mut summary = Summary {
        ready: 0,
        total: fields::list(pod, "/spec/containers").len() + sidecars(pod).count(),
        status: phase(pod),
        restarts: 0,
        last_restart: String::new(),
    };
    let initializing = init_containers(pod, &mut summary);
    if !initializing || cells::condition_holds(pod, "Initialized") {
        containers(pod, &mut summary);
    }
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        match (fields::text(pod, "/status/reason"), fields::text(pod, "/status/phase")) {
            ("NodeLost", _) => summary.status = "Unknown".to_owned(),
            (_, "Succeeded" | "Failed") => {}
            _ => summary.status = "Terminating".to_owned(),
        }
    }
    summary
}

fn phase(pod: &Value) -> String {
    let gated = cells::condition(pod, "PodScheduled")
        .is_some_and(|condition| fields::text(condition, "/reason") == "SchedulingGated");
    match (gated, fields::text(pod, "/status/reason")) {
        (true, _) => "SchedulingGated".to_owned(),
        (false, "") => fields::text(pod, "/status/phase").to_owned(),
        (false, reason) => reason.to_owned(),
    }
}

/// Init containers that keep running beside the others.
fn sidecars(pod: &Value) -> impl Iterator<Item = &Value> {
    let all = fields::list(pod, "/spec/initContainers").iter();
    all.filter(|container| fields::text(container, "/restartPolicy") == "Always")
}

fn is_sidecar(pod: &Value, status: &Value) -> bool {
    sidecars(pod).any(|container| container.get("name") == status.get("name"))
}

/// Counts the init containers; `true` while one of them holds up the pod.
fn init_containers(pod: &Value, summary: &mut Summary) -> bool {
    let statuses = fields::list(pod, "/status/initContainerStatuses");
    let planned = fields::list(pod, "/spec/initContainers").len();
    for (index, status) in statuses.iter().enumerate() {
        count_restarts(status, summary);
        let ended = status.pointer("/state/terminated");
        if ended.is_some_and(|ended| fields::int(ended, "/exitCode").unwrap_or(0) == 0) {
            continue;
        }
        if is_sidecar(pod, status) && fields::flag(status, "/started") {
            summary.ready += usize::from(fields::flag(status, "/ready"));
            continue;
        }
        summary.status = format!("Init:{}", init_reason(status, index, planned));
        return true;
    }
    false
}

fn init_reason(status: &Value, index: usize, planned: usize) -> String {
    if let Some(ended) = status.pointer("/state/terminated") {
        return match fields::text(ended, "/reason") {
            "" => exit_reason(ended),
            reason => reason.to_owned(),
        };
    }
    match fields::text(status, "/state/waiting/reason") {
        "" | "PodInitializing" => format!("{index}/{planned}"),
        reason => reason.to_owned(),
    }
}

fn exit_reason(ended: &Value) -> String {
    match fields::int(ended, "/signal").unwrap_or(0) {
        0 => format!("ExitCode:{}", fields::int(ended, "/exitCode").unwrap_or(0)),
        signal => format!("Signal:{signal}"),
    }
}

/// Once initialized, the restarts that count are those of containers that go on: of the init containers the sidecars.
fn containers(pod: &Value, summary: &mut Summary) {
    summary.restarts = 0;
    summary.last_restart.clear();
    for status in
        fields::list(pod, "/status/initContainerStatuses").iter().filter(|status| is_sidecar(pod, status))
    {
        count_restarts(status, summary);
    }
    let mut has_running = false;
    for status in fields::list(pod, "/status/containerStatuses").iter().rev() {
        count_restarts(status, summary);
        let ended = status.pointer("/state/terminated");
        let waiting = fields::text(status, "/state/waiting/reason");
        if !waiting.is_empty() {
            summary.status = waiting.to_owned();
        } else if let Some(ended) = ended {
            let reason = fields::text(ended, "/reason");
            summary.status = if reason.is_empty() { exit_reason(ended) } else { reason.to_owned() };
        } else if fields::flag(status, "/ready") && status.pointer("/state/running").is_some() {
            has_running = true;
            summary.ready += 1;
        }
    }
    if summary.status == "Completed" && has_running {
        let ready = cells::condition_holds(pod, "Ready");
        summary.status = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

/// Timestamps in RFC 3339 and UTC sort as texts.
fn count_restarts(status: &Value, summary: &mut Summary) {
    summary.restarts += fields::int(status, "/restartCount").unwrap_or(0);
    let last = fields::text(status, "/lastState/terminated/finishedAt");
    if last > summary.last_restart.as_str() {
        last.clone_into(&mut summary.last_restart);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(status: Value) -> Value {
        json!({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}, "status": status})
    }

    #[test]
    fn the_status_column_says_what_kubectl_says() {
        let running = json!({"ready": true, "state": {"running": {}}});
        let crashing = json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}});
        let completed = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
        let killed = json!({"state": {"terminated": {"exitCode": 137, "signal": 9}}});
        let table = [
            (json!({"phase": "Pending"}), "0/2", "Pending"),
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
                "0/2",
                "SchedulingGated",
            ),
            (
                json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}),
                "0/2",
                "ContainerCreating",
            ),
            (json!({"phase": "Running", "containerStatuses": [running, running]}), "2/2", "Running"),
            (
                json!({"phase": "Running", "containerStatuses": [running, crashing]}),
                "1/2",
                "CrashLoopBackOff",
            ),
            (json!({"phase": "Running", "containerStatuses": [completed, running]}), "1/2", "NotReady"),
            (json!({"phase": "Succeeded", "containerStatuses": [completed, completed]}), "0/2", "Completed"),
            (json!({"phase": "Failed", "containerStatuses": [killed]}), "0/2", "Signal:9"),
            (json!({"phase": "Failed", "reason": "Evicted"}), "0/2", "Evicted"),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
                "0/2",
                "Init:0/1",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 1, "reason": "Error"}}}]}),
                "0/2",
                "Init:Error",
            ),
        ];
        for (status_value, ready_cell, status_cell) in table {
            let pod = pod(status_value);
            assert_eq!((ready(&pod).as_str(), status(&pod).as_str()), (ready_cell, status_cell), "{pod}");
        }
    }

    #[test]
    fn restarts_say_when_the_last_one_was() {
        let crashing = json!({"phase": "Running", "containerStatuses": [{"restartCount": 3, "state": {"running": {}},
            "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z"}}}]});
        let now = "2026-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(restarts(&pod(crashing), now), "3 (5m ago)");
        assert_eq!(restarts(&pod(json!({"phase": "Running"})), now), "0");
    }

    #[test]
    fn a_deleted_pod_is_terminating_until_it_has_ended() {
        let mut deleted = pod(json!({"phase": "Running"}));
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(status(&deleted), "Terminating");
        deleted["status"]["phase"] = json!("Succeeded");
        assert_eq!(status(&deleted), "Succeeded");
    }
}
