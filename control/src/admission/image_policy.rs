//! Which images may run. The config map `knarr-image-policy` of `kube-system` holds the rules; without it every image
//! may. A rule names patterns of images (`registry.example.com/team/*`, `*@sha256:*`), the first that matches decides,
//! and a refusal names it.
//!
//! ```yaml
//! data:
//!   policy: |
//!     default: deny
//!     rules:
//!     - {name: ours, action: allow, images: ["registry.example.com/*"]}
//!     - {name: system, action: allow, namespaces: [kube-system], images: ["*"]}
//! ```

use super::{Operation, Write, containers, pod_of};
use crate::registry::{Cause, fields};
use crate::server::Server;
use knarr_api::Status;
use serde::Deserialize;
use serde_json::Value;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "knarr-image-policy";
const KEY: &str = "policy";

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    /// For images that no rule is about.
    #[serde(default)]
    default: Action,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    action: Action,
    images: Vec<String>,
    /// Empty: all of them.
    #[serde(default)]
    namespaces: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    #[default]
    Allow,
    Deny,
}

impl Policy {
    fn read(map: &Value) -> Result<Self, String> {
        serde_saphyr::from_str(fields::text(map, "/data/policy")).map_err(|error| error.to_string())
    }

    /// Why the image may not run in the namespace.
    fn refusal(&self, namespace: &str, image: &str) -> Option<String> {
        let full = full_name(image);
        let rule = self.rules.iter().find(|rule| rule.is_about(namespace, &full));
        let (action, reason) = match rule {
            Some(rule) => (rule.action, format!("rule {:?}", rule.name)),
            None => (self.default, "no rule allows it".to_owned()),
        };
        let denied = action == Action::Deny;
        denied.then(|| format!("image policy refuses image {image:?}: {reason}"))
    }
}

impl Rule {
    fn is_about(&self, namespace: &str, image: &str) -> bool {
        (self.namespaces.is_empty() || self.namespaces.iter().any(|own| own == namespace))
            && self.images.iter().any(|pattern| matches(pattern, image))
    }
}

/// Short names are those of Docker Hub, as the image store reads them: a pattern must not be escaped by leaving the
/// registry out.
fn full_name(image: &str) -> String {
    let registry = image.split_once('/').map(|(first, _)| first);
    let qualified = registry.is_some_and(|first| first.contains(['.', ':']) || first == "localhost");
    match (qualified, image.contains('/')) {
        (true, _) => image.to_owned(),
        (false, true) => format!("docker.io/{image}"),
        (false, false) => format!("docker.io/library/{image}"),
    }
}

/// `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

pub(super) async fn check(server: &Server, write: Write<'_>, object: &Value) -> Result<(), Status> {
    if write.operation == Operation::Delete {
        return Ok(());
    }
    if write.is("", "configmaps") && (write.namespace, write.name) == (NAMESPACE, NAME) {
        return check_policy(write, object);
    }
    let concerned =
        matches!(write.subresource, "" | "ephemeralcontainers") && write.resource.plural == "pods";
    let Some(pod) = pod_of(write.resource, object).filter(|_| concerned) else { return Ok(()) };
    let found = server.object_at(&format!("core/configmaps/{NAMESPACE}/{NAME}")).await?;
    let Some(map) = found else { return Ok(()) };
    let policy =
        Policy::read(&map).map_err(|why| write.forbidden(&format!("image policy is unreadable: {why}")))?;
    let images = containers(&pod["spec"]).map(|container| fields::text(container, "/image"));
    let volumes = fields::list(pod, "/spec/volumes").iter();
    let volumes =
        volumes.map(|volume| fields::text(volume, "/image/reference")).filter(|image| !image.is_empty());
    let refusal = images.chain(volumes).find_map(|image| policy.refusal(write.namespace, image));
    refusal.map_or(Ok(()), |why| Err(write.forbidden(&why)))
}

/// A policy that cannot be read is refused when it is written, not when the next pod comes.
fn check_policy(write: Write<'_>, map: &Value) -> Result<(), Status> {
    let Err(why) = Policy::read(map) else { return Ok(()) };
    let cause = Cause {
        reason: "FieldValueInvalid",
        field: format!("data[{KEY}]"),
        message: format!("Invalid value: {why}"),
    };
    crate::server::refuse_invalid(write.resource, map, vec![cause])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("a/*", "a/b/c", true),
            ("a/*", "b/a/c", false),
            ("*@sha256:*", "a/b@sha256:12", true),
            ("*@sha256:*", "a/b:1", false),
            ("*/x:*", "r/x:1", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("*ab*b", "ab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_decides_and_is_named() {
        let text = "default: deny\nrules:\n- {name: no-latest, action: deny, images: [\"*:latest\"]}\n- {name: hub, action: allow, images: [\"docker.io/library/*\"], namespaces: [n]}\n";
        let policy = Policy::read(&json!({"data": {"policy": text}})).unwrap();
        assert_eq!(policy.refusal("n", "busybox:1"), None);
        assert_eq!(
            policy.refusal("n", "busybox:latest").unwrap(),
            r#"image policy refuses image "busybox:latest": rule "no-latest""#
        );
        assert!(policy.refusal("m", "busybox:1").unwrap().ends_with("no rule allows it"));
        assert!(policy.refusal("n", "evil.example/library/busybox:1").is_some());
        assert!(Policy::read(&json!({"data": {"policy": "rules: [{name: x}]"}})).is_err());
    }
}
