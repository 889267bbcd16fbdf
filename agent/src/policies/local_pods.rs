//! Pods of this node, as the kubelet knows them: their addresses stand before the cluster hears of them, and before
//! anything of them runs.
//!
//! ```text
//! kubelet:  sandbox is there -> announce(pod, addresses) ...... before the first container starts: covered(pod)?
//!                                         |                                                          ^
//! policies:                               +--> rules from all pods and these -> commit -> mark_covered
//! ```
//!
//! So a policy that was there before the pod holds for the pod's first packet. Nobody waits for a pod that no policy
//! selects, and nobody for ever: a node whose rules cannot be written goes on, and says so. Until the cluster has told
//! which policies there are, those count that were there when this node last heard of them.

use super::policy::Policy;
use super::world::Labels;
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long the containers of a pod wait for the rules.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A pod with the addresses that its sandbox has.
#[derive(Debug, Clone)]
pub(crate) struct LocalPod {
    pub(crate) pod: Arc<Pod>,
    pub(crate) addresses: Vec<IpAddr>,
    /// Announcements are numbered.
    number: u64,
}

/// By uid.
pub(crate) type Announced = BTreeMap<String, LocalPod>;

/// The policies that there are.
#[derive(Debug, Clone, PartialEq)]
enum Known {
    /// What was known when the agent before this one ended, if that can be told.
    NotYet(Option<Arc<Vec<Policy>>>),
    /// They are somebody else's business.
    Nothing,
    All(Arc<Vec<Policy>>),
}

