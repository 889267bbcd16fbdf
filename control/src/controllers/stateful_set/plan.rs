//! What a stateful set does next, decided from data alone.
//!
//! `OrderedReady` takes one step at a time and none past a pod that is not available; `Parallel` starts and ends all
//! at once. An update replaces pods from the highest ordinal down to the partition, one after the other in both unless
//! the set allows several to be away (`maxUnavailable`).

use super::template;
use crate::controllers::history::{LABEL, Revisions};
use crate::controllers::pods;
use crate::controllers::runner::Next;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetStatus,
};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// A pod of this ordinal, of the template of this revision.
    Create {
        ordinal: i32,
        revision: String,
    },
    Delete(Arc<Pod>),
    /// A pod that cannot start may lack its claims.
    Claims(Arc<Pod>),
    /// A pod without the labels of its ordinal.
    Identify(Arc<Pod>),
}

/// A set and its pods by ordinal.
pub(super) struct World<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    /// The ordinals asked for, with the pods that are there.
    wanted: Vec<(i32, Option<Arc<Pod>>)>,
    /// Pods of other ordinals, highest first.
    condemned: Vec<(i32, Arc<Pod>)>,
    /// Names of revisions: before the update, and after it.
    current: String,
    update: String,
    now: Timestamp,
}

impl<'a> World<'a> {
    pub(super) fn new(
        set: &'a StatefulSet,
        spec: &'a StatefulSetSpec,
        revisions: &Revisions,
        pods: Vec<Arc<Pod>>,
        now: Timestamp,
    ) -> Self {
        let update = revisions.present.name_any();
        let current = set.status.as_ref().and_then(|status| status.current_revision.clone());
        let current =
            current.filter(|name| revisions.named(name).is_some()).unwrap_or_else(|| update.clone());
        Self::of(set, spec, (current, update), pods, now)
    }

    fn of(
        set: &'a StatefulSet,
        spec: &'a StatefulSetSpec,
        (current, update): (String, String),
        pods: Vec<Arc<Pod>>,
        now: Timestamp,
    ) -> Self {
        let mut by_ordinal: BTreeMap<i32, Arc<Pod>> =
            pods.into_iter().filter_map(|pod| Some((template::ordinal_of(set, &pod)?, pod))).collect();
        let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
        let end = start.saturating_add(spec.replicas.unwrap_or(1).max(0));
        let wanted = (start..end).map(|ordinal| (ordinal, by_ordinal.remove(&ordinal))).collect();
        let mut condemned: Vec<(i32, Arc<Pod>)> = by_ordinal.into_iter().collect();
        condemned.sort_by_key(|(ordinal, _)| Reverse(*ordinal));
        Self { set, spec, wanted, condemned, current, update, now }
    }

    /// The template after the update.
    pub(super) fn template(&self) -> &PodTemplateSpec {
        &self.spec.template
    }

    /// Every ordinal there is, its pod, and whether it is to go.
    pub(super) fn ordinals(&self) -> impl Iterator<Item = (i32, Option<&Pod>, bool)> {
        let wanted = self.wanted.iter().map(|(ordinal, pod)| (*ordinal, pod.as_deref(), false));
        wanted.chain(self.condemned.iter().map(|(ordinal, pod)| (*ordinal, Some(&**pod), true)))
    }

    fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.wanted
            .iter()
            .filter_map(|(_, pod)| pod.as_ref())
            .chain(self.condemned.iter().map(|(_, pod)| pod))
    }

    /// Revisions that must be kept.
    pub(super) fn live(&self) -> BTreeSet<String> {
        let of_pods = self.pods().filter_map(|pod| pod.labels().get(LABEL).cloned());
        of_pods.chain([self.current.clone(), self.update.clone()]).collect()
    }

    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn min_ready(&self) -> SignedDuration {
        SignedDuration::from_secs(self.spec.min_ready_seconds.unwrap_or(0).into())
    }

    /// Running, ready for long enough, and not on its way out.
    fn is_healthy(&self, pod: &Pod) -> bool {
        pods::phase(pod) == "Running" && !is_dying(pod) && pods::is_available(pod, self.min_ready(), self.now)
    }

    fn rolls(&self) -> bool {
        let strategy = self.spec.update_strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete")
    }

    fn rolling(&self) -> Option<&RollingUpdateStatefulSetStrategy> {
        self.spec.update_strategy.as_ref()?.rolling_update.as_ref()
    }

    /// How many of the lowest ordinals an update leaves alone.
    fn partition(&self) -> usize {
        usize::try_from(self.rolling().and_then(|rolling| rolling.partition).unwrap_or(0)).unwrap_or(0)
    }

    /// How many may do no work during an update, where the set says so: at least one, a percentage rounded down.
    fn most_unavailable(&self) -> Option<usize> {
        let most = match self.rolling()?.max_unavailable.as_ref()? {
            IntOrString::Int(count) => usize::try_from(*count).unwrap_or(0),
            IntOrString::String(text) => {
                let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
                self.wanted.len().saturating_mul(percent) / 100
            }
        };
        Some(most.max(1))
    }

    /// The next steps, in order.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let go_on = self.fill(&mut steps) && self.shrink(&mut steps);
        if go_on && self.rolls() {
            match self.most_unavailable() {
                Some(most) => steps.extend(self.replace_up_to(most).map(Step::Delete)),
                None => steps.extend(self.replace().map(Step::Delete)),
            }
        }
        steps
    }

    /// Starts what is missing; answers whether all is well enough to go on.
    fn fill(&self, steps: &mut Vec<Step>) -> bool {
        let mut complete = true;
        for (at, (ordinal, pod)) in self.wanted.iter().enumerate() {
            let well = match pod {
                None => {
                    let old = self.rolls() && at < self.partition();
                    let revision = if old { &self.current } else { &self.update };
                    steps.push(Step::Create { ordinal: *ordinal, revision: revision.clone() });
                    false
                }
                Some(pod) if pods::is_terminal(pod) && !is_dying(pod) => {
                    steps.push(Step::Delete(pod.clone()));
                    complete = false;
                    false
                }
                Some(pod) => self.tend(*ordinal, pod, steps),
            };
            if !well && self.is_ordered() {
                return false;
            }
        }
        complete
    }

    /// Mends a pod that is there; answers whether it is healthy.
    fn tend(&self, ordinal: i32, pod: &Arc<Pod>, steps: &mut Vec<Step>) -> bool {
        let labelled = template::identity(self.set, ordinal)
            .iter()
            .all(|(key, value)| pod.labels().get(key) == Some(value));
        if !labelled && !is_dying(pod) {
            steps.push(Step::Identify(pod.clone()));
        }
        if pods::phase(pod) == "Pending" && !is_dying(pod) {
            steps.push(Step::Claims(pod.clone()));
        }
        self.is_healthy(pod)
    }

    /// Ends what is too much; in order, nothing past a pod that is unwell, unless that is the one to go.
    fn shrink(&self, steps: &mut Vec<Step>) -> bool {
        let unwell = self.condemned.iter().rev().find(|(_, pod)| !self.is_healthy(pod));
        for (ordinal, pod) in &self.condemned {
            let first_unwell = unwell.is_some_and(|(first, _)| first == ordinal);
            // One that has ended for good will not get well.
            let may_recover = !self.is_healthy(pod) && !pods::is_terminal(pod);
            let blocked = is_dying(pod) || (may_recover && !first_unwell);
            if self.is_ordered() && blocked {
                return false;
            }
            if !is_dying(pod) {
                steps.push(Step::Delete(pod.clone()));
                if self.is_ordered() {
                    return false;
                }
            }
        }
        true
    }

    /// Pods that the update replaces now, from the highest ordinal down, so that no more than so many do no work.
    fn replace_up_to(&self, most: usize) -> impl Iterator<Item = Arc<Pod>> {
        let works = |pod: &Option<Arc<Pod>>| pod.as_ref().is_some_and(|pod| self.is_healthy(pod));
        let unavailable = self.wanted.iter().filter(|(_, pod)| !works(pod)).count();
        let present = self.wanted.iter().skip(self.partition()).rev().filter_map(|(_, pod)| pod.as_ref());
        let old = present.filter(|pod| pod.labels().get(LABEL) != Some(&self.update) && !is_dying(pod));
        old.take(most.saturating_sub(unavailable)).cloned()
    }

    /// The one pod that the update replaces now.
    fn replace(&self) -> Option<Arc<Pod>> {
        for (_, pod) in self.wanted.iter().skip(self.partition()).rev() {
            let pod = pod.as_ref()?;
            if pod.labels().get(LABEL) != Some(&self.update) && !is_dying(pod) {
                return Some(pod.clone());
            }
            if !self.is_healthy(pod) {
                return None;
            }
        }
        None
    }

    /// The status of these pods.
    pub(super) fn status(&self) -> StatefulSetStatus {
        let count = |test: &dyn Fn(&Pod) -> bool| {
            i32::try_from(self.pods().filter(|pod| test(pod)).count()).unwrap_or(i32::MAX)
        };
        let of = |pod: &Pod, revision: &str| {
            !is_dying(pod) && pod.labels().get(LABEL).is_some_and(|of| of == revision)
        };
        let ready = |pod: &Pod| pods::phase(pod) == "Running" && pods::ready_since(pod).is_some();
        let (replicas, ready) = (count(&|_| true), count(&ready));
        let updated = count(&|pod| of(pod, &self.update));
        let done = self.rolls() && updated == replicas && ready == replicas;
        let current = if done { &self.update } else { &self.current };
        let some = |count: i32| Some(count).filter(|count| *count > 0);
        StatefulSetStatus {
            replicas,
            ready_replicas: some(ready),
            available_replicas: Some(count(&|pod| {
                pods::phase(pod) == "Running" && pods::is_available(pod, self.min_ready(), self.now)
            })),
            current_replicas: some(count(&|pod| of(pod, current))),
            updated_replicas: some(updated),
            current_revision: Some(current.clone()),
            update_revision: Some(self.update.clone()),
            collision_count: Some(0),
            observed_generation: self.set.metadata.generation,
            conditions: self.set.status.as_ref().and_then(|status| status.conditions.clone()),
        }
    }

    /// When a pod becomes available without anything else changing.
    pub(super) fn next_look(&self) -> Next {
        pods::next_available(self.pods(), self.min_ready(), self.now)
    }
}

fn is_dying(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

#[cfg(test)]
mod tests;
