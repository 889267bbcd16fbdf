//! The level `restricted`: no more rights than a plain program needs, each of them given up explicitly.

use super::baseline;
use super::words::{Finding, about, plural, quoted, setters, unique};
use super::{context, named};
use crate::registry::fields;
use serde_json::Value;

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Every finding: those shared with the level below, then its own, each in the order of the checks' names.
pub(super) fn all(pod: &Value, spec: &Value) -> Vec<Finding> {
    let own = [
        privilege_escalation(spec),
        capabilities(spec),
        volumes(spec),
        run_as_non_root(spec),
        run_as_user(spec),
        seccomp(spec),
    ];
    baseline::shared(pod, spec).into_iter().chain(own.into_iter().flatten()).collect()
}

fn privilege_escalation(spec: &Value) -> Option<Finding> {
    let names = named(spec, |container| context(container)["allowPrivilegeEscalation"] != false);
    let what = "must set securityContext.allowPrivilegeEscalation=false";
    about("allowPrivilegeEscalation != false", &names, what)
}

fn capabilities(spec: &Value) -> Option<Finding> {
    const REASON: &str = "unrestricted capabilities";
    let keeps = |container: &Value| {
        !fields::list(container, "/securityContext/capabilities/drop").iter().any(|name| name == "ALL")
    };
    let names = named(spec, keeps);
    let what = r#"must set securityContext.capabilities.drop=["ALL"]"#;
    let added = baseline::added_capabilities(spec, &["NET_BIND_SERVICE"], REASON);
    let details: Vec<String> =
        [about(REASON, &names, what), added].into_iter().flatten().map(|finding| finding.detail).collect();
    (!details.is_empty()).then(|| Finding { reason: REASON, detail: details.join("; ") })
}

fn volumes(spec: &Value) -> Option<Finding> {
    let kind = |volume: &Value| {
        let source = volume.as_object()?.keys().find(|key| *key != "name")?;
        (!VOLUMES.contains(&source.as_str())).then(|| source.clone())
    };
    let bad = fields::list(spec, "/volumes").iter().filter(|volume| kind(volume).is_some());
    let names: Vec<&str> = bad.clone().map(|volume| fields::text(volume, "/name")).collect();
    let kinds = unique(bad.filter_map(kind).collect());
    let count = names.len();
    let detail = format!(
        "{} {} {} restricted volume {} {}",
        plural("volume", "volumes", count),
        quoted(&names),
        plural("uses", "use", count),
        plural("type", "types", kinds.len()),
        quoted(&kinds)
    );
    (count > 0).then_some(Finding { reason: "restricted volume types", detail })
}

fn run_as_non_root(spec: &Value) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    let own = |object: &Value| context(object)["runAsNonRoot"].as_bool();
    let refusing = named(spec, |container| own(container) == Some(false));
    let who = setters(own(spec) == Some(false), &refusing);
    if !who.is_empty() {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return Some(Finding { reason: REASON, detail });
    }
    let silent = named(spec, |container| own(container).is_none() && own(spec) != Some(true));
    let finding = about(REASON, &silent, "must set securityContext.runAsNonRoot=true")?;
    Some(Finding { detail: format!("pod or {}", finding.detail), ..finding })
}

fn run_as_user(spec: &Value) -> Option<Finding> {
    let root = |object: &Value| context(object)["runAsUser"] == 0;
    let who = setters(root(spec), &named(spec, root));
    (!who.is_empty())
        .then(|| Finding { reason: "runAsUser=0", detail: format!("{who} must not set runAsUser=0") })
}

fn seccomp(spec: &Value) -> Option<Finding> {
    if let Some(finding) = baseline::seccomp(spec) {
        return Some(finding);
    }
    let set = |object: &Value| !fields::text(context(object), "/seccompProfile/type").is_empty();
    let silent = named(spec, |container| !set(container) && !set(spec));
    let what = r#"must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost""#;
    let finding = about("seccompProfile", &silent, what)?;
    Some(Finding { detail: format!("pod or {}", finding.detail), ..finding })
}
