//! What containers and pods ask for and what it becomes: QoS class, cpu shares and quotas, memory limits, oom scores. All
//! arithmetic is on whole milli-units, with the kubelet's constants.

mod oom_score;
mod qos;
pub mod whole_pod;

pub use oom_score::oom_score_adj;
pub use qos::{Qos, qos};

use crate::kubelet::pod;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// Length of a CFS period in microseconds.
pub const CPU_PERIOD_US: i64 = 100_000;
/// Begins the names of the resources of each size of huge pages.
pub const HUGE_PAGES: &str = "hugepages-";
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;
const MIN_QUOTA_US: i64 = 1000;

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

/// Thousandths that a pod asks for in all: what it says as a whole, else what its containers ask for; plus the overhead of
/// its runtime class.
pub fn pod_request(pod: &Pod, resource: &str) -> i64 {
    whole_pod::request(pod, resource).unwrap_or_else(|| containers_request(pod, resource))
        + overhead(pod, resource)
}

/// Thousandths that the runtime class of a pod needs beside its containers.
pub fn overhead(pod: &Pod, resource: &str) -> i64 {
    amount(pod::spec(pod).overhead.as_ref(), resource).unwrap_or(0)
}

/// What the containers ask for: the sum of what runs side by side, or the largest init container with the sidecars that
/// already run beside it, whichever is more.
pub fn containers_request(pod: &Pod, resource: &str) -> i64 {
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
    (mains + sidecars).max(peak)
}

/// The limit of a whole pod in thousandths: its own, else that of its containers if every one has one.
pub fn pod_limit(pod: &Pod, resource: &str) -> Option<i64> {
    let own = whole_pod::limit(pod, resource).or_else(|| containers_limit(pod, resource));
    own.map(|limit| limit + overhead(pod, resource))
}

fn containers_limit(pod: &Pod, resource: &str) -> Option<i64> {
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
    Some((limits?.iter().sum::<i64>() + sidecars).max(peak))
}

/// What a container may use at most: its own limit, else that of the pod as a whole.
pub fn container_limit(pod: &Pod, container: &Container, resource: &str) -> Option<i64> {
    limit(container.resources.as_ref(), resource).or_else(|| whole_pod::limit(pod, resource))
}

/// Huge pages of each size that a pod or a container may use, by the name that cgroups have for the size.
pub fn huge_pages(amounts: Option<&Amounts>) -> BTreeMap<String, u64> {
    let of_size = |(name, quantity): (&String, &Quantity)| {
        Some((page_size(name.strip_prefix(HUGE_PAGES)?), u64::try_from(value(quantity)?).ok()?))
    };
    amounts.into_iter().flatten().filter_map(of_size).collect()
}

/// Bytes of huge pages of each of these sizes that a pod may use in all, by the cgroups' names of the sizes.
pub fn huge_pages_of(pod: &Pod, sizes: &[String]) -> Vec<(String, i64)> {
    let of_size = |size: &String| pod_request(pod, &format!("{HUGE_PAGES}{size}")) / 1000;
    sizes.iter().map(|size| (page_size(size), of_size(size))).collect()
}

/// `2MB`: what cgroups call huge pages of `2Mi`.
pub fn page_size(size: &str) -> String {
    size.replace('i', "B")
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
