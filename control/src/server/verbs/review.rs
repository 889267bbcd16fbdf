//! Reviews: objects that are questions. They are answered, not stored: who am I, what may I do, may he do this.

use super::super::change::At;
use super::super::{Call, answer, read_body};
use crate::authn::User;
use crate::authz::{self, Attributes};
use crate::server::Answer;
use knarr_api::Status;
use serde_json::{Value, json};

pub(super) fn is_review(call: &Call) -> bool {
    matches!(&*call.resource.group, "authentication.k8s.io" | "authorization.k8s.io")
}

pub(super) async fn run(call: &Call) -> Result<Answer, Status> {
    let resource = &call.resource;
    let mut review = read_body::object(call, (&resource.group, &resource.version, &resource.kind))?;
    let spec = review["spec"].clone();
    review["status"] = match &*resource.kind {
        "SelfSubjectReview" => json!({"userInfo": user_info(&call.user)}),
        "SelfSubjectAccessReview" => access(&call.user, &spec),
        "SubjectAccessReview" | "LocalSubjectAccessReview" => access(&subject(&spec), &spec),
        "SelfSubjectRulesReview" => rules(&call.user),
        "TokenReview" => json!({"authenticated": false, "error": "token review is not supported yet"}),
        _ => return Err(At { resource, namespace: "", name: "" }.not_found()),
    };
    answer::object(call, 201, review.to_string().into())
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    info
}

fn subject(spec: &Value) -> User {
    let groups = spec["groups"].as_array().into_iter().flatten();
    let groups = groups.filter_map(|group| group.as_str().map(str::to_owned)).collect();
    User { name: spec["user"].as_str().unwrap_or_default().to_owned(), groups, uid: String::new() }
}

fn access(user: &User, spec: &Value) -> Value {
    let text = |part: &str, field: &str| spec[part][field].as_str().unwrap_or_default().to_owned();
    let on = |field: &str| text("resourceAttributes", field);
    let allowed = if spec["nonResourceAttributes"].is_object() {
        let (verb, path) = (text("nonResourceAttributes", "verb"), text("nonResourceAttributes", "path"));
        authz::allows(user, &Attributes::Path { verb: &verb, path: &path })
    } else {
        let attributes = Attributes::Resource {
            verb: &on("verb"),
            group: &on("group"),
            resource: &on("resource"),
            subresource: &on("subresource"),
            namespace: &on("namespace"),
            name: &on("name"),
        };
        authz::allows(user, &attributes)
    };
    json!({"allowed": allowed})
}

/// Roles are not evaluated yet, so the list is whole only for those who may do everything.
fn rules(user: &User) -> Value {
    if user.is_in(crate::authn::MASTERS) {
        return json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        });
    }
    json!({"resourceRules": [], "nonResourceRules": [], "incomplete": true, "evaluationError": "roles are not supported yet"})
}
