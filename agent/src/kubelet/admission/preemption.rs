//! Whom a critical pod drives out when the node is too full for it: as few as possible, and rather those who were promised
//! less. Of every class those are taken that come nearest to what is still short, counting on all that lower classes could
//! give. Pure.

use super::{Shortage, takes};
use crate::kubelet::pod;
use crate::kubelet::pressure::is_critical;
use crate::kubelet::resources::{self, Qos};
use k8s_openapi::api::core::v1::Pod;

/// Thousandths of each resource that must be freed.
type Short = Vec<(String, i64)>;

/// The pods that make room, of those that the newcomer may drive out. The error says what nobody can give.
pub fn victims<'a>(
    newcomer: &Pod,
    others: &[&'a Pod],
    shortages: &[Shortage],
) -> Result<Vec<&'a Pod>, String> {
    let short: Short =
        shortages.iter().map(|shortage| (shortage.resource.clone(), shortage.missing())).collect();
    let of_class = |class: Qos| -> Vec<&'a Pod> {
        let weaker = others.iter().filter(|other| gives_way(newcomer, other));
        weaker.filter(|other| resources::qos(other) == class).copied().collect()
    };
    let [best_effort, burstable, guaranteed] =
        [Qos::BestEffort, Qos::Burstable, Qos::Guaranteed].map(of_class);
    let lower = [best_effort.as_slice(), &burstable].concat();
    let left = without(&short, [lower.as_slice(), &guaranteed].concat());
    if !left.is_empty() {
        return Err(told(&left));
    }
    let from_guaranteed = nearest(guaranteed, without(&short, lower))?;
    let from_burstable =
        nearest(burstable, without(&short, [best_effort.as_slice(), &from_guaranteed].concat()))?;
    let chosen = [from_burstable, from_guaranteed].concat();
    let from_best_effort = nearest(best_effort, without(&short, chosen.clone()))?;
    Ok([from_best_effort, chosen].concat())
}

/// Whoever is critical comes before all that are not; among equals the priority decides.
fn gives_way(newcomer: &Pod, other: &Pod) -> bool {
    let priority = |pod: &Pod| pod::spec(pod).priority;
    (is_critical(newcomer) && !is_critical(other))
        || priority(newcomer).zip(priority(other)).is_some_and(|(own, other)| own > other)
}

/// What is still short when these are gone.
fn without<'a>(short: &Short, gone: impl IntoIterator<Item = &'a Pod>) -> Short {
    let gone: Vec<&Pod> = gone.into_iter().collect();
    let left = |(resource, missing): &(String, i64)| {
        let freed: i64 = gone.iter().map(|pod| takes(pod, resource)).sum();
        Some((resource.clone(), missing - freed)).filter(|(_, left)| *left > 0)
    };
    short.iter().filter_map(left).collect()
}

/// Takes one after the other, each time the one that comes nearest; of two equally near ones the smaller.
fn nearest(mut pods: Vec<&Pod>, mut short: Short) -> Result<Vec<&Pod>, String> {
    let mut chosen = Vec::new();
    while !short.is_empty() {
        let size = |pod: &Pod| ["memory", "cpu"].map(|resource| resources::pod_request(pod, resource));
        let best = pods.iter().enumerate().min_by(|(_, a), (_, b)| {
            distance(&short, a).total_cmp(&distance(&short, b)).then_with(|| size(a).cmp(&size(b)))
        });
        let Some((index, _)) = best else { return Err(told(&short)) };
        let pod = pods.swap_remove(index);
        short = without(&short, [pod]);
        chosen.push(pod);
    }
    Ok(chosen)
}

/// How much would still be short without this pod: each resource as the part of what is short of it, squared.
#[allow(clippy::cast_precision_loss)]
fn distance(short: &Short, pod: &Pod) -> f64 {
    let part = |(resource, missing): &(String, i64)| {
        let left = (missing - takes(pod, resource)).max(0);
        (left as f64 / *missing as f64).powi(2)
    };
    short.iter().map(part).sum()
}

fn told(short: &Short) -> String {
    let each = short.iter().map(|(resource, missing)| {
        let unit = if resource == "cpu" { 1 } else { 1000 };
        format!("(res: {resource}, q: {}), ", missing / unit)
    });
    format!(
        "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of \
         pods to preempt: no set of running pods found to reclaim resources: [{}]",
        each.collect::<String>()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `name`, priority, request and limit of processors and memory alike.
    fn pod(name: &str, priority: i32, request: &str, limit: &str) -> Pod {
        let amounts = |amount: &str| match amount {
            "" => json!({}),
            _ => json!({"cpu": format!("{amount}m"), "memory": format!("{amount}Mi")}),
        };
        let resources = json!({"requests": amounts(request), "limits": amounts(limit)});
        serde_json::from_value(json!({"metadata": {"name": name},
            "spec": {"priority": priority, "containers": [{"name": "c", "resources": resources}]}}))
        .unwrap()
    }

    fn short(cpu: i64, memory: i64) -> Vec<Shortage> {
        let one = |resource: &str, missing: i64| Shortage {
            resource: resource.to_owned(),
            wanted: missing,
            used: 0,
            capacity: 0,
        };
        let all = [one("cpu", cpu), one("memory", memory << 20).in_thousandths()];
        all.into_iter().filter(|shortage| shortage.wanted > 0).collect()
    }

    impl Shortage {
        fn in_thousandths(self) -> Shortage {
            Shortage { wanted: self.wanted * 1000, ..self }
        }
    }

    #[test]
    fn as_few_as_possible_and_rather_those_who_were_promised_less() {
        let critical = pod("critical", 2_000_000_000, "100", "");
        let all = [
            pod("best-effort", 0, "", ""),
            pod("burstable", 0, "100", "200"),
            pod("large-burstable", 0, "300", ""),
            pod("guaranteed", 0, "100", "100"),
            pod("large-guaranteed", 0, "300", "300"),
            pod("other-critical", 2_000_000_000, "900", "900"),
        ];
        let all: Vec<&Pod> = all.iter().collect();
        let chosen = |newcomer: &Pod, cpu, memory| {
            let chosen = victims(newcomer, &all, &short(cpu, memory))?;
            Ok::<_, String>(chosen.into_iter().map(|pod| pod::name(pod).to_owned()).collect::<Vec<_>>())
        };
        for (cpu, memory, expected) in [
            (0, 0, &[][..]),
            (0, 50, &["burstable"]),
            (0, 100, &["burstable"]),
            (0, 101, &["large-burstable"]),
            (100, 300, &["large-burstable"]),
            (0, 350, &["large-burstable", "burstable"]),
            (0, 450, &["large-burstable", "burstable", "guaranteed"]),
            (0, 550, &["large-burstable", "large-guaranteed"]),
            (700, 10, &["large-burstable", "large-guaranteed", "burstable"][..]),
        ] {
            let mut found = chosen(&critical, cpu, memory).unwrap();
            found.sort();
            let mut expected: Vec<String> = expected.iter().map(|name| (*name).to_owned()).collect();
            expected.sort();
            assert_eq!(found, expected, "{cpu} {memory}");
        }
        let error = chosen(&critical, 900, 0).unwrap_err();
        assert!(
            error.ends_with("no set of running pods found to reclaim resources: [(res: cpu, q: 100), ]"),
            "{error}"
        );
        assert!(chosen(&pod("equal", 0, "1", ""), 1, 0).is_err(), "nobody gives way to an equal");
        let more_critical = pod("node-critical", 2_000_001_000, "1", "");
        assert!(chosen(&more_critical, 1700, 0).unwrap().contains(&"other-critical".to_owned()));
    }
}
