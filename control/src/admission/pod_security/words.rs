//! How findings are worded: Kubernetes' own words, because people search for them.

use std::fmt;

/// One thing that a pod does and its level forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// `privileged`
    pub(super) reason: &'static str,
    /// `container "c" must not set securityContext.privileged=true`
    pub(super) detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({})", self.reason, self.detail)
    }
}

/// `"a", "b"`
pub(super) fn quoted<T: AsRef<str>>(names: &[T]) -> String {
    names.iter().map(|name| format!("{:?}", name.as_ref())).collect::<Vec<_>>().join(", ")
}

/// One or many.
pub(super) fn plural(one: &'static str, many: &'static str, count: usize) -> &'static str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`
pub(super) fn containers<T: AsRef<str>>(names: &[T]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod and containers "a", "b"`: who sets something.
pub(super) fn setters(pod: bool, names: &[&str]) -> String {
    let mut all: Vec<String> = pod.then(|| "pod".to_owned()).into_iter().collect();
    if !names.is_empty() {
        all.push(containers(names));
    }
    all.join(" and ")
}

/// A finding about containers, if there are any.
pub(super) fn about(reason: &'static str, names: &[&str], what: &str) -> Option<Finding> {
    (!names.is_empty()).then(|| Finding { reason, detail: format!("{} {what}", containers(names)) })
}

/// Sorted, each once.
pub(super) fn unique(mut values: Vec<String>) -> Vec<String> {
    values.sort();
    values.dedup();
    values
}
