//! What keeps a namespace that is on its way out, as its conditions say it.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use std::collections::BTreeMap;

/// Type of a condition, reason and words of the good news, and the bad news if there are any.
type Finding = (&'static str, [&'static str; 2], Option<(&'static str, String)>);

/// What one attempt to empty a namespace came to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Why nobody knows which kinds there are.
    pub(super) unknown: Option<String>,
    /// Kinds that could not be listed, or objects that could not be deleted.
    pub(super) failures: Vec<String>,
    /// Objects that are still there, by `RESOURCE.GROUP`.
    pub(super) remaining: BTreeMap<String, usize>,
    /// Objects that wait for a finalizer, by its name.
    pub(super) finalizers: BTreeMap<String, usize>,
}

/// That nobody knows what there is of these group versions.
pub(super) fn silent(versions: &[String]) -> Option<String> {
    let stale = |version: &String| format!("{version}: stale GroupVersion discovery: {version}");
    let all: Vec<String> = versions.iter().map(stale).collect();
    let why = format!("unable to retrieve the complete list of server APIs: {}", all.join(", "));
    (!all.is_empty()).then_some(why)
}

impl Outcome {
    /// Whether the namespace is empty, as far as can be known.
    pub(super) fn is_empty(&self) -> bool {
        self.unknown.is_none() && !self.has_content()
    }

    /// Whether something is known to be there, or may be.
    pub(super) fn has_content(&self) -> bool {
        !(self.failures.is_empty() && self.remaining.is_empty())
    }

    /// One more object is still there.
    pub(super) fn remains(&mut self, kind: &str, metadata: &ObjectMeta) {
        *self.remaining.entry(kind.to_owned()).or_insert(0) += 1;
        for finalizer in metadata.finalizers.iter().flatten() {
            *self.finalizers.entry(finalizer.clone()).or_insert(0) += 1;
        }
    }

    fn findings(&self) -> [Finding; 5] {
        let counted = |counts: &BTreeMap<String, usize>, word: &str| {
            let parts: Vec<String> = counts
                .iter()
                .map(|(name, count)| format!("{name} {word} {count} resource instances"))
                .collect();
            (!parts.is_empty()).then(|| parts.join(", "))
        };
        let unknown = self.unknown.as_ref();
        let failed = (!self.failures.is_empty()).then(|| self.failures.join(", "));
        let count = self.failures.len();
        [
            (
                "NamespaceDeletionDiscoveryFailure",
                ["ResourcesDiscovered", "All resources successfully discovered"],
                unknown.map(|why| {
                    ("DiscoveryFailed", format!("Discovery failed for some groups, 1 failing: {why}"))
                }),
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                ["ParsedGroupVersions", "All legacy kube types successfully parsed"],
                None,
            ),
            (
                "NamespaceDeletionContentFailure",
                ["ContentDeleted", "All content successfully deleted, may be waiting on finalization"],
                failed.map(|all| {
                    let message = format!("Failed to delete all resource types, {count} remaining: {all}");
                    ("ContentDeletionFailed", message)
                }),
            ),
            (
                "NamespaceContentRemaining",
                ["ContentRemoved", "All content successfully removed"],
                counted(&self.remaining, "has")
                    .map(|all| ("SomeResourcesRemain", format!("Some resources are remaining: {all}"))),
            ),
            (
                "NamespaceFinalizersRemaining",
                ["ContentHasNoFinalizers", "All content-preserving finalizers finished"],
                counted(&self.finalizers, "in").map(|all| {
                    let message = format!("Some content in the namespace has finalizers remaining: {all}");
                    ("SomeFinalizersRemain", message)
                }),
            ),
        ]
    }

    /// The conditions that say so; one whose status stays has the time it had.
    pub(super) fn conditions(&self, old: &[NamespaceCondition], now: Timestamp) -> Vec<NamespaceCondition> {
        let mut all = old.to_vec();
        for (kind, [good, words], bad) in self.findings() {
            let status = if bad.is_some() { "True" } else { "False" };
            let (reason, message) = bad.unwrap_or_else(|| (good, words.to_owned()));
            let known = old.iter().find(|one| one.type_ == kind && one.status == status);
            let since = known.and_then(|one| one.last_transition_time.clone()).unwrap_or(Time(now));
            let condition = NamespaceCondition {
                type_: kind.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(since),
            };
            match all.iter_mut().find(|one| one.type_ == kind) {
                Some(place) => *place = condition,
                None => all.push(condition),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_namespace_is_said_and_taken_back() {
        let (first, later) =
            ("2026-01-01T00:00:00Z".parse().unwrap(), "2026-01-01T00:01:00Z".parse().unwrap());
        let held = Outcome {
            remaining: BTreeMap::from([("configmaps.".into(), 1), ("jobs.batch".into(), 2)]),
            finalizers: BTreeMap::from([("example.com/hold".into(), 1)]),
            ..Outcome::default()
        };
        let conditions = held.conditions(&[], first);
        let said: Vec<String> = conditions
            .iter()
            .filter(|one| one.status == "True")
            .map(|one| {
                format!("{} {}: {}", one.type_, one.reason.as_ref().unwrap(), one.message.as_ref().unwrap())
            })
            .collect();
        assert_eq!(
            said,
            [
                "NamespaceContentRemaining SomeResourcesRemain: Some resources are remaining: configmaps. has 1 \
                 resource instances, jobs.batch has 2 resource instances",
                "NamespaceFinalizersRemaining SomeFinalizersRemain: Some content in the namespace has finalizers \
                 remaining: example.com/hold in 1 resource instances",
            ]
        );
        assert_eq!((conditions.len(), held.is_empty()), (5, false));
        assert_eq!(held.conditions(&conditions, later), conditions, "nothing has changed");
        let after = Outcome::default().conditions(&conditions, later);
        assert!(after.iter().all(|one| one.status == "False"), "{after:?}");
        let since: Vec<_> = after.iter().map(|one| one.last_transition_time.clone().unwrap().0).collect();
        assert_eq!(since, [first, first, first, later, later]);
    }
}
