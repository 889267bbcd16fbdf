//! The audit policy: an ordered list of rules; the first that fits a request says how much is written of it. What no
//! rule fits is not written.

use super::super::route::ResourcePath;
use crate::authn::User;
use anyhow::{Context as _, bail};
use serde::Deserialize;

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) enum Level {
    /// Nothing.
    None,
    /// Who, what and when.
    Metadata,
    /// The body of the request too.
    Request,
    /// The body of the answer too.
    RequestResponse,
}

/// When an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// The document.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Policy {
    api_version: String,
    kind: String,
    #[serde(default, rename = "metadata")]
    _metadata: serde_json::Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) user: Option<&'a User>,
    pub(super) verb: &'a str,
    /// Where it is about objects.
    pub(super) path: Option<&'a ResourcePath>,
    pub(super) url: &'a str,
}

/// What is to be done with a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) level: Level,
    pub(super) omitted: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

impl Policy {
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let policy: Self = serde_saphyr::from_str(text).context("no audit policy")?;
        if (&*policy.api_version, &*policy.kind) != ("audit.k8s.io/v1", "Policy") {
            bail!(
                "want apiVersion audit.k8s.io/v1 and kind Policy, not {} {}",
                policy.api_version,
                policy.kind
            );
        }
        if policy.rules.is_empty() {
            bail!("loaded illegal policy with 0 rules");
        }
        for (number, rule) in policy.rules.iter().enumerate() {
            rule.check().with_context(|| format!("rules[{number}]"))?;
        }
        Ok(policy)
    }

    pub(super) fn decide(&self, asked: &Asked<'_>) -> Decision {
        let Some(rule) = self.rules.iter().find(|rule| rule.fits(asked)) else {
            return Decision { level: Level::None, omitted: Vec::new(), omit_managed_fields: false };
        };
        Decision {
            level: rule.level,
            omitted: self.omit_stages.iter().chain(&rule.omit_stages).copied().collect(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == wanted)
}

impl Rule {
    fn check(&self) -> anyhow::Result<()> {
        let of_objects = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_objects && !self.non_resource_urls.is_empty() {
            bail!(
                "nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs"
            );
        }
        for url in self.non_resource_urls.iter().filter(|url| *url != "*") {
            if !url.starts_with('/') {
                bail!(
                    "nonResourceURLs: Invalid value: {url:?}: non-resource URL rules must begin with a '/' character"
                );
            }
            if url.trim_end_matches('*').contains('*') || url.ends_with("**") {
                bail!(
                    "nonResourceURLs: Invalid value: {url:?}: non-resource URL wildcards '*' must be the final character of the rule"
                );
            }
        }
        for entry in &self.resources {
            if !entry.resource_names.is_empty() && entry.resources.is_empty() {
                bail!("resources: Invalid value: using resourceNames requires at least one resource");
            }
        }
        Ok(())
    }

    fn fits(&self, asked: &Asked<'_>) -> bool {
        let user = self.users.is_empty() || asked.user.is_some_and(|user| has(&self.users, &user.name));
        let group = self.user_groups.is_empty()
            || asked.user.is_some_and(|user| self.user_groups.iter().any(|group| user.is_in(group)));
        let verb = self.verbs.is_empty() || has(&self.verbs, asked.verb);
        user && group && verb && self.fits_target(asked)
    }

    fn fits_target(&self, asked: &Asked<'_>) -> bool {
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return asked.path.is_some_and(|path| self.fits_path(path));
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        asked.path.is_none() && self.non_resource_urls.iter().any(|pattern| fits_url(pattern, asked.url))
    }

    fn fits_path(&self, path: &ResourcePath) -> bool {
        let placed = self.namespaces.is_empty() || has(&self.namespaces, path.namespace());
        placed && (self.resources.is_empty() || self.resources.iter().any(|entry| entry.fits(path)))
    }
}

fn fits_url(pattern: &str, url: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => url.starts_with(prefix),
        None => url == pattern,
    }
}

impl GroupResources {
    fn fits(&self, path: &ResourcePath) -> bool {
        let (resource, subresource) = (&*path.plural, path.subresource());
        let full =
            if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
        let named = self.resource_names.is_empty() || has(&self.resource_names, path.name());
        let covers = |pattern: &String| {
            pattern == "*"
                || *pattern == full
                || !subresource.is_empty() && pattern.strip_prefix("*/") == Some(subresource)
                || pattern.strip_suffix("/*") == Some(resource)
        };
        self.group == path.group && (self.resources.is_empty() || named && self.resources.iter().any(covers))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::route::Route;
    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: [watch]
  resources: [{group: "", resources: [endpoints, services]}]
- level: None
  userGroups: ["system:authenticated"]
  nonResourceURLs: ["/api*", "/version"]
- level: Request
  resources: [{group: "", resources: [configmaps]}]
  namespaces: [kube-system]
  omitManagedFields: true
- level: Metadata
  resources: [{group: "", resources: [secrets, "pods/*", "*/scale"]}]
- level: RequestResponse
  resources: [{group: apps}]
  omitStages: [ResponseStarted]
- level: Metadata
  verbs: [delete]
"#;

    fn level(user: &str, verb: &str, url: &str) -> Level {
        let user = User::new(user, &[]);
        let route = Route::parse(url).unwrap();
        let path = if let Route::Resource(path) = &route { Some(path) } else { None };
        Policy::parse(POLICY).unwrap().decide(&Asked { user: Some(&user), verb, path, url }).level
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let cases = [
            ("system:kube-proxy", "watch", "/api/v1/services", Level::None),
            ("bob", "get", "/version", Level::None),
            ("bob", "get", "/apis/apps", Level::None),
            ("bob", "create", "/api/v1/namespaces/kube-system/configmaps", Level::Request),
            ("bob", "create", "/api/v1/namespaces/default/configmaps", Level::None),
            ("bob", "get", "/api/v1/namespaces/default/secrets/a", Level::Metadata),
            ("bob", "create", "/api/v1/namespaces/default/pods/p/exec", Level::Metadata),
            ("bob", "get", "/apis/apps/v1/namespaces/d/deployments/x", Level::RequestResponse),
            ("bob", "delete", "/api/v1/nodes/n", Level::Metadata),
            ("bob", "get", "/api/v1/nodes/n", Level::None),
        ];
        for (user, verb, url, expected) in cases {
            assert_eq!(level(user, verb, url), expected, "{user} {verb} {url}");
        }
    }

    #[test]
    fn a_broken_policy_is_refused_with_its_place() {
        let fault = |rules: &str| {
            let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}");
            format!("{:#}", Policy::parse(&text).unwrap_err())
        };
        assert!(fault("[]").contains("0 rules"));
        assert!(fault("[{level: Loud}]").contains("Loud"));
        assert!(fault("[{level: None, wrong: 1}]").contains("wrong"));
        let both = fault("[{level: None}, {level: None, namespaces: [a], nonResourceURLs: [/x]}]");
        assert!(both.starts_with("rules[1]"), "{both}");
        assert!(fault("[{level: None, nonResourceURLs: [x]}]").contains("must begin with a '/'"));
        assert!(Policy::parse("kind: Policy\napiVersion: v1\nrules: [{level: None}]").is_err());
    }
}
