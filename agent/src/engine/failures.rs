//! Tearing down never stops at the first error: what can be removed is removed, and everything that could not is
//! told, because each left-over is a mount, an address or a process that somebody has to find later.

use knarr_cri::Status;
use knarr_images::ErrorKind;

/// The errors of a teardown under way.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<anyhow::Error>);

impl Failures {
    /// Keeps the error, with what was being done.
    pub(crate) fn note<T>(&mut self, doing: &str, result: Result<T, impl Into<anyhow::Error>>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.0.push(error.into().context(doing.to_owned()));
                None
            }
        }
    }

    /// All errors as one, or success.
    pub(crate) fn into_result(self) -> anyhow::Result<()> {
        match self.0.len() {
            0 => Ok(()),
            1 => Err(self.0.into_iter().next().unwrap_or_else(|| anyhow::anyhow!("teardown failed"))),
            _ => Err(anyhow::anyhow!(
                "{}",
                self.0.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("; ")
            )),
        }
    }

    /// The errors one by one.
    pub(crate) fn into_errors(self) -> Vec<anyhow::Error> {
        self.0
    }
}

/// Time ran out for something; becomes gRPC's DeadlineExceeded.
#[derive(Debug, thiserror::Error)]
#[error("{0}: context deadline exceeded")]
pub(crate) struct DeadlineExceeded(pub(crate) String);

/// The one place where an internal error becomes a gRPC status: a status stays what it is, an expired deadline is
/// DeadlineExceeded, an image that the policy refuses is PermissionDenied in the policy's words, anything else is
/// Unknown, as clients of other runtimes are used to.
pub(crate) fn status(error: anyhow::Error) -> Status {
    if let Some(status) = error.downcast_ref::<Status>() {
        return Status::new(status.code(), status.message());
    }
    let mut denied = error.chain().filter_map(|cause| cause.downcast_ref::<knarr_images::Error>());
    if let Some(denied) = denied.find(|cause| cause.kind() == ErrorKind::Denied) {
        return Status::permission_denied(denied.to_string());
    }
    let message = format!("{error:#}");
    if error.chain().any(|cause| cause.is::<DeadlineExceeded>()) {
        return Status::deadline_exceeded(message);
    }
    Status::unknown(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use knarr_cri::Code;

    #[test]
    fn every_failure_is_told() {
        let mut failures = Failures::default();
        failures.note("removing a", Err::<(), _>(anyhow::anyhow!("busy")));
        failures.note("removing b", Ok::<_, anyhow::Error>(()));
        failures.note("removing c", Err::<(), _>(anyhow::anyhow!("gone")));
        assert_eq!(failures.into_result().unwrap_err().to_string(), "removing a: busy; removing c: gone");
    }

    #[test]
    fn codes_survive_context() {
        use anyhow::Context;
        let deadline = Err::<(), _>(DeadlineExceeded("runtime kill".into())).context("stopping").unwrap_err();
        assert_eq!(status(deadline).code(), Code::DeadlineExceeded);
        let not_found = anyhow::Error::from(Status::not_found("x")).context("looking");
        assert_eq!(status(not_found).code(), Code::NotFound);
        assert_eq!(status(anyhow::anyhow!("x")).code(), Code::Unknown);
    }
}
