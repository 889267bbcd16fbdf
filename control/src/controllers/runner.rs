//! Runs one controller: workers that take keys from its queue and reconcile them until shutdown.

use super::busy::measured;
use super::informer::Key;
use super::work_queue::WorkQueue;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A reconcile that kept a processor for longer than this is a costly one.
const COSTLY: Duration = Duration::from_millis(5);
/// So many times as long as it took, a costly key rests: it has a tenth of a processor at most.
const REST: u32 = 9;
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// What a successful reconcile asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until something changes.
    Wait,
    /// Look again after this.
    After(Duration),
}

/// A controller: brings what one key stands for closer to what is asked for.
pub(crate) trait Reconcile: Send + Sync + 'static {
    /// Looks at the present state and takes the next steps; called again after every change.
    fn reconcile(&self, key: Key) -> impl Future<Output = Result<Next, kube::Error>> + Send;
}

/// Works on keys with `workers` tasks at a time, until the future is dropped.
///
/// A conflict means that somebody else wrote first: it is retried without a word. Any other error is logged here,
/// once, and retried with back-off.
pub(crate) async fn run(
    name: &'static str,
    queue: WorkQueue<Key>,
    workers: usize,
    controller: Arc<impl Reconcile>,
) {
    let work = |_| {
        let (queue, controller) = (queue.clone(), controller.clone());
        async move {
            loop {
                // A controller that wakes itself without end must not keep its thread from everybody else.
                tokio::task::coop::consume_budget().await;
                let key = queue.next().await;
                let (result, busy) = measured(controller.reconcile(key.clone())).await;
                settle(name, &queue, &key, result);
                queue.done_after(&key, rest(busy));
            }
        }
    };
    futures_util::future::join_all((0..workers).map(work)).await;
}

fn settle(name: &str, queue: &WorkQueue<Key>, key: &Key, result: Result<Next, kube::Error>) {
    match result {
        Ok(next) => {
            queue.forget(key);
            if let Next::After(delay) = next {
                queue.add_after(key.clone(), delay);
            }
        }
        // Whatever was to be made there goes with its namespace.
        Err(error) if is_terminating(&error) => queue.forget(key),
        Err(error) => {
            if !is_conflict(&error) {
                let error = message_of(&error);
                tracing::warn!(
                    controller = name,
                    namespace = key.namespace,
                    name = key.name,
                    error,
                    "reconcile"
                );
            }
            queue.retry(key.clone());
        }
    }
}

/// How long a key waits after a reconcile.
fn rest(busy: Duration) -> Duration {
    if busy < COSTLY { Duration::ZERO } else { busy.saturating_mul(REST).min(LONGEST_REST) }
}

/// 409, Conflict or AlreadyExists: our copy was old.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    // A patch that names another uid than the object has is answered as a change of it.
    let other = |message: &str| message.contains("metadata.uid: Invalid value");
    matches!(error, kube::Error::Api(status)
        if status.code == 409 || (status.code == 422 && other(&status.message)))
}

/// 403, because the namespace is on its way out.
pub(crate) fn is_terminating(error: &kube::Error) -> bool {
    let cause = |status: &kube::core::Status| {
        status
            .details
            .iter()
            .flat_map(|details| &details.causes)
            .any(|cause| cause.reason == "NamespaceTerminating")
    };
    matches!(error, kube::Error::Api(status) if cause(status))
}

/// 404.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// A write to something that is gone was not needed any more.
pub(crate) fn ignore_not_found<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if !is_not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

/// What the server said, without our own words around it.
pub(crate) fn message_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let said = causes.find_map(|cause| match cause.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Some(status),
        _ => None,
    });
    match said {
        Some(status) if status.message.is_empty() => format!("{} {}", status.code, status.reason),
        Some(status) => status.message.clone(),
        None => error.to_string(),
    }
}
