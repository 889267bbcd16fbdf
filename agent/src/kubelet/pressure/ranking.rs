//! Who goes first: pods that use more than they asked for, then those of lower priority, then those that are over
//! their request by most. The message says what a person needs to set better requests. Pure.

use super::NODE_IS_SHORT;
use super::thresholds::{Readings, Signal, Threshold};
use super::usage::Usage;
use crate::kubelet::pod;
use crate::kubelet::resources;
use k8s_openapi::api::core::v1::{Container, Pod};
use knarr_api::quantity::Quantity;
use std::cmp::Reverse;
use std::fmt::Write;

/// A pod that may be evicted.
#[derive(Debug, Clone)]
pub(super) struct Candidate<'a> {
    pub(super) pod: &'a Pod,
    priority: i32,
    usage: i64,
    request: i64,
    /// The pod asks for so much as a whole.
    whole: Option<i64>,
    /// Name, usage and request of each container.
    containers: Vec<(String, i64, i64)>,
}

impl<'a> Candidate<'a> {
    /// A pod as far as the resource behind `signal` is concerned.
    pub(super) fn new(pod: &'a Pod, usage: &Usage, signal: Signal) -> Candidate<'a> {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let total = match signal {
            Signal::Memory => usage.memory(),
            Signal::NodeDisk | Signal::ImageDisk => usage.disk().bytes,
            Signal::NodeInodes | Signal::ImageInodes => usage.disk().inodes,
            Signal::Pids => usage.processes,
        };
        let of_container = |container: &Container| {
            let used = usage.containers.get(&container.name).copied().unwrap_or_default();
            let used = match signal {
                Signal::Memory => used.memory,
                Signal::NodeDisk | Signal::ImageDisk => used.disk.bytes,
                Signal::NodeInodes | Signal::ImageInodes => used.disk.inodes,
                Signal::Pids => 0,
            };
            let request = resources::request(container.resources.as_ref(), signal.resource()).unwrap_or(0);
            (container.name.clone(), number(used), request / 1000)
        };
        Candidate {
            pod,
            priority: pod::spec(pod).priority.unwrap_or(0),
            usage: number(total),
            request: resources::pod_request(pod, signal.resource()) / 1000,
            whole: resources::whole_pod::request(pod, signal.resource()).map(|milli| milli / 1000),
            containers: pod::containers(pod).map(|(_, container)| of_container(container)).collect(),
        }
    }
}

/// In the order in which they go.
pub(super) fn rank(mut candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    candidates.sort_by_key(|candidate| {
        let over = candidate.usage - candidate.request;
        (Reverse(over > 0), candidate.priority, Reverse(over))
    });
    candidates
}

/// `status.message` of the pod.
pub(super) fn message(victim: &Candidate<'_>, threshold: &Threshold, readings: &Readings) -> String {
    let resource = threshold.signal.resource();
    let mut text = format!("{NODE_IS_SHORT}{resource}. ");
    let amount = |value: i64| match threshold.signal {
        Signal::Memory | Signal::NodeDisk | Signal::ImageDisk => Quantity::from_bytes(value).to_string(),
        _ => value.to_string(),
    };
    let number = |value: u64| amount(i64::try_from(value).unwrap_or(i64::MAX));
    if let Some(reading) = readings.get(&threshold.signal) {
        let limit = threshold.limit(reading.capacity);
        // Writing to a string cannot fail.
        let _ =
            write!(text, "Threshold quantity: {}, available: {}. ", number(limit), number(reading.available));
    }
    if let Some(request) = victim.whole {
        let name = pod::name(victim.pod);
        let (usage, request) = (amount(victim.usage), amount(request));
        let _ = write!(
            text,
            "Pod {name} was using {usage}, request is {request}, has larger consumption of {resource}. "
        );
    }
    for (name, usage, request) in victim.containers.iter().filter(|(_, usage, request)| usage > request) {
        let _ = write!(
            text,
            "Container {name} was using {}, request is {}, has larger consumption of {resource}. ",
            amount(*usage),
            amount(*request)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::thresholds::{Reading, Texts, parse};
    use super::super::usage::{ContainerUsage, Disk};
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn pod(name: &str, priority: i32, request: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"priority": priority,
            "containers": [{"name": "c", "resources": {"requests": {"memory": request}}}]}}))
        .unwrap()
    }

    fn using(memory: u64) -> Usage {
        let usage = ContainerUsage { memory, disk: Disk::default() };
        Usage { containers: [("c".to_string(), usage)].into(), ..Usage::default() }
    }

    #[test]
    fn the_greedy_go_before_the_modest() {
        let pods = [
            (pod("modest", 0, "1Gi"), 100),
            (pod("greedy", 5, "0"), 50),
            (pod("greedier", 5, "0"), 90),
            (pod("important", 9, "0"), 500),
        ];
        let candidates =
            pods.iter().map(|(pod, memory)| Candidate::new(pod, &using(*memory), Signal::Memory)).collect();
        let order: Vec<&str> = rank(candidates).iter().map(|c| pod::name(c.pod)).collect();
        assert_eq!(order, ["greedier", "greedy", "important", "modest"]);
    }

    /// Nobody asks for processes, so all are greedy: first those that matter least, then those with most.
    #[test]
    fn who_has_most_processes_goes_first_among_equals() {
        let with = |processes: u64| Usage { processes, ..Usage::default() };
        let pods = [
            (pod("few", 0, "0"), 3),
            (pod("important", 9, "0"), 5000),
            (pod("many", 0, "0"), 400),
            (pod("none", -1, "0"), 0),
        ];
        let candidates = pods.iter().map(|(pod, n)| Candidate::new(pod, &with(*n), Signal::Pids)).collect();
        let order: Vec<&str> = rank(candidates).iter().map(|c| pod::name(c.pod)).collect();
        assert_eq!(order, ["many", "few", "important", "none"]);
    }

    #[test]
    fn the_message_is_the_kubelets() {
        let none = BTreeMap::new();
        let hard = [("memory.available".to_string(), "100Mi".to_string())].into();
        let texts = Texts { hard: &hard, soft: &none, grace: &none, reclaim: &none };
        let threshold = parse(texts).unwrap()[0];
        let readings = Readings::from([(Signal::Memory, Reading { available: 50 << 20, capacity: 1 << 30 })]);
        let pod = pod("p", 0, "0");
        let victim = Candidate::new(&pod, &using(2 << 20), Signal::Memory);
        assert_eq!(
            message(&victim, &threshold, &readings),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container c was using 2Mi, request is 0, has larger consumption of memory. "
        );
        let mut shared = pod.clone();
        let whole = json!({"requests": {"memory": "1Mi"}});
        shared.spec.as_mut().unwrap().resources = serde_json::from_value(whole).unwrap();
        let victim = Candidate::new(&shared, &using(2 << 20), Signal::Memory);
        let text = message(&victim, &threshold, &readings);
        assert!(text.contains(
            "50Mi. Pod p was using 2Mi, request is 1Mi, has larger consumption of memory. Container c"
        ));
    }
}
