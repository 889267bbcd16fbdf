//! Volumes that follow their objects: a changed ConfigMap, Secret, label or annotation, or a token near its end,
//! reaches the files of a running pod. At most one refresh of a pod runs at a time, beside the pod's other work, so
//! neither a slow API server nor a slow disk delays its containers.

use super::Worker;
use crate::kubelet::backoff::plus;
use crate::kubelet::host::Host;
use crate::kubelet::references::{self, Listener};
use crate::kubelet::volumes::{self, VolumeError, VolumeInputs};
use crate::kubelet::{act, pod};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Look at everything again after this long: tokens age without telling anybody.
const PERIOD: Duration = Duration::from_secs(60);

/// The refreshing of one pod's volumes.
pub(super) struct Refresh {
    listener: Listener,
    wake: Arc<Notify>,
    following: bool,
    due: Timestamp,
    task: Option<JoinHandle<()>>,
}

impl Refresh {
    pub(super) fn new(wake: Arc<Notify>) -> Refresh {
        let due = plus(Timestamp::now(), PERIOD);
        Refresh { listener: Listener::new(wake.clone()), wake, following: false, due, task: None }
    }

    /// Labels and annotations are what downwardAPI volumes show.
    pub(super) fn pod_changed(&self, before: &Pod, after: &Pod) {
        let (before, after) = (&before.metadata, &after.metadata);
        if before.labels != after.labels || before.annotations != after.annotations {
            self.listener.tell();
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Waits for the refresh under way, after which nothing writes to the volumes any more.
    pub(super) async fn end(&mut self, host: &Host, uid: &str) {
        host.objects.forget(uid);
        self.following = false;
        if let Some(task) = self.task.take() {
            // A refresh that panicked writes nothing either.
            let _ = task.await;
        }
    }
}

impl Worker {
    /// Learns of changes to what the volumes are made of, from the pod's first moment to its last.
    pub(super) fn follow_objects(&mut self) {
        let can = self.host.is_real() && self.ending.is_none() && volumes::can_change(&self.pod);
        if can && !self.refresh.following {
            self.refresh.following = true;
            let names = references::volume_names(&self.pod);
            let (uid, namespace) = (pod::uid(&self.pod), pod::namespace(&self.pod));
            self.host.objects.follow(uid, namespace, &names, self.refresh.listener.clone());
        }
        if self.refresh.listener.take() {
            self.refresh.due = Timestamp::UNIX_EPOCH;
            self.forgive();
        }
    }

    /// Starts a refresh when one is due and the pod has volumes that can change.
    pub(super) fn refresh_volumes(&mut self, now: Timestamp) {
        let can = self.refresh.following && self.ending.is_none();
        let Some(sandbox) = self.observed.ready_sandbox().filter(|_| can) else { return };
        if self.refresh.is_running() || now < self.refresh.due {
            return;
        }
        self.refresh.due = plus(now, PERIOD);
        let (host, pod, sandbox) = (self.host.clone(), self.pod.clone(), sandbox.clone());
        let wake = self.refresh.wake.clone();
        self.refresh.task = Some(tokio::spawn(async move {
            let refreshed = match VolumeInputs::gather(&host, &pod, Some(&sandbox)).await {
                Ok(inputs) => write(&host, inputs).await,
                Err(error) => Err(error),
            };
            if let Err(error) = refreshed {
                act::mount_failed(&host, &pod, error);
            }
            wake.notify_one();
        }));
    }
}

async fn write(host: &Host, inputs: VolumeInputs) -> Result<(), VolumeError> {
    host.csi.publish_again(host, &inputs).await?;
    let written = tokio::task::spawn_blocking(move || volumes::refresh(&inputs)).await;
    written.unwrap_or_else(|error| Err(VolumeError { volume: None, message: error.to_string() }))
}
