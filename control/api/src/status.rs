//! `Status`: how the API answers a request that gives no object. Code, reason, message and details are part of the
//! API: kubectl and controllers match on all four, so every text here is Kubernetes' own.

use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;
use told::Told;

mod told;

/// A failure (or the success of a DELETE), as it goes to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// HTTP code.
    pub code: u16,
    /// `NotFound`, `Conflict`, ... ; empty on success.
    pub reason: Cow<'static, str>,
    /// For a person.
    pub message: String,
    /// About which object, and why in parts.
    pub details: Box<Details>,
    /// Of a list that has expired: where to go on without a consistent view.
    pub go_on: Option<String>,
}

/// `details` of a [`Status`]; empty parts are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Details {
    /// Of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural resource name, except in `Invalid`, where it is the kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Of the object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Faults, field by field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// Seconds after which to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// One entry of `details.causes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusCause {
    /// `FieldValueRequired`, ...
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// `Required value`, ...
    pub message: String,
    /// `spec.containers[0].image`
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `deployments.apps`; the core group adds nothing.
pub fn qualified(group: &str, name: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.into(), message: message.into(), details: Box::default(), go_on: None }
    }

    fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.details.group = group.to_owned();
        self.details.kind = kind.to_owned();
        self.details.name = name.to_owned();
        self
    }

    /// 200: the object is gone.
    pub fn deleted(group: &str, resource: &str, name: &str, uid: &str) -> Self {
        let mut status = Self::new(200, "", "").about(group, resource, name);
        status.details.uid = uid.to_owned();
        status
    }

    /// 201: the deed of a subresource that returns no object is done.
    pub fn success() -> Self {
        Self::new(201, "", "")
    }

    /// 404: no such object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        Self::new(404, "NotFound", message).about(group, resource, name)
    }

    /// 404: no such path.
    pub fn no_such_resource() -> Self {
        Self::new(404, "NotFound", "the server could not find the requested resource")
    }

    /// 409: the name is taken.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        Self::new(409, "AlreadyExists", message).about(group, resource, name)
    }

    /// 409 with a reason in words.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(group, resource));
        Self::new(409, "Conflict", message).about(group, resource, name)
    }

    /// 409: somebody else wrote in between.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    /// 409 of a server-side apply; `causes` name each field and its manager.
    pub fn apply_conflict(message: String, causes: Vec<StatusCause>) -> Self {
        let mut status = Self::new(409, "Conflict", message);
        status.details.causes = causes;
        status
    }

    /// 403 about an object, or about the whole resource where `name` is empty.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let resource_name = qualified(group, resource);
        let message = match name {
            "" => format!("{resource_name} is forbidden: {why}"),
            name => format!("{resource_name} {name:?} is forbidden: {why}"),
        };
        Self::new(403, "Forbidden", message).about(group, resource, name)
    }

    /// 403 about a path that is no resource.
    pub fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        Self::new(403, "Forbidden", format!("forbidden: User {user:?} cannot {verb} path {path:?}"))
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 422 with every fault of the object.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<StatusCause>) -> Self {
        // What is found twice is told once; the causes keep it.
        let mut seen = std::collections::BTreeSet::new();
        let parts: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .filter(|part| seen.insert(part.clone()))
            .collect();
        let listed =
            if let [only] = parts.as_slice() { only.clone() } else { format!("[{}]", parts.join(", ")) };
        let message = format!("{} {name:?} is invalid: {listed}", qualified(group, kind));
        let mut status = Self::new(422, "Invalid", message).about(group, kind, name);
        status.details.causes = causes;
        status
    }

    /// 422: a patch that does not fit the object.
    pub fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(422, "Invalid", message)
    }

    /// 405.
    pub fn method_not_allowed(group: &str, resource: &str, verb: &str) -> Self {
        let message =
            format!("{verb} is not supported on resources of kind {:?}", qualified(group, resource));
        Self::new(405, "MethodNotAllowed", message).about(group, resource, "")
    }

    /// 405 for a method that no resource knows.
    pub fn unknown_method() -> Self {
        Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }

    /// 406.
    pub fn not_acceptable() -> Self {
        let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        Self::new(406, "NotAcceptable", format!("only the following media types are accepted: {types}"))
    }

    /// 406 where the type is known, and what is there cannot be shown in it.
    pub fn unfit_for(message: String) -> Self {
        Self::new(406, "NotAcceptable", message)
    }

    /// 410: the revision has left the history.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 413: the body is longer than `limit` bytes.
    pub fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    /// 415 with the types that would have been read.
    pub fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 429: try again in some seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: Option<u32>) -> Self {
        let mut status = Self::new(429, "TooManyRequests", message);
        status.details.retry_after_seconds = retry_after_seconds;
        status
    }

    /// 500.
    pub fn internal(why: impl fmt::Display) -> Self {
        Self::new(500, "InternalError", format!("Internal error occurred: {why}"))
    }

    /// 500 without a reason: what Kubernetes answers where a fault was not foreseen as one of the client's.
    pub fn unexplained(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    /// 501: known, and left out of this version.
    pub fn not_supported(what: &str) -> Self {
        Self::new(501, "NotImplemented", format!("{what} is not supported yet"))
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, "ServiceUnavailable", message)
    }

    /// 504: what was waited for did not come in time.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, "Timeout", message)
    }

    /// A cause without a field, as watch and list errors carry it.
    pub fn with_cause(mut self, reason: &str, message: &str) -> Self {
        let cause =
            StatusCause { reason: reason.to_owned(), message: message.to_owned(), field: String::new() };
        self.details.causes.push(cause);
        self
    }

    /// The object as it goes over the wire.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(Told::of(self)).unwrap_or_default()
    }

    /// The text of it, in one line with its end.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string(&Told::of(self)).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cause(field: &str) -> StatusCause {
        StatusCause {
            reason: "FieldValueRequired".into(),
            message: "Required value".into(),
            field: field.into(),
        }
    }

    #[test]
    fn texts_are_those_of_kubernetes() {
        let cases = [
            (Status::not_found("", "pods", "nope"), r#"pods "nope" not found"#),
            (
                Status::already_exists("apps", "deployments", "web"),
                r#"deployments.apps "web" already exists"#,
            ),
            (
                Status::modified("", "configmaps", "c"),
                r#"Operation cannot be fulfilled on configmaps "c": the object has been modified; please apply your changes to the latest version and try again"#,
            ),
            (
                Status::invalid("", "Pod", "z", vec![cause("spec.containers")]),
                r#"Pod "z" is invalid: spec.containers: Required value"#,
            ),
            (
                Status::invalid("apps", "Deployment", "z", vec![cause("a"), cause("b")]),
                r#"Deployment.apps "z" is invalid: [a: Required value, b: Required value]"#,
            ),
            (Status::forbidden("", "pods", "", "no"), "pods is forbidden: no"),
        ];
        for (status, message) in cases {
            assert_eq!(status.message, message);
        }
    }

    #[test]
    fn empty_parts_are_left_out_on_the_wire() {
        let value = Status::deleted("", "configmaps", "c", "u-1").to_value();
        assert_eq!(
            value,
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                   "details": {"name": "c", "kind": "configmaps", "uid": "u-1"}})
        );
    }

    #[test]
    fn the_text_has_the_order_of_kubernetes() {
        let taken = r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"services \"a\" already exists","reason":"AlreadyExists","details":{"name":"a","kind":"services"},"code":409}"#;
        assert_eq!(Status::already_exists("", "services", "a").to_json(), format!("{taken}\n"));
    }
}
