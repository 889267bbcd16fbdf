//! Keeps the node usable when it runs short: images that nobody uses go first, then pods, one at a time and in the
//! kubelet's order; what is short is a condition of the node, and keeps new pods away.
//!
//! One task decides for the whole node. What it knows is read from the kernel and from the runtime's statistics; who
//! goes is decided by pure functions (`thresholds`, `ranking`, `local_storage`), and pods are ended by their own
//! workers.

mod images;
mod local_storage;
mod ranking;
mod signals;
mod thresholds;
mod usage;

pub use thresholds::{Conditions, Texts, Threshold, parse};
pub(in crate::kubelet) use usage::tree;

use crate::config::KubeletConfig;
use crate::kubelet::events::{Recorder, Severity};
use crate::kubelet::pod;
use crate::kubelet::pod_worker::Command;
use crate::kubelet::pods::Workers;
use images::ImageCollector;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knarr_cri::{ImageService, RuntimeService};
use ranking::Candidate;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use thresholds::Tracker;
use tokio::sync::watch;
use usage::Usages;

/// How the message of a pod begins that was evicted because the node ran short.
pub const NODE_IS_SHORT: &str = "The node was low on resource: ";
/// What an evicted pod gets to end in.
const EVICTION_GRACE: Duration = Duration::from_secs(1);
/// How long an evicted pod may take before the next one goes.
const EVICTION_PATIENCE_SECONDS: i64 = 30;
/// Between two events about images that could not go.
const IMAGES_TOLD_SECONDS: i64 = 300;

/// When pods and images have to go.
#[derive(Debug, Clone)]
pub struct Settings {
    #[allow(missing_docs)]
    pub thresholds: Vec<Threshold>,
    /// Between two looks.
    pub period: Duration,
    /// A condition holds for so long after its threshold was met last.
    pub transition: Duration,
    /// Percent of the disk from which on unused images are removed.
    pub image_high: u64,
    /// Percent of the disk down to which they are removed.
    pub image_low: u64,
    /// Bytes that, while free, keep all images.
    pub image_free: u64,
    /// Younger images stay.
    pub image_age: Duration,
    /// How long an image stays that nobody uses, however much room there is.
    pub image_end: Option<Duration>,
    /// The most that a pod gets to end for a soft threshold.
    pub soft_grace: Duration,
}

/// The task.
pub struct Guard {
    #[allow(missing_docs)]
    pub settings: Settings,
    #[allow(missing_docs)]
    pub runtime: Arc<dyn RuntimeService>,
    #[allow(missing_docs)]
    pub images: Arc<dyn ImageService>,
    #[allow(missing_docs)]
    pub workers: Workers,
    #[allow(missing_docs)]
    pub recorder: Recorder,
    #[allow(missing_docs)]
    pub node_name: String,
    /// Which disk holds volumes and logs.
    pub data_dir: PathBuf,
    /// Which disk holds images.
    pub images_dir: PathBuf,
    #[allow(missing_docs)]
    pub paths: crate::kubelet::paths::Paths,
    /// Told to the node's status and to admission.
    pub conditions: watch::Sender<Conditions>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What the task remembers between rounds.
struct Known {
    tracker: Tracker,
    collector: ImageCollector,
    /// The pod that was evicted last, and when.
    evicted: Option<(String, i64)>,
    /// When it was told last that too few images could go, in seconds, while that is so.
    told_of_images: Option<i64>,
}

impl Guard {
    /// Works until it is cancelled.
    pub async fn run(self) {
        let mut known = Known {
            tracker: Tracker::new(self.settings.transition),
            collector: ImageCollector::new(self.images.clone(), self.runtime.clone(), Timestamp::now()),
            evicted: None,
            told_of_images: None,
        };
        let mut ticks = tokio::time::interval(self.settings.period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.round(&mut known).await;
        }
    }

    async fn round(&self, known: &mut Known) {
        let now = Timestamp::now();
        let pods = self.workers.pods();
        // Asked before anything is measured: what went meanwhile would be counted as if it were still there.
        let waits = self.waits_for_eviction(known, &pods, now);
        known.collector.look(&pods, now).await;
        if let Some(end) = self.settings.image_end {
            known.collector.remove_old(end, now).await;
        }
        match self.collect_images(known, now).await {
            Ok(()) => known.told_of_images = None,
            Err(error) => self.tell_of_images(known, error, now),
        }
        let readings = self.read().await;
        let outcome = known.tracker.update(&self.settings.thresholds, &readings, now);
        self.conditions
            .send_if_modified(|before| std::mem::replace(before, outcome.conditions) != outcome.conditions);
        let short_of = outcome.due.first().map(|threshold| threshold.signal);
        let usages = Usages::gather(&*self.runtime, &pods, &self.paths, short_of).await;
        if self.enforce_limits(&pods, &usages) || waits {
            return;
        }
        let Some(threshold) = outcome.due.first() else { return };
        let resource = threshold.signal.resource();
        let text = format!("Attempting to reclaim {resource}");
        self.recorder.node(&self.node_name, Severity::Warning, "EvictionThresholdMet", text);
        if threshold.signal.is_disk() && known.collector.free(u64::MAX, Duration::ZERO, now).await > 0 {
            let readings = self.read().await;
            if !threshold.is_unresolved(&readings) {
                return;
            }
        }
        self.evict_one(known, threshold, &pods, &usages, &readings, now);
    }

