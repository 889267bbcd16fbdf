//! Whose turn it is when a pod ends: main containers at once, sidecars after all of them and each after those that were
//! started after it. A turn comes when the grace period is over, too.

use crate::kubelet::pod::{self, Kind};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Who has ended, by container name.
#[derive(Debug, Default)]
pub(super) struct Turns {
    ended: BTreeMap<String, CancellationToken>,
    /// The others whom each waits for, where it waits.
    before: BTreeMap<String, Vec<CancellationToken>>,
}

impl Turns {
    /// For the containers of a pod that live.
    pub(super) fn new<'a>(pod: &Pod, living: impl IntoIterator<Item = &'a str>) -> Turns {
        let ended: BTreeMap<_, _> =
            living.into_iter().map(|name| (name.to_owned(), CancellationToken::new())).collect();
        let of_kind = |wanted: Kind| {
            let named = pod::containers(pod).filter(move |(kind, _)| *kind == wanted);
            named.map(|(_, container)| container.name.as_str()).collect::<Vec<_>>()
        };
        let mut earlier: Vec<CancellationToken> =
            of_kind(Kind::Main).iter().filter_map(|name| ended.get(*name).cloned()).collect();
        let mut before = BTreeMap::new();
        for name in of_kind(Kind::Sidecar).into_iter().rev() {
            before.insert(name.to_owned(), earlier.clone());
            earlier.extend(ended.get(name).cloned());
        }
        Turns { ended, before }
    }

    /// Returns when it is the container's turn, or after `patience`.
    pub(super) async fn await_turn(&self, name: &str, patience: Duration) {
        let others = self.before.get(name).map(Vec::as_slice).unwrap_or_default();
        let all = futures_util::future::join_all(others.iter().map(CancellationToken::cancelled));
        // Either way it is its turn now.
        let _ = tokio::time::timeout(patience, all).await;
    }

    /// The container has ended, or could not be ended.
    pub(super) fn tell_end(&self, name: &str) {
        if let Some(ended) = self.ended.get(name) {
            ended.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use serde_json::json;

    fn pod() -> Pod {
        let sidecar = |name| json!({"name": name, "restartPolicy": "Always"});
        let spec = json!({"initContainers": [sidecar("s1"), {"name": "init"}, sidecar("s2"), sidecar("s3")],
            "containers": [{"name": "a"}, {"name": "b"}]});
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn sidecars_end_last_and_in_reverse() {
        let turns = Turns::new(&pod(), ["s1", "s2", "s3", "a", "b"]);
        let now = || {
            let waits = |name: &&str| turns.await_turn(name, Duration::MAX).now_or_never().is_none();
            let mut names = vec!["a", "b", "s3", "s2", "s1"];
            names.retain(|name| !waits(name));
            names
        };
        assert_eq!(now(), ["a", "b"]);
        turns.tell_end("a");
        assert_eq!(now(), ["a", "b"]);
        turns.tell_end("b");
        assert_eq!(now(), ["a", "b", "s3"]);
        turns.tell_end("s3");
        assert_eq!(now(), ["a", "b", "s3", "s2"]);
        turns.tell_end("s2");
        assert_eq!(now(), ["a", "b", "s3", "s2", "s1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_what_does_not_live_or_longer_than_the_grace_period() {
        let turns = Turns::new(&pod(), ["s1", "init", "debug"]);
        for name in ["s1", "init", "debug"] {
            assert!(turns.await_turn(name, Duration::MAX).now_or_never().is_some(), "{name}");
        }
        let turns = Turns::new(&pod(), ["s1", "a"]);
        let begun = tokio::time::Instant::now();
        turns.await_turn("s1", Duration::from_secs(7)).await;
        assert_eq!(begun.elapsed().as_secs(), 7);
    }
}
