//! What a daemon set does next, node by node, decided from data alone.

use super::{min_ready, template};
use crate::controllers::history::LABEL;
use crate::controllers::pods;
use crate::controllers::runner::Next;
use crate::scheduler::daemon::Fit;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A failed pod is replaced after this, so that one that fails at once does not spin.
const RETRY: SignedDuration = SignedDuration::from_secs(10);

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Names of nodes that get a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Failed pods among those deleted, with their nodes.
    pub(super) failed: Vec<(Arc<Pod>, String)>,
}

/// A node and the set's pods there, oldest first.
struct Place {
    node: String,
    fit: Fit,
    pods: Vec<Arc<Pod>>,
}

/// A daemon set, its nodes and its pods.
pub(super) struct World<'a> {
    set: &'a DaemonSet,
    spec: &'a DaemonSetSpec,
    hash: String,
    places: Vec<Place>,
    /// On nodes that are gone.
    homeless: Vec<Arc<Pod>>,
    now: Timestamp,
}

impl<'a> World<'a> {
    pub(super) fn new(
        set: &'a DaemonSet,
        spec: &'a DaemonSetSpec,
        hash: String,
        fits: Vec<(String, Fit)>,
        mut pods: Vec<Arc<Pod>>,
        now: Timestamp,
    ) -> Self {
        // Bound ones before those that wait for a node.
        pods.sort_by_key(|pod| (pods::node_of(pod).is_none(), pod.creation_timestamp(), pod.name_any()));
        let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        for pod in pods {
            by_node.entry(template::node_of(&pod).unwrap_or_default().to_owned()).or_default().push(pod);
        }
        let place = |(node, fit): (String, Fit)| {
            let pods = by_node.remove(&node).unwrap_or_default();
            Place { node, fit, pods }
        };
        let places = fits.into_iter().map(place).collect();
        Self { set, spec, hash, places, homeless: by_node.into_values().flatten().collect(), now }
    }

    /// The hash of the present template.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    /// Hashes that pods carry.
    pub(super) fn hashes(&self) -> BTreeSet<String> {
        let all = self.places.iter().flat_map(|place| &place.pods);
        all.filter_map(|pod| pod.labels().get(LABEL).cloned()).collect()
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.metadata.deletion_timestamp.is_none() && pods::is_available(pod, min_ready(self.spec), self.now)
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        pod.labels().get(LABEL) == Some(&self.hash)
    }

    /// The next steps: first that every node has what it should, then newer pods for old ones.
    pub(super) fn plan(&self) -> Plan {
        // Unbound pods for nodes that are gone never start; bound ones are removed with their node.
        let unbound = self.homeless.iter().filter(|pod| pods::node_of(pod).is_none()).cloned();
        let mut plan = Plan { delete: unbound.collect(), ..Plan::default() };
        let strategy = self.spec.update_strategy.as_ref();
        let rolls = strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("OnDelete");
        let limits = self.limits(strategy.and_then(|strategy| strategy.rolling_update.as_ref()));
        let surges = rolls && limits.0 > 0;
        self.places.iter().for_each(|place| self.manage(place, surges, &mut plan));
        match limits {
            (surge, _) if surges => self.surge(surge, &mut plan),
            (_, unavailable) if rolls => self.replace(unavailable, &mut plan),
            _ => {}
        }
        plan
    }

    fn manage(&self, place: &Place, surges: bool, plan: &mut Plan) {
        if !place.fit.may_stay {
            return plan.delete.extend(place.pods.iter().cloned());
        }
        if place.pods.is_empty() {
            plan.create.extend(place.fit.should_run.then(|| place.node.clone()));
            return;
        }
        for pod in place.pods.iter().filter(|pod| pods::is_terminal(pod)) {
            if self.wait_for(pod).is_none() {
                plan.failed.push((pod.clone(), place.node.clone()));
                plan.delete.push(pod.clone());
            }
        }
        let running = || place.pods.iter().filter(|pod| pods::is_active(pod));
        if !surges {
            // The oldest stays.
            return plan.delete.extend(running().skip(1).cloned());
        }
        if running().next().is_none() {
            // One that is on its way out is not waited for.
            return plan.create.extend(place.fit.should_run.then(|| place.node.clone()));
        }
        for updated in [true, false] {
            plan.delete.extend(running().filter(|pod| self.is_updated(pod) == updated).skip(1).cloned());
        }
        // An old one that does no work has nothing to wait for.
        if let (Some(new), Some(old)) = self.generations(place)
            && (pods::ready_since(old).is_none() || self.is_available(new))
        {
            plan.delete.push(old.clone());
        }
    }

    /// How long a failed pod is still left alone.
    fn wait_for(&self, pod: &Pod) -> Option<SignedDuration> {
        let since = self.now.duration_since(pods::finished_at(pod)?);
        Some(RETRY - since).filter(|left| left.is_positive())
    }

