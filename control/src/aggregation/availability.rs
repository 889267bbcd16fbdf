//! Whether a server behind ours answers, in the words of Kubernetes: its service must be there and listen, an endpoint
//! must be ready, and what it must serve in any case must come.

use super::link::{Link, url};
use super::{Remote, tell};
use crate::server::{Server, timestamp};
use crate::service_target::{Fault, Service, Target};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// What an APIService says in its status: status, reason, message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) status: &'static str,
    reason: &'static str,
    message: String,
}

impl Finding {
    fn new(status: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { status, reason, message: message.into() }
    }

    /// Of what we serve ourselves.
    pub(super) fn local() -> Self {
        Self::new("True", "Local", "Local APIServices are always available")
    }

    /// Of a service that cannot be reached.
    fn of(service: &Service, fault: &Fault) -> Self {
        let (namespace, name, port) = (&service.namespace, &service.name, service.port);
        let of = format!("service/{name} in {namespace:?}");
        let no = |reason, message: String| Self::new("False", reason, message);
        match fault {
            Fault::Access(why) => {
                Self::new("Unknown", "ServiceAccessError", format!("{of} cannot be checked due to: {why}"))
            }
            Fault::NoService => no("ServiceNotFound", format!("{of} is not present")),
            Fault::NoPort => no("ServicePortError", format!("{of} is not listening on port {port}")),
            Fault::NoEndpoints => no("EndpointsNotFound", format!("cannot find endpoints for {of}")),
            Fault::NoneReady(port) => no(
                "MissingEndpoints",
                format!("endpoints for {of} have no addresses with port name {port:?}"),
            ),
        }
    }

    pub(super) fn is_available(&self) -> bool {
        self.status == "True"
    }

    /// The conditions with this one among them; nothing where they say so already.
    pub(super) fn among(&self, conditions: &[Value], now: Timestamp) -> Option<Vec<Value>> {
        let is_it = |condition: &&Value| condition["type"] == "Available";
        let old = conditions.iter().find(is_it);
        let same = |field: &str, value: &str| old.is_some_and(|old| old[field] == value);
        if same("status", self.status) && same("reason", self.reason) && same("message", &self.message) {
            return None;
        }
        let since = old.filter(|_| same("status", self.status)).map(|old| old["lastTransitionTime"].clone());
        let condition = json!({
            "type": "Available", "status": self.status, "reason": self.reason, "message": self.message,
            "lastTransitionTime": since.unwrap_or_else(|| timestamp(now).into()),
        });
        let others = conditions.iter().filter(|condition| !is_it(condition)).cloned();
        Some(others.chain([condition]).collect())
    }
}

/// Asks one of the endpoints, if there are any.
pub(super) async fn find_out(remote: &Remote, targets: Result<Vec<Target>, Fault>) -> Finding {
    let targets = match targets {
        Ok(targets) => targets,
        Err(fault) => return Finding::of(&remote.service, &fault),
    };
    let mut last = String::new();
    for target in &targets {
        match probe(remote, target).await {
            Ok(()) => return Finding::new("True", "Passed", "all checks passed"),
            Err(why) => last = why,
        }
    }
    Finding::new("False", "FailedDiscoveryCheck", last)
}

async fn probe(remote: &Remote, target: &Target) -> Result<(), String> {
    let shown = url(target, &remote.path());
    let failed = |why: String| format!("failing or missing response from {shown}: {why}");
    let link: &Link = remote.probe.as_ref().map_err(|why| failed(why.clone()))?;
    let path = remote.path();
    let asked = tell::ask(link, target, &path, "application/json");
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(Ok(answer)) if matches!(answer.status().as_u16(), 200..400) => Ok(()),
        Ok(Ok(answer)) => Err(failed(format!("bad status from {shown}: {}", answer.status().as_u16()))),
        Ok(Err(why)) => Err(failed(format!("Get {shown:?}: {why}"))),
        Err(_) => Err(failed(format!("Get {shown:?}: context deadline exceeded"))),
    }
}

impl Remote {
    /// What stands between us and it, if anything does.
    pub(super) async fn targets(&self, server: &Server) -> Result<Vec<Target>, Fault> {
        self.service.targets(server).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_that_cannot_be_reached_is_told_in_the_words_of_kubernetes() {
        let service = Service { namespace: "wardle".into(), name: "api".into(), port: 443 };
        let told = |fault: &Fault| {
            let Finding { status, reason, message } = Finding::of(&service, fault);
            format!("{status} ({reason}) {message}")
        };
        for (fault, expected) in [
            (Fault::NoService, r#"False (ServiceNotFound) service/api in "wardle" is not present"#),
            (
                Fault::NoPort,
                r#"False (ServicePortError) service/api in "wardle" is not listening on port 443"#,
            ),
            (
                Fault::NoEndpoints,
                r#"False (EndpointsNotFound) cannot find endpoints for service/api in "wardle""#,
            ),
            (
                Fault::NoneReady(String::new()),
                r#"False (MissingEndpoints) endpoints for service/api in "wardle" have no addresses with port name """#,
            ),
        ] {
            assert_eq!(told(&fault), expected);
        }
    }

    #[test]
    fn a_condition_that_stays_keeps_its_time() {
        let [first, later] =
            ["2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"].map(|time| time.parse().unwrap());
        let before = Finding::local().among(&[], first).unwrap();
        assert_eq!(Finding::local().among(&before, later), None);
        let other = Finding::new("True", "Passed", "all checks passed").among(&before, later).unwrap();
        assert_eq!(
            (&other[0]["reason"], &other[0]["lastTransitionTime"]),
            (&json!("Passed"), &json!("2026-01-01T00:00:00Z"))
        );
        let lost = Finding::of(&Service::of(&json!({})), &Fault::NoService).among(&other, later).unwrap();
        assert_eq!(lost[0]["lastTransitionTime"], "2026-01-01T00:01:00Z");
    }
}
