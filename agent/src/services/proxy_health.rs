//! The service proxy's own health, as load balancers and their controllers ask kube-proxy for it on port 10256.
//!
//! `/healthz` says whether new connections may be sent to this node: the rules are those of now, and the node stays. One
//! that is being deleted, or that the cluster's autoscaler is about to remove, is to be drained; its endpoints go on
//! serving. `/livez` says whether the proxy works, whatever becomes of the node.

use super::http_answers::{self, Answer};
use http::StatusCode;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// The taint that a node gets before it is removed.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";
/// Changes that are not in force for so long are a failure.
const LATE: Duration = Duration::from_secs(60);
/// Another node of this machine may have the port, and end.
const RETRY: Duration = Duration::from_secs(5);

/// What the answers are made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// When the rules were last written; never at first, which is no failure.
    updated: Option<Timestamp>,
    /// Since when they are not what they should be.
    pending: Option<Timestamp>,
    /// The node is to go.
    leaving: bool,
}

impl Health {
    /// The rules were written, or not.
    pub(super) fn committed(&mut self, succeeded: bool, now: Timestamp) {
        if succeeded {
            (self.updated, self.pending) = (Some(now), None);
        } else {
            self.pending.get_or_insert(now);
        }
    }

    pub(super) fn follow(&mut self, node: Option<&Node>) {
        let Some(node) = node else { return };
        let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
        self.leaving = node.metadata.deletion_timestamp.is_some()
            || taints.into_iter().any(|taint| taint.key == TO_BE_DELETED);
    }

    fn is_late(&self, now: Timestamp) -> bool {
        self.pending
            .is_some_and(|since| Duration::try_from(now.duration_since(since)).is_ok_and(|age| age >= LATE))
    }

    fn answer(&self, path: &str, now: Timestamp) -> Answer {
        let (is_well, eligible) = match path {
            "/healthz" => {
                (!self.is_late(now) && !self.leaving, format!(", \"nodeEligible\": {}", !self.leaving))
            }
            "/livez" => (!self.is_late(now), String::new()),
            _ => return http_answers::plain(StatusCode::NOT_FOUND, "404 page not found\n"),
        };
        // While all is well the time of the last update is now, as it always was.
        let updated = if is_well { Some(now) } else { self.updated };
        let (updated, now) = (updated.map_or_else(never, in_words), in_words(now));
        http_answers::json(
            is_well,
            format!("{{\"lastUpdated\": \"{updated}\",\"currentTime\": \"{now}\"{eligible}}}"),
        )
    }
}

/// As Go prints a time.
fn in_words(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.f +0000 UTC").to_string()
}

fn never() -> String {
    "0001-01-01 00:00:00 +0000 UTC".to_owned()
}

/// Answers at the address for as long as it runs; port 0 is none. A port that somebody has is asked for again.
pub(super) async fn serve(address: SocketAddr, health: watch::Receiver<Health>) {
    if address.port() == 0 {
        return std::future::pending().await;
    }
    let mut complained = false;
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) if !complained => {
                tracing::warn!(%address, %error, "health of the service proxy is not answered");
                complained = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(RETRY).await;
    };
    http_answers::serve(listener, move |path| health.borrow().answer(path, Timestamp::now())).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use serde_json::{Value, json};

    async fn asked(health: &Health, path: &str, now: Timestamp) -> (u16, String) {
        let answer = health.answer(path, now);
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn node(value: Value) -> Node {
        serde_json::from_value(value).unwrap()
    }

    #[tokio::test]
    async fn the_answers_are_those_of_kube_proxy() {
        let at = |second: i64| Timestamp::new(second, 500_000_000).unwrap();
        let (start, later) = ("1970-01-01 00:00:00.5 +0000 UTC", "1970-01-01 00:01:00.5 +0000 UTC");
        let body = |updated: &str, now: &str, rest: &str| {
            format!("{{\"lastUpdated\": \"{updated}\",\"currentTime\": \"{now}\"{rest}}}")
        };
        let mut health = Health::default();
        let (stays, leaves) = (", \"nodeEligible\": true", ", \"nodeEligible\": false");
        assert_eq!(asked(&health, "/healthz", at(0)).await, (200, body(start, start, stays)), "it starts");
        health.committed(true, at(0));
        health.committed(false, at(0));
        assert_eq!(asked(&health, "/livez", at(59)).await.0, 200, "late, but not yet too late");
        health.committed(false, at(59));
        assert_eq!(asked(&health, "/livez", at(60)).await, (503, body(start, later, "")));
        assert_eq!(asked(&health, "/healthz", at(60)).await, (503, body(start, later, stays)));
        health.committed(true, at(60));
        assert_eq!(asked(&health, "/healthz", at(60)).await, (200, body(later, later, stays)));
        for leaving in [
            json!({"spec": {"taints": [{"key": TO_BE_DELETED, "effect": "NoSchedule", "value": "1"}]}}),
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        ] {
            health.follow(Some(&node(leaving)));
            assert_eq!(asked(&health, "/healthz", at(60)).await, (503, body(later, later, leaves)));
            assert_eq!(asked(&health, "/livez", at(60)).await, (200, body(later, later, "")));
        }
        health.follow(Some(&node(json!({"spec": {"taints": [{"key": "other", "effect": "NoSchedule"}]}}))));
        assert_eq!(asked(&health, "/healthz", at(60)).await.0, 200);
        assert_eq!(asked(&health, "/", at(60)).await, (404, "404 page not found\n".to_owned()));
    }

    /// Two nodes of one machine: the second one waits for the port, and goes on.
    #[test]
    fn a_port_that_is_taken_is_no_failure() {
        crate::network_lab::Lab::run(|lab| async move {
            let address: SocketAddr = ([127, 0, 0, 1], 10256).into();
            let (_told, health) = watch::channel(Health::default());
            let first = tokio::spawn(serve(address, health.clone()));
            let answers = |lab: std::sync::Arc<crate::network_lab::Lab>| {
                move || lab.shell("curl -s http://127.0.0.1:10256/livez || true").contains("currentTime")
            };
            let wait = |what: &'static str, condition: Box<dyn FnMut() -> bool + Send>| {
                tokio::task::spawn_blocking(move || crate::network_lab::wait_until(what, condition))
            };
            wait("the first answers", Box::new(answers(lab.clone()))).await.unwrap();
            let second = tokio::spawn(serve(address, health));
            tokio::task::yield_now().await;
            assert!(!second.is_finished());
            first.abort();
            let _ = first.await;
            wait("the second answers", Box::new(answers(lab.clone()))).await.unwrap();
            second.abort();
        });
    }
}