    fn limits(&self, rolling: Option<&RollingUpdateDaemonSet>) -> (usize, usize) {
        let desired = self.places.iter().filter(|place| place.fit.should_run).count();
        let surge = count(rolling.and_then(|rolling| rolling.max_surge.as_ref()), desired, 0);
        let unavailable = count(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), desired, 1);
        (surge, if surge == 0 { unavailable.max(1) } else { unavailable })
    }

    /// Takes old pods away, so that no more than so many do no work; the nodes get new ones when they are gone.
    fn replace(&self, unavailable: usize, plan: &mut Plan) {
        let mut missing = 0;
        let (mut broken, mut good): (Vec<&Place>, Vec<&Place>) = (Vec::new(), Vec::new());
        for place in self.places.iter().filter(|place| place.fit.may_stay) {
            match self.generations(place) {
                (Some(_), Some(_)) => missing += 1,
                (Some(new), None) => missing += usize::from(!self.is_available(new)),
                (None, Some(old)) if self.is_available(old) => good.push(place),
                (None, Some(_)) => broken.push(place),
                (None, None) => missing += usize::from(place.fit.should_run),
            }
        }
        let room = unavailable.saturating_sub(missing + broken.len());
        for place in broken.into_iter().chain(good.into_iter().take(room)) {
            plan.delete.extend(self.generations(place).1.cloned());
        }
    }

    /// Starts new pods beside old ones, no more than so many beside those that work. Where none should be any more the old
    /// one goes once there are enough elsewhere.
    fn surge(&self, surge: usize, plan: &mut Plan) {
        let (mut surging, mut available) = (0, 0);
        let (mut broken, mut good, mut leaving) = (Vec::new(), Vec::new(), Vec::new());
        for place in self.places.iter().filter(|place| place.fit.may_stay) {
            let (new, old) = self.generations(place);
            available += usize::from(old.or(new).is_some_and(|pod| self.is_available(pod)));
            match (new, old) {
                (Some(new), Some(_)) => surging += usize::from(!self.is_available(new)),
                (None, Some(old)) => match (self.is_available(old), place.fit.should_run) {
                    (true, true) => good.push(place.node.clone()),
                    (true, false) => leaving.push(old.clone()),
                    (false, true) => broken.push(place.node.clone()),
                    (false, false) => plan.delete.push(old.clone()),
                },
                (_, None) => {}
            }
        }
        let desired = self.places.iter().filter(|place| place.fit.should_run).count();
        plan.delete.extend(leaving.into_iter().take(available.saturating_sub(desired)));
        plan.create.extend(broken.into_iter().chain(good.into_iter().take(surge.saturating_sub(surging))));
    }

    /// The pod of the present template and the one of an older one.
    fn generations<'b>(&self, place: &'b Place) -> (Option<&'b Arc<Pod>>, Option<&'b Arc<Pod>>) {
        let find = |updated: bool| {
            place.pods.iter().find(|pod| pods::is_active(pod) && self.is_updated(pod) == updated)
        };
        (find(true), find(false))
    }

    /// The numbers, by the oldest pod of each node; zeros are left out, as Go's omitempty does.
    pub(super) fn status(&self) -> DaemonSetStatus {
        let count = |test: &dyn Fn(&Place) -> bool| {
            i32::try_from(self.places.iter().filter(|place| test(place)).count()).unwrap_or(i32::MAX)
        };
        // While there are two the older one is what the node has.
        let oldest = |place: &Place| {
            let gone = |pod: &Pod| pods::is_terminal(pod) && pod.metadata.deletion_timestamp.is_some();
            place.pods.iter().find(|pod| !gone(pod)).cloned()
        };
        let runs = |place: &Place, test: &dyn Fn(&Pod) -> bool| {
            place.fit.should_run && oldest(place).is_some_and(|pod| test(&pod))
        };
        let min_ready = min_ready(self.spec);
        let is_available = |pod: &Pod| pods::is_available(pod, min_ready, self.now);
        let desired = count(&|place| place.fit.should_run);
        let available = count(&|place| runs(place, &is_available));
        let positive = |count: i32| Some(count).filter(|count| *count > 0);
        DaemonSetStatus {
            desired_number_scheduled: desired,
            current_number_scheduled: count(&|place| runs(place, &|_| true)),
            number_misscheduled: count(&|place| !place.fit.should_run && oldest(place).is_some()),
            number_ready: count(&|place| runs(place, &|pod| pods::ready_since(pod).is_some())),
            number_available: positive(available),
            number_unavailable: positive(desired - available),
            updated_number_scheduled: positive(count(&|place| runs(place, &|pod| self.is_updated(pod)))),
            observed_generation: self.set.metadata.generation,
            collision_count: self.set.status.as_ref().and_then(|status| status.collision_count),
            conditions: None,
        }
    }

    /// When time alone changes something: a pod becomes available, or a failed one is replaced.
    pub(super) fn next_look(&self) -> Next {
        let all = || self.places.iter().flat_map(|place| &place.pods);
        let failed = all().filter(|pod| pods::is_terminal(pod)).filter_map(|pod| self.wait_for(pod));
        let ready = all()
            .filter_map(|pod| Some(min_ready(self.spec) - self.now.duration_since(pods::ready_since(pod)?)));
        let left = failed.chain(ready).filter(|left| left.is_positive()).min();
        left.map_or(Next::Wait, |left| Next::After(Duration::try_from(left).unwrap_or_default()))
    }
}

/// A count, or a percentage of `whole`, rounded up.
fn count(value: Option<&IntOrString>, whole: usize, default: usize) -> usize {
    match value {
        None => default,
        Some(IntOrString::Int(count)) => usize::try_from(*count).unwrap_or(0),
        Some(IntOrString::String(text)) => {
            let percent: usize = text.trim_end_matches('%').parse().unwrap_or(0);
            whole.saturating_mul(percent).div_ceil(100)
        }
    }
}

#[cfg(test)]
mod tests;
