//! Says that pods and containers come and go, to whoever tidies up after a time of work: nobody need wake to look.

use tokio::sync::Notify;

/// One for the process: its memory is what is tidied.
static CHANGES: Changes = Changes(Notify::const_new());

/// What makes or ends something; everything else only looks, or is as frequent as a probe.
const METHODS: [&str; 6] = [
    "RunPodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
    "StartContainer",
    "StopContainer",
    "RemoveContainer",
];

struct Changes(Notify);

impl Changes {
    async fn next(&self) {
        self.0.notified().await;
    }

    fn ended(&self, method: &str) {
        if METHODS.contains(&method) {
            self.0.notify_one();
        }
    }
}

/// Waits until a pod or container has come or gone since this was asked last.
pub async fn pods_changed() {
    CHANGES.next().await;
}

/// A call has ended.
pub(super) fn ended(method: &str) {
    CHANGES.ended(method);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn work_is_told_of_once_and_looking_is_not() {
        let changes = Changes(Notify::new());
        changes.ended("ListContainers");
        assert!(tokio::time::timeout(Duration::ZERO, changes.next()).await.is_err());
        changes.ended("StartContainer");
        changes.ended("StopContainer");
        changes.next().await;
        assert!(tokio::time::timeout(Duration::ZERO, changes.next()).await.is_err());
    }
}
