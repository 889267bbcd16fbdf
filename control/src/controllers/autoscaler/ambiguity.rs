//! Pods that several autoscalers count: each would undo what the other does, so none of them acts.

use crate::controllers::informer::Key;
use k8s_openapi::api::core::v1::Pod;
use knarr_api::LabelSelector;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// The selectors of the targets of all autoscalers, as they were last seen. Locked for a look or a note.
#[derive(Debug, Default)]
pub(super) struct Selectors(Mutex<BTreeMap<Key, LabelSelector>>);

impl Selectors {
    /// Forgets an autoscaler.
    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }

    /// Notes a selector, and answers why an autoscaler of these pods must not act.
    pub(super) fn ambiguity<'a>(
        &self,
        key: &Key,
        selector: &str,
        pods: impl Iterator<Item = &'a Pod> + Clone,
    ) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The API server made it of a selector.
        all.insert(key.clone(), LabelSelector::parse(selector).ok()?);
        let counts = |selector: &LabelSelector| {
            let matches = |pod: &Pod| selector.matches(|name| pod.labels().get(name).map(String::as_str));
            pods.clone().any(matches)
        };
        let others = all.iter().filter(|(other, selector)| {
            *other == key || (other.namespace == key.namespace && counts(selector))
        });
        let names: Vec<String> = others.map(|(key, _)| format!("{}/{}", key.namespace, key.name)).collect();
        let names = Some(names).filter(|names| names.len() > 1)?.join(" ");
        Some(format!("pods by selector {selector} are controlled by multiple HPAs: [{names}]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_that_two_autoscalers_count() {
        let pod = |labels: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"metadata": {"labels": labels}})).unwrap()
        };
        let (web, canary) = ([pod(json!({"app": "web"}))], [pod(json!({"app": "web", "track": "canary"}))]);
        let (wide, narrow, elsewhere) =
            (Key::new("n", "wide"), Key::new("n", "narrow"), Key::new("m", "web"));
        let selectors = Selectors::default();
        assert_eq!(selectors.ambiguity(&wide, "app=web", web.iter()), None);
        assert_eq!(selectors.ambiguity(&elsewhere, "app=web", web.iter()), None);
        let told = selectors.ambiguity(&narrow, "app=web,track=canary", canary.iter());
        let expected =
            "pods by selector app=web,track=canary are controlled by multiple HPAs: [n/narrow n/wide]";
        assert_eq!(told.as_deref(), Some(expected));
        assert_eq!(selectors.ambiguity(&wide, "app=web", web.iter()), None, "its pods are its own");
        selectors.forget(&wide);
        assert_eq!(selectors.ambiguity(&narrow, "app=web,track=canary", canary.iter()), None);
    }
}
