//! `/metrics`: what the server does, in the text format of Prometheus and under Kubernetes' names.

use super::Server;
use super::health::slis::Slis;
use super::query::Query;
use super::route::Route;
use crate::registry::Resource;
use http::Method;
use knarr_api::Status;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper ends of the duration buckets, seconds.
const BUCKETS: [f64; 10] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 30.0];

/// Counts of requests. Locked for one look-up per request.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    requests: Mutex<BTreeMap<Labels, u64>>,
    durations: Mutex<BTreeMap<&'static str, Durations>>,
    /// How checks of health went.
    pub(super) slis: Slis,
}

/// What requests are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Labels {
    verb: &'static str,
    group: String,
    version: String,
    resource: String,
    subresource: String,
    code: u16,
}

#[derive(Debug, Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

impl Telemetry {
    /// Counts one request. Names that clients invent are not kept.
    pub(super) fn record(
        &self,
        server: &Server,
        method: &Method,
        uri: &http::Uri,
        code: u16,
        took: Duration,
    ) {
        let query = Query::parse(uri.query().unwrap_or_default());
        let Ok(Route::Resource(path)) = Route::parse(uri.path()) else { return };
        let Ok(verb) = super::verbs::verb(method, &path, &query) else { return };
        let Some(row) = server.table.find(&path.group, &path.version, &path.plural) else { return };
        let subresource = row.subresource(path.subresource()).map(|found| found.name.to_string());
        let labels = Labels {
            verb,
            group: path.group,
            version: path.version,
            resource: path.plural,
            subresource: subresource.unwrap_or_default(),
            code,
        };
        self.add(labels, took);
    }

    /// Counts what was created without a request as one.
    pub(super) fn count_created(
        &self,
        row: &Resource,
        subresource: &'static str,
        outcome: &Result<(), Status>,
        took: Duration,
    ) {
        let labels = Labels {
            verb: "create",
            group: row.group.to_string(),
            version: row.version.to_string(),
            resource: row.plural.to_string(),
            subresource: subresource.to_owned(),
            code: outcome.as_ref().map_or_else(|status| status.code, |()| 201),
        };
        self.add(labels, took);
    }

    fn add(&self, labels: Labels, took: Duration) {
        let verb = labels.verb;
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(labels).or_default() += 1;
        if verb != "watch" {
            let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
            durations.entry(verb).or_default().add(took.as_secs_f64());
        }
    }

    /// Everything, as text.
    pub(super) async fn text(&self, server: &Server) -> String {
        let mut text = String::new();
        self.write_requests(&mut text);
        self.write_durations(&mut text);
        let seated = server.flow_control.seated();
        gauge(&mut text, "apiserver_current_inflight_requests", "Requests in work.", seated);
        gauge(&mut text, "knarr_store_revision", "Newest revision of the store.", server.store.revision());
        gauge(&mut text, "process_resident_memory_bytes", "Resident memory.", resident_bytes());
        text
    }

    fn write_requests(&self, text: &mut String) {
        const NAME: &str = "apiserver_request_total";
        let _ = writeln!(text, "# HELP {NAME} Requests by verb, resource and code.\n# TYPE {NAME} counter");
        for (labels, count) in &*self.requests.lock().unwrap_or_else(PoisonError::into_inner) {
            let Labels { verb, group, version, resource, subresource, code } = labels;
            let verb = verb.to_uppercase();
            let _ = writeln!(
                text,
                "{NAME}{{code=\"{code}\",group=\"{group}\",resource=\"{resource}\",subresource=\"{subresource}\",verb=\"{verb}\",version=\"{version}\"}} {count}"
            );
        }
    }

    fn write_durations(&self, text: &mut String) {
        const NAME: &str = "apiserver_request_duration_seconds";
        let _ = writeln!(text, "# HELP {NAME} How long answers took, by verb.\n# TYPE {NAME} histogram");
        for (verb, durations) in &*self.durations.lock().unwrap_or_else(PoisonError::into_inner) {
            let verb = verb.to_uppercase();
            for (end, count) in BUCKETS.iter().zip(durations.buckets) {
                let _ = writeln!(text, "{NAME}_bucket{{verb=\"{verb}\",le=\"{end}\"}} {count}");
            }
            let Durations { count, seconds, .. } = durations;
            let _ = writeln!(text, "{NAME}_bucket{{verb=\"{verb}\",le=\"+Inf\"}} {count}");
            let _ = writeln!(text, "{NAME}_sum{{verb=\"{verb}\"}} {seconds}");
            let _ = writeln!(text, "{NAME}_count{{verb=\"{verb}\"}} {count}");
        }
    }
}

impl Durations {
    fn add(&mut self, seconds: f64) {
        for (end, count) in BUCKETS.iter().zip(&mut self.buckets) {
            *count += u64::from(seconds <= *end);
        }
        self.count += 1;
        self.seconds += seconds;
    }
}

fn gauge(text: &mut String, name: &str, help: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}");
}

/// Of this process; 0 where /proc does not tell. The read does not block: /proc is in memory.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}
