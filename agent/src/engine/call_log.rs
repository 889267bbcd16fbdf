//! What the engine tells of the calls it serves: a line of log each, with the ids it is about, and how often and how long,
//! for Prometheus.
//!
//! The span of a call is around all that is done for it, so that every line below it carries the pod and the container.

use super::{Engine, changes};
use knarr_cri::v1::{ImageSpec, PodSandboxConfig};
use knarr_cri::{Code, Status};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::{Instrument, Span, field};

/// What a call is about; empty where it is about the whole node.
#[derive(Debug, Default)]
pub(crate) struct Subject {
    pod: String,
    container: String,
    image: String,
}

impl Subject {
    pub(crate) fn pod(id: &str) -> Self {
        Self { pod: id.to_owned(), ..Self::default() }
    }

    pub(crate) fn container(id: &str) -> Self {
        Self { container: id.to_owned(), ..Self::default() }
    }

    pub(crate) fn image(image: Option<&ImageSpec>) -> Self {
        Self { image: image.map(|image| image.image.clone()).unwrap_or_default(), ..Self::default() }
    }

    /// A pod that has no id yet goes by its name.
    pub(crate) fn new_pod(config: Option<&PodSandboxConfig>) -> Self {
        let metadata = config.and_then(|config| config.metadata.as_ref());
        Self {
            pod: metadata.map(|pod| format!("{}/{}", pod.namespace, pod.name)).unwrap_or_default(),
            ..Self::default()
        }
    }

    fn span(&self, method: &str) -> Span {
        let span = tracing::info_span!(
            "cri",
            method,
            pod = field::Empty,
            container = field::Empty,
            image = field::Empty
        );
        for (name, value) in [("pod", &self.pod), ("container", &self.container), ("image", &self.image)] {
            if !value.is_empty() {
                span.record(name, value.as_str());
            }
        }
        span
    }
}

impl Engine {
    /// Does the work of one call, and tells of it.
    pub(super) async fn observed<T>(
        &self,
        method: &'static str,
        subject: Subject,
        work: impl Future<Output = Result<T, Status>> + Send,
    ) -> Result<T, Status> {
        let span = subject.span(method);
        let begin = Instant::now();
        let result = work.instrument(span.clone()).await;
        let took = begin.elapsed();
        let code = result.as_ref().err().map_or(Code::Ok, Status::code);
        self.core.calls.ended(method, code, took);
        changes::ended(method);
        let milliseconds = took.as_millis() as u64;
        span.in_scope(|| match &result {
            Ok(_) => tracing::debug!(milliseconds, "done"),
            // The caller is told, and decides whether it is an error: asking for what is gone often is not.
            Err(status) if is_refusal(code) => {
                tracing::debug!(milliseconds, code = ?code, "refused: {}", status.message());
            }
            Err(status) => tracing::info!(milliseconds, code = ?code, "failed: {}", status.message()),
        });
        result
    }
}

/// Nothing was tried: what was asked for does not fit what there is.
fn is_refusal(code: Code) -> bool {
    matches!(code, Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument | Code::AlreadyExists)
}

/// Upper bounds of the histogram, in seconds.
const BUCKETS: [f64; 10] = [0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

/// Calls of one method that ended with one code.
#[derive(Debug, Default, Clone)]
struct Row {
    count: u64,
    seconds: f64,
    /// One for each bound, not added up.
    buckets: [u64; BUCKETS.len()],
}

/// All calls since the start.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// Held for one addition or one copy.
    rows: Mutex<BTreeMap<(&'static str, &'static str), Row>>,
}

impl Calls {
    fn ended(&self, method: &'static str, code: Code, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.entry((method, name(code))).or_default();
        row.count += 1;
        row.seconds += seconds;
        let bucket = BUCKETS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = bucket.and_then(|bucket| row.buckets.get_mut(bucket)) {
            *bucket += 1;
        }
    }

    /// In Prometheus' text format.
    pub(crate) fn exposition(&self) -> String {
        const NAME: &str = "knarr_engine_call_duration_seconds";
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut text =
            format!("# HELP {NAME} Time of CRI calls by method and gRPC code.\n# TYPE {NAME} histogram\n");
        for ((method, code), row) in rows {
            let labels = format!("method=\"{method}\",code=\"{code}\"");
            let mut below = 0;
            for (bound, count) in BUCKETS.iter().zip(row.buckets) {
                below += count;
                let _infallible = writeln!(text, "{NAME}_bucket{{{labels},le=\"{bound}\"}} {below}");
            }
            let Row { count, seconds, .. } = row;
            let _infallible = write!(
                text,
                "{NAME}_bucket{{{labels},le=\"+Inf\"}} {count}\n{NAME}_sum{{{labels}}} {seconds}\n\
                 {NAME}_count{{{labels}}} {count}\n"
            );
        }
        text
    }
}

/// As gRPC writes it.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_and_codes_are_apart() {
        let calls = Calls::default();
        for (code, milliseconds) in [(Code::Ok, 1), (Code::Ok, 20), (Code::Ok, 120_000), (Code::NotFound, 0)]
        {
            calls.ended("Exec", code, Duration::from_millis(milliseconds));
        }
        let text = calls.exposition();
        let value = |labels: &str| {
            let line = text.lines().find(|line| line.contains(labels)).unwrap();
            line.rsplit_once(' ').unwrap().1.to_owned()
        };
        assert_eq!(value("bucket{method=\"Exec\",code=\"OK\",le=\"0.001\""), "1");
        assert_eq!(value("bucket{method=\"Exec\",code=\"OK\",le=\"0.025\""), "2");
        assert_eq!(value("bucket{method=\"Exec\",code=\"OK\",le=\"60\""), "2");
        assert_eq!(value("bucket{method=\"Exec\",code=\"OK\",le=\"+Inf\""), "3");
        assert_eq!(value("count{method=\"Exec\",code=\"NotFound\""), "1");
        assert_eq!(value("sum{method=\"Exec\",code=\"OK\""), "120.021");
    }
}
