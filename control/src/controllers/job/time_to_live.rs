//! How long a job that has ended stays, whoever ran its pods.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What is left of its time; nothing is said of a job that goes on, or stays for ever, or goes already.
pub(super) fn left(job: &Job, now: Timestamp) -> Option<SignedDuration> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = |kind: &str| matches!(kind, "Complete" | "Failed");
    let end = conditions.iter().find(|condition| ended(&condition.type_) && condition.status == "True")?;
    let Time(at) = end.last_transition_time.as_ref()?;
    let left = SignedDuration::from_secs(seconds.into()) - now.duration_since(*at);
    job.metadata.deletion_timestamp.is_none().then_some(left.max(SignedDuration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn time_counts_from_the_end() {
        let job = |kind: &str, status: &str| -> Job {
            let condition =
                json!({"type": kind, "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"});
            let spec = json!({"ttlSecondsAfterFinished": 60, "template": {}});
            serde_json::from_value(
                json!({"metadata": {"name": "j"}, "spec": spec, "status": {"conditions": [condition]}}),
            )
            .unwrap()
        };
        let left = |job: &Job, now: &str| left(job, now.parse().unwrap()).map(|left| left.as_secs());
        assert_eq!(left(&job("Complete", "True"), "2026-01-01T00:00:20Z"), Some(40));
        assert_eq!(left(&job("Failed", "True"), "2026-01-01T00:02:00Z"), Some(0));
        assert_eq!(left(&job("Failed", "False"), "2026-01-01T00:02:00Z"), None);
        assert_eq!(left(&job("Suspended", "True"), "2026-01-01T00:02:00Z"), None);
    }
}