    async fn read(&self) -> thresholds::Readings {
        let (data, images) = (self.data_dir.clone(), self.images_dir.clone());
        tokio::task::spawn_blocking(move || signals::read(&data, &images)).await.unwrap_or_default()
    }

    /// Removes unused images when the disk they are on is fuller than it should be.
    async fn collect_images(&self, known: &mut Known, now: Timestamp) -> Result<(), String> {
        let directory = self.images_dir.clone();
        let space = tokio::task::spawn_blocking(move || signals::space(&directory)).await;
        let Some(space) = space.ok().flatten() else { return Ok(()) };
        let wanted = images::bytes_to_free(space, self.settings.image_high, self.settings.image_low);
        if wanted == 0 || space.available >= self.settings.image_free {
            return Ok(());
        }
        let freed = known.collector.free(wanted, self.settings.image_age, now).await;
        if freed >= wanted {
            return Ok(());
        }
        Err(images::too_little(space, freed))
    }

    /// At once, and as often as a kubelet looks.
    fn tell_of_images(&self, known: &mut Known, error: String, now: Timestamp) {
        let again = known.told_of_images.is_some();
        if known.told_of_images.is_some_and(|told| now.as_second() - told < IMAGES_TOLD_SECONDS) {
            return;
        }
        known.told_of_images = Some(now.as_second());
        let tell = |reason, text| self.recorder.node(&self.node_name, Severity::Warning, reason, text);
        tell("FreeDiskSpaceFailed", error.clone());
        if again {
            tell("ImageGCFailed", error);
        }
    }

    /// Ends pods that use more of the disk than their own limits allow; true if there were any.
    fn enforce_limits(&self, pods: &[Arc<Pod>], usages: &Usages) -> bool {
        let running = pods.iter().filter(|pod| !pod::is_finished(pod) && !is_critical(pod));
        let over = running.filter_map(|pod| Some((pod, local_storage::excess(pod, usages.of(pod))?)));
        over.fold(false, |_, (pod, message)| {
            self.evict(pod, message, EVICTION_GRACE);
            true
        })
    }

    /// Whether the pod that was evicted last still runs, or still has its files: what it frees decides about the next.
    fn waits_for_eviction(&self, known: &Known, pods: &[Arc<Pod>], now: Timestamp) -> bool {
        let Some((uid, since)) = &known.evicted else { return false };
        let alive = pods.iter().any(|pod| pod::uid(pod) == uid && !pod::is_finished(pod));
        (alive || self.paths.pod(uid).exists()) && now.as_second() - since < EVICTION_PATIENCE_SECONDS
    }

    fn evict_one(
        &self,
        known: &mut Known,
        threshold: &Threshold,
        pods: &[Arc<Pod>],
        usages: &Usages,
        readings: &thresholds::Readings,
        now: Timestamp,
    ) {
        let running = pods.iter().filter(|pod| !pod::is_finished(pod) && !is_critical(pod));
        let candidates = running.map(|pod| Candidate::new(pod, usages.of(pod), threshold.signal)).collect();
        let Some(victim) = ranking::rank(candidates).into_iter().next() else { return };
        let message = ranking::message(&victim, threshold, readings);
        known.evicted = Some((pod::uid(victim.pod).to_string(), now.as_second()));
        let grace = if threshold.is_soft() { self.settings.soft_grace } else { EVICTION_GRACE };
        self.evict(victim.pod, message, grace);
    }

    fn evict(&self, pod: &Pod, message: String, grace: Duration) {
        self.recorder.pod(pod, Severity::Warning, "Evicted", message.clone());
        let reason = "Evicted".to_string();
        self.workers.send(pod::uid(pod), Command::Fail { reason, message, grace: Some(grace) });
    }
}

/// After how long an unused image goes; `None` for never. The error names the key.
pub fn image_end(config: &KubeletConfig) -> Result<Option<Duration>, String> {
    let (end, age) = (config.image_maximum_gc_age_seconds, config.image_minimum_gc_age_seconds);
    if end != 0 && end <= age {
        return Err("image_maximum_gc_age_seconds must be greater than image_minimum_gc_age_seconds".into());
    }
    Ok(Some(end).filter(|end| *end != 0).map(Duration::from_secs))
}

/// The node itself depends on it: static pods, and those of the two highest priority classes.
pub fn is_critical(pod: &Pod) -> bool {
    const SYSTEM_CRITICAL: i32 = 2_000_000_000;
    pod::is_static(pod) || pod::spec(pod).priority.unwrap_or(0) >= SYSTEM_CRITICAL
}
