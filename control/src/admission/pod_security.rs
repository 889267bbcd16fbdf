//! Pod Security Standards: labels of a namespace say which level its pods must keep (`enforce`), which one is worth a
//! warning (`warn`), and which one a note in the audit log (`audit`).
//!
//! Workloads are never refused, only warned of: their pods will be refused when they come.

use super::{Operation, Write, pod_of};
use crate::registry::{Cause, fields};
use crate::server::Server;
use knarr_api::{Status, meta};
use serde_json::Value;
use std::collections::BTreeMap;

mod baseline;
mod restricted;
mod words;

use words::Finding;

const LABEL: &str = "pod-security.kubernetes.io/";
/// Pods looked at when the level of a namespace is raised.
const MAX_EXISTING: usize = 3000;

/// How strict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level with the version of its rules, as labels give it: `baseline:latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Policy {
    level: Level,
    text: String,
}

impl Policy {
    /// What the namespace says for one mode. Without a label everything goes; an unreadable one is the strictest.
    fn of(namespace: &Value, mode: &str) -> Self {
        let (word, level) = match meta::label(namespace, &format!("{LABEL}{mode}")) {
            None | Some("privileged") => ("privileged", Level::Privileged),
            Some("baseline") => ("baseline", Level::Baseline),
            Some(_) => ("restricted", Level::Restricted),
        };
        let version = meta::label(namespace, &format!("{LABEL}{mode}-version")).unwrap_or("latest");
        Self { level, text: format!("{word}:{version}") }
    }

    /// What a pod does that the level forbids.
    fn findings(&self, pod: &Value) -> Vec<Finding> {
        let spec = pod.get("spec").unwrap_or(&Value::Null);
        match self.level {
            Level::Privileged => Vec::new(),
            Level::Baseline => baseline::all(pod, spec),
            Level::Restricted => restricted::all(pod, spec),
        }
    }

    /// `violates PodSecurity "baseline:latest": ...`, if it does.
    fn violation(&self, pod: &Value) -> Option<String> {
        let findings = self.findings(pod);
        let all: Vec<String> = findings.iter().map(Finding::to_string).collect();
        (!all.is_empty()).then(|| format!("violate PodSecurity {:?}: {}", self.text, all.join(", ")))
    }
}

pub(super) async fn check(server: &Server, write: Write<'_>, object: &Value) -> Result<Vec<String>, Status> {
    if write.operation == Operation::Delete {
        return Ok(Vec::new());
    }
    if write.is("", "namespaces") {
        return check_namespace(server, write, object).await;
    }
    let written = write.operation == Operation::Create && write.subresource.is_empty();
    let is_pod = write.resource.group.is_empty() && write.resource.plural == "pods";
    let part = is_pod && write.subresource == "ephemeralcontainers";
    let workload = write.subresource.is_empty() && !is_pod;
    let Some(pod) = pod_of(write.resource, object).filter(|_| written || part || workload) else {
        return Ok(Vec::new());
    };
    let found = server.object_at(&format!("core/namespaces/{}", write.namespace)).await?;
    let Some(namespace) = found else { return Ok(Vec::new()) };
    let refused = Policy::of(&namespace, "enforce").violation(pod);
    if let Some(why) = refused.filter(|_| is_pod) {
        return Err(write.forbidden(&why.replacen("violate", "violates", 1)));
    }
    let warned = Policy::of(&namespace, "warn").violation(pod);
    Ok(warned.map(|why| format!("would {why}")).into_iter().collect())
}

/// Labels must be readable; raising the level warns of the pods that are there and would be refused now.
async fn check_namespace(server: &Server, write: Write<'_>, new: &Value) -> Result<Vec<String>, Status> {
    crate::server::refuse_invalid(write.resource, new, label_faults(new))?;
    let enforced = Policy::of(new, "enforce");
    let before = write.old.map(|old| Policy::of(old, "enforce"));
    if before.is_none_or(|before| before == enforced) || enforced.level == Level::Privileged {
        return Ok(Vec::new());
    }
    let mut pods = server.objects_below(&format!("core/pods/{}/", write.name)).await?;
    pods.truncate(MAX_EXISTING);
    Ok(existing_warnings(write.name, &enforced, &pods))
}

fn existing_warnings(namespace: &str, policy: &Policy, pods: &[Value]) -> Vec<String> {
    let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for pod in pods {
        let reasons: Vec<&str> = policy.findings(pod).iter().map(|finding| finding.reason).collect();
        if !reasons.is_empty() {
            by_reason.entry(reasons.join(", ")).or_default().push(meta::name(pod));
        }
    }
    if by_reason.is_empty() {
        return Vec::new();
    }
    let text = &policy.text;
    let mut warnings = vec![format!(
        "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {text:?}"
    )];
    let mut lines: Vec<String> = by_reason
        .into_iter()
        .map(|(reason, pods)| match pods.as_slice() {
            [first, others @ ..] if !others.is_empty() => {
                let word = if others.len() == 1 { "pod" } else { "pods" };
                format!("{first} (and {} other {word}): {reason}", others.len())
            }
            pods => format!("{}: {reason}", pods.join("")),
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
    warnings
}

fn label_faults(namespace: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for mode in ["enforce", "audit", "warn"] {
        let level = format!("{LABEL}{mode}");
        let value = meta::label(namespace, &level);
        if let Some(value) = value.filter(|value| !matches!(*value, "privileged" | "baseline" | "restricted"))
        {
            causes.push(fault(&level, value, "must be one of privileged, baseline, restricted"));
        }
        let version = format!("{LABEL}{mode}-version");
        if let Some(value) = meta::label(namespace, &version).filter(|value| !is_version(value)) {
            causes.push(fault(&version, value, "must be \"latest\" or \"v1.x\""));
        }
    }
    causes
}

fn is_version(text: &str) -> bool {
    let minor = text.strip_prefix("v1.").unwrap_or_default();
    text == "latest" || !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit())
}

fn fault(label: &str, value: &str, detail: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid",
        field: format!("metadata.labels[{label}]"),
        message: format!("Invalid value: {value:?}: {detail}"),
    }
}

/// The security context of a pod or container.
fn context(object: &Value) -> &Value {
    object.get("securityContext").unwrap_or(&Value::Null)
}

/// Names of the containers that `matches`.
fn named<'a>(spec: &'a Value, matches: impl Fn(&Value) -> bool + 'a) -> Vec<&'a str> {
    super::containers(spec)
        .filter(|container| matches(container))
        .map(|one| fields::text(one, "/name"))
        .collect()
}

#[cfg(test)]
mod tests;
