//! Health: `/healthz`, `/livez` and `/readyz`, each a list of checks that can be asked for one by one
//! (`/livez/ping`) or told in full (`?verbose`).

use super::answer::{self, Answer};
use super::query::Query;
use super::{Server, documents};
use knarr_api::Status;

/// One check and whether it passes.
struct Check {
    name: &'static str,
    passes: bool,
}

fn checks(server: &Server, endpoint: &str) -> Vec<Check> {
    let stopping = *server.shutdown.borrow();
    let mut checks = vec![
        Check { name: "ping", passes: true },
        Check { name: "log", passes: true },
        // Somebody reads and writes whatever revision this is.
        Check { name: "etcd", passes: server.store.is_open() },
    ];
    if endpoint == "readyz" {
        checks.push(Check { name: "informer-sync", passes: true });
        checks.push(Check { name: "shutdown", passes: !stopping });
    }
    checks
}

/// Answers `/ENDPOINT` or `/ENDPOINT/CHECK`.
pub(super) fn answer(
    server: &Server,
    endpoint: &str,
    rest: &[&str],
    query: &Query,
) -> Result<Answer, Status> {
    let mut checks = checks(server, endpoint);
    if let [wanted] = rest {
        checks.retain(|check| check.name == *wanted);
        if checks.is_empty() {
            return Ok(documents::missing());
        }
    }
    let excluded: Vec<&str> = query.all("exclude").collect();
    let failed = checks.iter().any(|check| !check.passes && !excluded.contains(&check.name));
    if failed || query.flag("verbose") && rest.is_empty() {
        let code = if failed { 500 } else { 200 };
        return Ok(answer::text(code, told(endpoint, &checks, &excluded, failed)));
    }
    Ok(answer::text(200, "ok"))
}

fn told(endpoint: &str, checks: &[Check], excluded: &[&str], failed: bool) -> String {
    let line = |check: &Check| match (excluded.contains(&check.name), check.passes) {
        (true, _) => format!("[+]{} excluded: ok\n", check.name),
        (false, true) => format!("[+]{} ok\n", check.name),
        (false, false) => format!("[-]{} failed: reason withheld\n", check.name),
    };
    let lines: String = checks.iter().map(line).collect();
    format!("{lines}{endpoint} check {}\n", if failed { "failed" } else { "passed" })
}