/// Both sides have it: the kubelet tells, the policies take it up.
#[derive(Debug, Clone)]
pub struct LocalPods(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Short sections without waiting.
    told: Mutex<Told>,
    /// There is something new that matters to the rules.
    news: watch::Sender<()>,
    known: watch::Sender<Known>,
    /// All announcements up to this one are in the rules, which are those of the known policies.
    covered: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Told {
    pods: Announced,
    last: u64,
}

impl Default for LocalPods {
    fn default() -> Self {
        let (known, covered) = (watch::channel(Known::NotYet(None)).0, watch::channel(0).0);
        Self(Arc::new(Shared { told: Mutex::default(), news: watch::channel(()).0, known, covered }))
    }
}

impl Known {
    /// Whether rules are needed for the pod, as far as one can say.
    fn concerns(&self, pod: &Pod) -> bool {
        match self {
            Known::NotYet(None) => true,
            Known::Nothing => false,
            Known::NotYet(Some(policies)) | Known::All(policies) => {
                let none = Labels::new();
                let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                policies.iter().any(|policy| policy.selects(namespace, labels))
            }
        }
    }
}

impl LocalPods {
    /// The pod's sandbox is there. Tells of no other change than of its addresses: the cluster tells the rest.
    pub(crate) fn announce(&self, uid: &str, pod: &Arc<Pod>, addresses: &[IpAddr]) {
        {
            let mut told = self.told();
            if let Some(known) = told.pods.get_mut(uid).filter(|known| known.addresses == addresses) {
                known.pod.clone_from(pod);
                return;
            }
            told.last = told.last.saturating_add(1);
            let local = LocalPod { pod: pod.clone(), addresses: addresses.to_vec(), number: told.last };
            told.pods.insert(uid.to_owned(), local);
        }
        self.wake_for(pod);
    }

    /// The pod has no sandbox any more.
    pub(crate) fn forget(&self, uid: &str) {
        let gone = self.told().pods.remove(uid);
        if let Some(gone) = gone {
            self.wake_for(&gone.pod);
        }
    }

    /// Waits until the policies that select an announced pod hold for it; false where that lasts too long.
    pub(crate) async fn covered(&self, uid: &str) -> bool {
        timeout(PATIENCE, self.wait(uid)).await.is_ok()
    }

    async fn wait(&self, uid: &str) {
        let (mut known, mut covered) = (self.0.known.subscribe(), self.0.covered.subscribe());
        loop {
            let Some(local) = self.told().pods.get(uid).cloned() else { return };
            let concerns = known.borrow_and_update().concerns(&local.pod);
            if !concerns || *covered.borrow_and_update() >= local.number {
                return;
            }
            // The senders are our own.
            tokio::select! {
                _ = known.changed() => {}
                _ = covered.changed() => {}
            }
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake_for(&self, pod: &Pod) {
        let known = self.0.known.borrow();
        if matches!(*known, Known::All(_)) && known.concerns(pod) {
            self.0.news.send_replace(());
        }
    }
}

/// The other side.
impl LocalPods {
    /// Signals what the rules are to take up.
    pub(super) fn news(&self) -> watch::Receiver<()> {
        self.0.news.subscribe()
    }

    /// All that were announced, and the number to mark when the rules have them.
    pub(super) fn announced(&self) -> (Announced, u64) {
        let told = self.told();
        (told.pods.clone(), told.last)
    }

    /// These were the policies when the agent before this one ended.
    pub(super) fn remember(&self, policies: Option<Arc<Vec<Policy>>>) {
        self.0.known.send_if_modified(|known| {
            let is_news = policies.is_some() && *known == Known::NotYet(None);
            if is_news {
                *known = Known::NotYet(policies);
            }
            is_news
        });
    }

    /// These are the policies from now on. What was covered was so by those before.
    pub(super) fn know(&self, policies: &Arc<Vec<Policy>>) {
        self.0.known.send_if_modified(|known| {
            let same = matches!(known, Known::All(before) if before == policies);
            if !same {
                // Before anybody can look at the new ones.
                self.0.covered.send_replace(0);
                *known = Known::All(policies.clone());
            }
            !same
        });
    }

    /// Policies are left to others.
    pub(super) fn know_nothing(&self) {
        self.0.known.send_replace(Known::Nothing);
    }

    pub(super) fn mark_covered(&self, number: u64) {
        self.0.covered.send_replace(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(app: &str) -> Arc<Pod> {
        let object = json!({"metadata": {"namespace": "default", "name": app, "labels": {"app": app}}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn policies(app: &str) -> Arc<Vec<Policy>> {
        let object = json!({"metadata": {"namespace": "default", "name": "p"},
            "spec": {"podSelector": {"matchLabels": {"app": app}}}});
        Arc::new(vec![Policy::new(&serde_json::from_value(object).unwrap()).unwrap()])
    }

    fn at(last: u8) -> Vec<IpAddr> {
        vec![IpAddr::from([10, 42, 0, last])]
    }

    #[tokio::test(start_paused = true)]
    async fn only_pods_that_policies_select_wait_and_not_for_ever() {
        let local = LocalPods::default();
        assert!(local.covered("nobody").await, "a pod without addresses of its own");
        local.announce("a", &pod("a"), &at(2));
        assert!(!local.covered("a").await, "it is not known whether there are policies");
        local.know(&Arc::new(Vec::new()));
        assert!(local.covered("a").await);
        local.know(&policies("b"));
        assert!(local.covered("a").await);
        local.know(&policies("a"));
        assert!(!local.covered("a").await, "its rules are not written");
        local.mark_covered(local.announced().1);
        assert!(local.covered("a").await);
        local.announce("a", &pod("a"), &at(3));
        assert!(!local.covered("a").await, "it has another sandbox");
        local.know_nothing();
        assert!(local.covered("a").await);
    }

    #[tokio::test(start_paused = true)]
    async fn until_the_cluster_answers_the_policies_of_before_count() {
        let local = LocalPods::default();
        local.announce("a", &pod("a"), &at(2));
        local.announce("b", &pod("b"), &at(3));
        let waiting = tokio::spawn({
            let local = local.clone();
            async move { local.covered("b").await }
        });
        tokio::task::yield_now().await;
        local.remember(Some(policies("a")));
        assert!(waiting.await.unwrap(), "no policy selected it");
        assert!(!local.covered("a").await);
        local.know(&policies("b"));
        assert!(local.covered("a").await);
        local.remember(Some(policies("a")));
        assert!(local.covered("a").await, "that is history");
        assert!(!local.covered("b").await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_covered_is_so_by_the_policies_of_now() {
        let local = LocalPods::default();
        local.know(&policies("b"));
        local.announce("a", &pod("a"), &at(2));
        local.mark_covered(local.announced().1);
        local.know(&policies("a"));
        assert!(!local.covered("a").await, "the rules are those of before");
        let waiting = tokio::spawn({
            let local = local.clone();
            async move { local.covered("a").await }
        });
        tokio::task::yield_now().await;
        local.mark_covered(local.announced().1);
        assert!(waiting.await.unwrap(), "who waits is told");
    }

    #[tokio::test]
    async fn the_rules_hear_of_what_concerns_them_only() {
        let local = LocalPods::default();
        let news = local.news();
        let is_told = |news: &watch::Receiver<()>| news.has_changed().unwrap();
        local.know(&policies("a"));
        local.announce("b", &pod("b"), &at(3));
        local.forget("b");
        assert!(!is_told(&news));
        local.announce("a", &pod("a"), &at(2));
        assert!(is_told(&news));
        let mut news = local.news();
        news.mark_unchanged();
        local.announce("a", &pod("a"), &at(2));
        assert!(!news.has_changed().unwrap(), "nothing new");
        local.forget("a");
        assert!(news.has_changed().unwrap());
        assert!(local.announced().0.is_empty());
    }
}
