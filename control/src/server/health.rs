//! Health: `/healthz`, `/livez` and `/readyz`, each a list of checks by the names that kube-apiserver has for them. They
//! can be asked for one by one (`/livez/ping`), be left out (`?exclude=etcd`) or told in full (`?verbose`).
//!
//! Much of what another API server does in the background after it listens is done here before: those checks hold as
//! soon as there is anybody to answer, and have their names so that who asks for one of them is told.

use super::answer::{self, Answer};
use super::query::Query;
use super::{Server, documents};
use http::HeaderValue;
use http::header::X_CONTENT_TYPE_OPTIONS;

pub(super) mod slis;

/// What is done before the server listens.
const DONE_BEFORE: [&str; 16] = [
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/aggregator-reload-proxy-client-cert",
];
/// What is done when it is known which group versions other servers serve.
const AGGREGATION: [&str; 9] = [
    "poststarthook/start-kube-aggregator-informers",
    "poststarthook/apiservice-status-local-available-controller",
    "poststarthook/apiservice-status-remote-available-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
    "poststarthook/apiservice-openapi-controller",
    "poststarthook/apiservice-openapiv3-controller",
];

/// One check, and why it fails where it does.
struct Check {
    name: &'static str,
    fault: Option<&'static str>,
}

fn checks(server: &Server, endpoint: &str) -> Vec<Check> {
    let check = |name, passes: bool, why| Check { name, fault: (!passes).then_some(why) };
    // Somebody reads and writes whatever revision this is.
    let store = |name| check(name, server.store.is_open(), "the store is closed");
    let follows = server.aggregation.is_followed();
    let mut checks = vec![check("ping", true, ""), check("log", true, ""), store("etcd")];
    let ready = endpoint == "readyz";
    if ready {
        checks.push(store("etcd-readiness"));
        checks.push(check("informer-sync", follows, "1 informers not started yet: [*v1.APIService]"));
    }
    checks.extend(DONE_BEFORE.map(|name| check(name, true, "")));
    checks.extend(AGGREGATION.map(|name| check(name, follows, "not finished")));
    if ready {
        checks.push(check("shutdown", !*server.shutdown.borrow(), "process is shutting down"));
    }
    checks
}

/// Answers `/ENDPOINT` or `/ENDPOINT/CHECK`.
pub(super) fn answer(server: &Server, endpoint: &str, rest: &[&str], query: &Query) -> Answer {
    let checks = checks(server, endpoint);
    if !rest.is_empty() {
        let name = rest.join("/");
        return match checks.iter().find(|check| check.name == name) {
            Some(Check { fault: Some(why), .. }) => plain(500, format!("internal server error: {why}\n")),
            Some(_) => plain(200, "ok".to_owned()),
            None => documents::missing(),
        };
    }
    let excluded: Vec<&str> = query.all("exclude").filter(|name| !name.is_empty()).collect();
    for check in checks.iter().filter(|check| !excluded.contains(&check.name)) {
        server.telemetry.slis.observe(endpoint, check.name, check.fault.is_none());
    }
    let (passed, told) = told(endpoint, &checks, &excluded);
    match passed {
        false => plain(500, told),
        true if query.all("verbose").next().is_some() => plain(200, told),
        true => plain(200, "ok".to_owned()),
    }
}

/// Whether all checks that are not left out have passed, and the whole story.
fn told(endpoint: &str, checks: &[Check], excluded: &[&str]) -> (bool, String) {
    let mut passed = true;
    let mut story = String::new();
    for Check { name, fault } in checks {
        story += &match (excluded.contains(name), fault) {
            (true, _) => format!("[+]{name} excluded: ok\n"),
            (false, None) => format!("[+]{name} ok\n"),
            (false, Some(_)) => format!("[-]{name} failed: reason withheld\n"),
        };
        passed &= fault.is_none() || excluded.contains(name);
    }
    let is_known = |name: &&str| checks.iter().any(|check| check.name == *name);
    let mut unknown: Vec<String> =
        excluded.iter().filter(|name| !is_known(name)).map(|name| format!("{name:?}")).collect();
    unknown.sort();
    unknown.dedup();
    if !unknown.is_empty() {
        let names = unknown.join(",");
        story += &format!("warn: some health checks cannot be excluded: no matches for {names}\n");
    }
    story += &format!("{endpoint} check {}\n", if passed { "passed" } else { "failed" });
    (passed, story)
}

fn plain(code: u16, words: String) -> Answer {
    let mut answer = answer::text(code, words);
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
