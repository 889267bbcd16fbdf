//! How often each probe has succeeded and failed, for `/metrics/probes`.

use super::Role;
use crate::kubelet::pod;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// Whose probe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probed {
    #[allow(missing_docs)]
    pub namespace: String,
    #[allow(missing_docs)]
    pub pod: String,
    #[allow(missing_docs)]
    pub uid: String,
    #[allow(missing_docs)]
    pub container: String,
    /// `Startup`, `Readiness` or `Liveness`.
    pub probe: &'static str,
}

/// Counts of all probes of this node. Cheap to clone; held only to count or copy.
#[derive(Debug, Clone, Default)]
pub struct ProbeCounts(Arc<Mutex<BTreeMap<Probed, (u64, u64)>>>);

impl ProbeCounts {
    pub(super) fn count(&self, pod: &Pod, container: &str, role: Role, success: bool) {
        let probed = Probed {
            namespace: pod::namespace(pod).to_string(),
            pod: pod::name(pod).to_string(),
            uid: pod::uid(pod).to_string(),
            container: container.to_string(),
            probe: role.name(),
        };
        if let Ok(mut counts) = self.0.lock() {
            let results = counts.entry(probed).or_default();
            if success {
                results.0 += 1;
            } else {
                results.1 += 1;
            }
        }
    }

    /// Forgets the probes of a pod that is gone.
    pub fn forget(&self, uid: &str) {
        if let Ok(mut counts) = self.0.lock() {
            counts.retain(|probed, _| probed.uid != uid);
        }
    }

    /// All of them: successes and failures.
    pub fn all(&self) -> BTreeMap<Probed, (u64, u64)> {
        self.0.lock().map(|counts| counts.clone()).unwrap_or_default()
    }
}
