//! What containers ask for and what it becomes: QoS class, cpu shares and quotas, memory limits, oom scores. All
//! arithmetic is on whole milli-units, with the kubelet's constants.

use crate::kubelet::pod;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Length of a CFS period in microseconds.
pub const CPU_PERIOD_US: i64 = 100_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA_US: i64 = 1000;

/// The three quality-of-service classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    #[allow(missing_docs)]
    Guaranteed,
    #[allow(missing_docs)]
    Burstable,
    #[allow(missing_docs)]
    BestEffort,
}

impl Qos {
    /// The word in `status.qosClass`.
    pub fn name(self) -> &'static str {
        match self {
            Qos::Guaranteed => "Guaranteed",
            Qos::Burstable => "Burstable",
            Qos::BestEffort => "BestEffort",
        }
    }
}

/// A set of amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// The amount that a quantity writes; `None` for text that is none.
pub fn parse(quantity: &Quantity) -> Option<knarr_api::quantity::Quantity> {
    quantity.0.trim().parse().ok()
}

/// Thousandths of the unit, rounded up; `None` for text that is no quantity.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    parse(quantity).map(|amount| amount.milli())
}

/// Whole units, rounded up.
pub fn value(quantity: &Quantity) -> Option<i64> {
    parse(quantity).map(|amount| amount.units())
}

fn amount(amounts: Option<&Amounts>, resource: &str) -> Option<i64> {
    milli(amounts?.get(resource)?).filter(|milli| *milli > 0)
}

/// The limit of a resource in thousandths.
pub fn limit(requirements: Option<&ResourceRequirements>, resource: &str) -> Option<i64> {
    amount(requirements?.limits.as_ref(), resource)
}

/// The request of a resource in thousandths; a limit without a request is also the request.
pub fn request(requirements: Option<&ResourceRequirements>, resource: &str) -> Option<i64> {
    let requirements = requirements?;
    amount(requirements.requests.as_ref(), resource)
        .or_else(|| amount(requirements.limits.as_ref(), resource))
}

/// `status.qosClass`.
pub fn qos(pod: &Pod) -> Qos {
    let mut any = false;
    let mut guaranteed = true;
    for (_, container) in pod::containers(pod) {
        for resource in ["cpu", "memory"] {
            let requirements = container.resources.as_ref();
            let (request, limit) = (request(requirements, resource), limit(requirements, resource));
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some() && request == limit;
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// Thousandths that a pod asks for in all: the sum of what runs side by side, or the largest init container with
/// the sidecars that already run beside it, whichever is more; plus the overhead of its runtime class.
pub fn pod_request(pod: &Pod, resource: &str) -> i64 {
    let wanted = |container: &Container| request(container.resources.as_ref(), resource).unwrap_or(0);
    let mains: i64 = pod::spec(pod).containers.iter().map(wanted).sum();
    let (mut sidecars, mut peak) = (0, 0);
    for (kind, container) in pod::init_containers(pod) {
        if kind == pod::Kind::Sidecar {
            sidecars += wanted(container);
            peak = peak.max(sidecars);
        } else {
            peak = peak.max(sidecars + wanted(container));
        }
    }
    let overhead = amount(pod::spec(pod).overhead.as_ref(), resource).unwrap_or(0);
    (mains + sidecars).max(peak) + overhead
}

/// The pod-level limit in thousandths: exists only when every container has one.
pub fn pod_limit(pod: &Pod, resource: &str) -> Option<i64> {
    let limits: Option<Vec<i64>> =
        pod::spec(pod).containers.iter().map(|c| limit(c.resources.as_ref(), resource)).collect();
    let mut sidecars = 0;
    let mut peak = 0;
    for (kind, container) in pod::init_containers(pod) {
        let limit = limit(container.resources.as_ref(), resource)?;
        if kind == pod::Kind::Sidecar {
            sidecars += limit;
        }
        peak = peak.max(limit + if kind == pod::Kind::Sidecar { sidecars - limit } else { sidecars });
    }
    let overhead = amount(pod::spec(pod).overhead.as_ref(), resource).unwrap_or(0);
    Some((limits?.iter().sum::<i64>() + sidecars).max(peak) + overhead)
}

/// `cpu.shares` for so many thousandths of a processor.
pub fn cpu_shares(milli_cpu: i64) -> i64 {
    if milli_cpu == 0 { MIN_SHARES } else { (milli_cpu * 1024 / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// The same as `cpu.weight` of version 2.
pub fn cpu_weight(shares: i64) -> i64 {
    1 + (shares.clamp(MIN_SHARES, MAX_SHARES) - 2) * 9999 / 262_142
}

/// `cpu.cfs_quota_us` for a limit of so many thousandths of a processor.
pub fn cpu_quota(milli_cpu: i64) -> i64 {
    (milli_cpu * CPU_PERIOD_US / 1000).max(MIN_QUOTA_US)
}

/// `oom_score_adj` of a container on a machine with `node_memory` bytes.
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i64 {
    const NODE_CRITICAL_PRIORITY: i32 = 2_000_001_000;
    if pod::spec(pod).priority.unwrap_or(0) >= NODE_CRITICAL_PRIORITY {
        return -997;
    }
    match qos(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = request(container.resources.as_ref(), "memory").unwrap_or(0) / 1000;
            let share = i128::from(request) * 1000 / i128::from(node_memory.max(1));
            (1000 - i64::try_from(share).unwrap_or(1000)).clamp(3, 999)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_in_thousandths() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("500m", Some(500)),
            ("0.1", Some(100)),
            (".5", Some(500)),
            ("128Mi", Some(134_217_728_000)),
            ("1e3", Some(1_000_000)),
            ("1n", Some(1)),
            ("-1", Some(-1000)),
            ("", None),
            ("x", None),
            ("1Zi", None),
        ] {
            assert_eq!(milli(&Quantity(text.into())), expected, "{text}");
        }
    }

    #[test]
    fn shares_and_quotas_have_the_kernels_limits() {
        assert_eq!((cpu_shares(0), cpu_shares(500), cpu_shares(1_000_000_000)), (2, 512, 262_144));
        assert_eq!((cpu_quota(1), cpu_quota(500)), (1000, 50_000));
    }
}
