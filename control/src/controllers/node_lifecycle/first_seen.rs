//! Since when a taint is there, where it does not say so itself: what people put on a node by hand has no time, and
//! pods that tolerate it for a while are counted from when it was seen first.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Taint;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// By node, by taint.
#[derive(Default)]
pub(super) struct FirstSeen(Mutex<BTreeMap<String, BTreeMap<String, Timestamp>>>);

impl FirstSeen {
    /// The taints of a node that drive pods away, each with a time.
    pub(super) fn dated(&self, node: &str, taints: &[Taint], now: Timestamp) -> Vec<Taint> {
        let driving = taints.iter().filter(|taint| taint.effect == "NoExecute");
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = all.remove(node).unwrap_or_default();
        let mut times = BTreeMap::new();
        let mut date = |mut taint: Taint| {
            if taint.time_added.is_none() {
                let id = format!("{}={}", taint.key, taint.value.as_deref().unwrap_or_default());
                let since = before.remove(&id).unwrap_or(now);
                times.insert(id, since);
                taint.time_added = Some(Time(since));
            }
            taint
        };
        let dated = driving.cloned().map(&mut date).collect();
        if !times.is_empty() {
            all.insert(node.to_owned(), times);
        }
        dated
    }

    /// The node is gone.
    pub(super) fn forget(&self, node: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taint_without_a_time_counts_from_its_first_look() {
        let taint = |value: &str, effect: &str| Taint {
            key: "k".into(),
            value: Some(value.into()),
            effect: effect.into(),
            time_added: None,
        };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (one, two) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T00:01:00Z"));
        let seen = FirstSeen::default();
        let times = |taints: &[Taint], now: Timestamp| -> Vec<Timestamp> {
            seen.dated("n", taints, now).into_iter().map(|taint| taint.time_added.unwrap().0).collect()
        };
        assert_eq!(times(&[taint("a", "NoExecute"), taint("a", "NoSchedule")], one), [one]);
        assert_eq!(times(&[taint("a", "NoExecute"), taint("b", "NoExecute")], two), [one, two]);
        assert!(times(&[], two).is_empty());
        assert_eq!(times(&[taint("a", "NoExecute")], two), [two], "it was gone in between");
    }
}
