//! Paths of the Kubernetes API: `/api/v1/...` for the core group, `/apis/GROUP/VERSION/...` for the others, then
//! `[namespaces/NAMESPACE/]RESOURCE[/NAME[/SUBRESOURCE[/REST]]]`.

use super::query::percent_decode;
use crate::authz::Attributes;
use knarr_api::{FieldSelector, Status};

/// What a path addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// A document: discovery, OpenAPI, health, version.
    Path(String),
    /// Objects.
    Resource(ResourcePath),
}

/// A path that addresses objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ResourcePath {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) namespace: Option<String>,
    pub(crate) plural: String,
    pub(crate) name: Option<String>,
    pub(crate) subresource: Option<String>,
    /// What follows `.../proxy/`, as it was sent: empty after `.../proxy/`, absent after `.../proxy`.
    pub(crate) rest: Option<String>,
}

impl Route {
    /// Reads a path; segments are percent-decoded one by one, so that `%2F` in a name is no separator.
    pub(crate) fn parse(path: &str) -> Result<Self, Status> {
        let raw: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match raw.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Ok(Self::Path(format!("/{}", raw.join("/")))),
        };
        let mut parsed =
            ResourcePath { group: decode(group)?, version: decode(version)?, ..ResourcePath::default() };
        parsed.read_objects(rest)?;
        if parsed.subresource() == "proxy" && path.ends_with('/') {
            let rest = parsed.rest.get_or_insert_default();
            rest.push_str(if rest.is_empty() { "" } else { "/" });
        }
        Ok(Self::Resource(parsed))
    }
}

impl ResourcePath {
    fn read_objects(&mut self, parts: &[&str]) -> Result<(), Status> {
        let parts = match parts {
            // `namespaces/N/status` and `/finalize` are subresources of the namespace itself.
            ["namespaces", namespace, next, ..] if !matches!(*next, "status" | "finalize") => {
                self.namespace = Some(decode(namespace)?);
                &parts[2..]
            }
            _ => parts,
        };
        let [plural, more @ ..] = parts else { return Err(Status::no_such_resource()) };
        self.plural = decode(plural)?;
        if let [name, more @ ..] = more {
            self.name = Some(decode(name)?);
            if let [subresource, more @ ..] = more {
                self.subresource = Some(decode(subresource)?);
                self.rest = (!more.is_empty()).then(|| more.join("/"));
            }
        }
        Ok(())
    }

    pub(crate) fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn subresource(&self) -> &str {
        self.subresource.as_deref().unwrap_or_default()
    }

    /// What authorization must know; a list or watch of one name is about that object.
    pub(crate) fn attributes<'a>(&'a self, verb: &'a str, fields: &'a FieldSelector) -> Attributes<'a> {
        Attributes::Resource {
            verb,
            group: &self.group,
            resource: &self.plural,
            subresource: self.subresource(),
            namespace: self.namespace(),
            name: self.name.as_deref().or(fields.exact("metadata.name")).unwrap_or_default(),
            fields: Some(fields),
        }
    }
}

/// No segment may hold what another layer could read as a path.
fn decode(segment: &str) -> Result<String, Status> {
    let text =
        percent_decode(segment, false).ok_or_else(|| Status::bad_request("the path is not valid UTF-8"))?;
    let harmful = text.contains(['/', '\0']) || text == "." || text == "..";
    if harmful { Err(Status::bad_request(format!("invalid path segment {text:?}"))) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(path: &str) -> ResourcePath {
        match Route::parse(path).unwrap() {
            Route::Resource(found) => found,
            Route::Path(path) => panic!("{path} is no resource"),
        }
    }

    #[test]
    fn objects_are_found_in_the_path() {
        let cases = [
            ("/api/v1/nodes", ("", "", "nodes", "", "")),
            ("/api/v1/namespaces", ("", "", "namespaces", "", "")),
            ("/api/v1/namespaces/a", ("", "", "namespaces", "a", "")),
            ("/api/v1/namespaces/a/status", ("", "", "namespaces", "a", "status")),
            ("/api/v1/namespaces/a/pods", ("", "a", "pods", "", "")),
            ("/api/v1/namespaces/a/pods/b/log", ("", "a", "pods", "b", "log")),
            ("/apis/apps/v1/namespaces/a/deployments/b", ("apps", "a", "deployments", "b", "")),
            ("/api/v1/namespaces/a/configmaps/b%20c", ("", "a", "configmaps", "b c", "")),
        ];
        for (path, (group, namespace, plural, name, subresource)) in cases {
            let found = resource(path);
            let parts = (&*found.group, found.namespace(), &*found.plural, found.name(), found.subresource());
            assert_eq!(parts, (group, namespace, plural, name, subresource), "{path}");
        }
        let proxied = resource("/api/v1/nodes/n/proxy/stats/summary");
        assert_eq!((proxied.subresource(), proxied.rest.as_deref()), ("proxy", Some("stats/summary")));
        for (path, rest) in [("", None), ("/", Some("")), ("/logs", Some("logs")), ("/logs/", Some("logs/"))]
        {
            assert_eq!(resource(&format!("/api/v1/nodes/n/proxy{path}")).rest.as_deref(), rest, "{path}");
        }
    }

    #[test]
    fn documents_and_tricks() {
        for path in
            ["/", "/api", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version", "/openapi/v3/apis/apps/v1"]
        {
            assert_eq!(Route::parse(path).unwrap(), Route::Path(path.into()));
        }
        for path in [
            "/api/v1/pods/a%2Fb",
            "/api/v1/pods/..",
            "/api/v1/pods/%2e%2e",
            "/api/v1/pods/%ff",
            "/api/v1/pods/%00",
        ] {
            assert!(Route::parse(path).is_err(), "{path}");
        }
        let Ok(Route::Resource(deep)) = Route::parse("/api/v1/namespaces/a/pods/b/log/more") else {
            panic!()
        };
        assert_eq!(deep.rest.as_deref(), Some("more"), "nothing of ours, but perhaps of another server");
    }
}
