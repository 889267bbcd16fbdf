//! Who has which processors: plain data and its rules.

use super::set::CpuSet;
use crate::kubelet::pod::{self, Kind};
use crate::kubelet::resources::{self, Qos};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The state file's contents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Books {
    pub(super) policy_name: String,
    /// What containers without processors of their own share.
    pub(super) default_cpu_set: CpuSet,
    /// By pod uid, then by container.
    #[serde(default)]
    pub(super) entries: BTreeMap<String, BTreeMap<String, CpuSet>>,
}

/// The processors of each core, in the order in which they are given away.
pub(super) type Cores = Vec<CpuSet>;

/// How many processors a container gets for itself: whole ones, of a Guaranteed pod.
pub(super) fn wanted(pod: &Pod, container: &Container) -> usize {
    let milli = resources::request(container.resources.as_ref(), "cpu").unwrap_or(0);
    let shares = resources::whole_pod::asks(pod);
    let whole = !shares && resources::qos(pod) == Qos::Guaranteed && milli > 0 && milli % 1000 == 0;
    if whole { usize::try_from(milli / 1000).unwrap_or(usize::MAX) } else { 0 }
}

impl Books {
    /// The processors of one container: its own, or the shared ones.
    pub(super) fn of(&self, uid: &str, container: &str) -> CpuSet {
        let own = self.entries.get(uid).and_then(|containers| containers.get(container));
        own.unwrap_or(&self.default_cpu_set).clone()
    }

    /// Takes the pod's processors back; whether it had any.
    pub(super) fn release(&mut self, uid: &str) -> bool {
        let Some(containers) = self.entries.remove(uid) else { return false };
        for set in containers.values() {
            self.default_cpu_set = self.default_cpu_set.with(set);
        }
        true
    }

    /// Gives every container of the pod what it asks for, or none of them any; whether something changed. The `reserved`
    /// ones stay shared.
    pub(super) fn reserve(&mut self, pod: &Pod, cores: &Cores, reserved: &CpuSet) -> Result<bool, String> {
        if self.entries.contains_key(pod::uid(pod)) {
            return Ok(false);
        }
        let mut given = BTreeMap::new();
        let mut free = self.default_cpu_set.without(reserved);
        // Containers that have ended leave theirs to those that come after them.
        let mut reusable = CpuSet::default();
        let mut taken = CpuSet::default();
        for (kind, container) in pod::containers(pod) {
            let count = wanted(pod, container);
            if count == 0 {
                continue;
            }
            let set = choose(&reusable, &free, cores, count)?;
            free = free.without(&set);
            reusable = if kind == Kind::Init { reusable.with(&set) } else { reusable.without(&set) };
            taken = taken.with(&set);
            given.insert(container.name.clone(), set);
        }
        let changed = !given.is_empty();
        if changed {
            self.default_cpu_set = self.default_cpu_set.without(&taken);
            self.entries.insert(pod::uid(pod).to_owned(), given);
        }
        Ok(changed)
    }
}

/// What earlier containers left first, then whole cores, then single processors of cores that are shared already.
fn choose(reusable: &CpuSet, free: &CpuSet, cores: &Cores, count: usize) -> Result<CpuSet, String> {
    let available = reusable.with(free);
    if available.len() < count {
        return Err(format!(
            "not enough cpus available to satisfy request: requested={count}, available={}",
            available.len()
        ));
    }
    let mut chosen: CpuSet = reusable.0.iter().take(count).copied().collect();
    for core in cores.iter().filter(|core| core.without(free).is_empty()) {
        if chosen.len() + core.len() <= count {
            chosen = chosen.with(core);
        }
    }
    // Cores of which somebody has a part already, before whole ones are split.
    let split = cores.iter().filter(|core| !core.without(free).is_empty());
    let whole = cores.iter().filter(|core| core.without(free).is_empty());
    for number in split.chain(whole).flat_map(|core| core.0.iter()) {
        if chosen.len() < count && free.0.contains(number) {
            chosen.0.insert(*number);
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    fn books() -> (Books, Cores) {
        let books = Books { default_cpu_set: set("0-7"), ..Books::default() };
        (books, ["0,4", "1,5", "2,6", "3,7"].map(set).into())
    }

    fn pod(uid: &str, cpus: &[&str]) -> Pod {
        let container = |(index, cpu): (usize, &&str)| json!({"name": format!("c{index}"), "resources": {"limits": {"cpu": cpu, "memory": "1Mi"}}});
        let containers: Vec<_> = cpus.iter().enumerate().map(container).collect();
        serde_json::from_value(
            json!({"metadata": {"name": uid, "uid": uid}, "spec": {"containers": containers}}),
        )
        .unwrap()
    }

    #[test]
    fn whole_processors_belong_to_one_container() {
        let (mut books, cores) = books();
        let reserved = set("0");
        assert_eq!(books.reserve(&pod("shared", &["500m", "1500m"]), &cores, &reserved), Ok(false));
        let mut whole = pod("whole", &["2"]);
        let amounts = json!({"limits": {"cpu": "2", "memory": "1Mi"}});
        whole.spec.as_mut().unwrap().resources = serde_json::from_value(amounts).unwrap();
        assert_eq!(books.reserve(&whole, &cores, &reserved), Ok(false), "its containers share");
        assert_eq!(books.reserve(&pod("a", &["2"]), &cores, &reserved), Ok(true));
        assert_eq!(books.of("a", "c0"), set("1,5"), "a whole core");
        assert_eq!(books.reserve(&pod("b", &["1"]), &cores, &reserved), Ok(true));
        assert_eq!(books.of("b", "c0"), set("4"), "the other half of the reserved core");
        assert_eq!(books.default_cpu_set, set("0,2,3,6,7"));
        let error = books.reserve(&pod("c", &["3", "2"]), &cores, &reserved).unwrap_err();
        assert_eq!(error, "not enough cpus available to satisfy request: requested=2, available=1");
        assert_eq!(books.of("c", "c0"), books.default_cpu_set, "all or nothing");
        assert!(books.release("a") && !books.release("a"));
        assert_eq!(books.default_cpu_set, set("0-3,5-7"));
    }
}
