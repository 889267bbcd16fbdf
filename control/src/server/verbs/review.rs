//! Reviews: objects that are questions. They are answered, not stored: who am I, what may I do, may he do this.

use super::super::change::At;
use super::super::{Call, Server, answer, object_meta, read_body};
use crate::authn::User;
use crate::authn::service_account::ISSUER;
use crate::authz::Attributes;
use crate::server::Answer;
use knarr_api::{FieldSelector, Status};
use serde_json::{Value, json};

pub(super) fn is_review(call: &Call) -> bool {
    matches!(&*call.resource.group, "authentication.k8s.io" | "authorization.k8s.io")
}

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    let resource = &call.resource;
    let mut review = read_body::object(call, (&resource.group, &resource.version, &resource.kind))?;
    let spec = review["spec"].clone();
    check(&resource.kind, &spec, call.path.namespace())?;
    review["status"] = match &*resource.kind {
        "SelfSubjectReview" => {
            review["metadata"]["creationTimestamp"] = object_meta::now().into();
            json!({"userInfo": call.user.info()})
        }
        "SelfSubjectAccessReview" => access(server, &call.user, &spec).await,
        "SubjectAccessReview" | "LocalSubjectAccessReview" => access(server, &subject(&spec), &spec).await,
        "SelfSubjectRulesReview" => rules(server, &call.user, &spec).await?,
        "TokenReview" => token(server, &spec).await,
        _ => return Err(At { resource, namespace: "", name: "" }.not_found()),
    };
    answer::object(call, 201, review.to_string().into())
}

/// A question that is none is refused.
fn check(kind: &str, spec: &Value, namespace: &str) -> Result<(), Status> {
    if kind == "TokenReview" && spec["token"].as_str().unwrap_or_default().is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    if !kind.ends_with("AccessReview") {
        return Ok(());
    }
    let mut faults: Vec<(&str, String)> = Vec::new();
    match (spec["resourceAttributes"].is_object(), &spec["nonResourceAttributes"]) {
        (true, path) if path.is_object() => {
            let part = |field: &str| path[field].as_str().unwrap_or_default();
            let shown = json!({"Path": part("path"), "Verb": part("verb")});
            let why = format!("{shown}: cannot be specified in combination with resourceAttributes");
            faults.push(("spec.nonResourceAttributes", why));
        }
        (false, path) if !path.is_object() => {
            let why = "null: exactly one of nonResourceAttributes or resourceAttributes must be specified";
            faults.push(("spec.resourceAttributes", why.to_owned()));
        }
        _ => {}
    }
    let user = spec["user"].as_str().unwrap_or_default();
    let groups = spec["groups"].as_array().is_some_and(|groups| !groups.is_empty());
    if kind != "SelfSubjectAccessReview" && user.is_empty() && !groups {
        faults.push(("spec.user", "\"\": at least one of user or group must be specified".to_owned()));
    }
    let asked = &spec["resourceAttributes"]["namespace"];
    if kind == "LocalSubjectAccessReview" && asked.as_str().unwrap_or_default() != namespace {
        let why = format!("{asked}: must match metadata.namespace");
        faults.push(("spec.resourceAttributes.namespace", why));
    }
    if faults.is_empty() {
        return Ok(());
    }
    let cause = |(field, why): (&str, String)| knarr_api::StatusCause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {why}"),
        field: field.into(),
    };
    Err(Status::invalid("authorization.k8s.io", "", "", faults.into_iter().map(cause).collect()))
}

fn subject(spec: &Value) -> User {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let texts = |values: &Value| {
        let values = values.as_array().into_iter().flatten();
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    };
    let extra = spec["extra"].as_object().into_iter().flatten();
    let extra = extra.map(|(key, values)| (key.clone(), texts(values))).collect();
    User { name: text("user"), groups: texts(&spec["groups"]), uid: text("uid"), extra }
}

async fn access(server: &Server, user: &User, spec: &Value) -> Value {
    let text = |part: &str, field: &str| spec[part][field].as_str().unwrap_or_default().to_owned();
    let on = |field: &str| text("resourceAttributes", field);
    let allowed = if spec["nonResourceAttributes"].is_object() {
        let (verb, path) = (text("nonResourceAttributes", "verb"), text("nonResourceAttributes", "path"));
        server.may(user, &Attributes::Path { verb: &verb, path: &path }).await
    } else {
        let selector = FieldSelector::parse(&raw_field_selector(spec)).ok();
        let attributes = Attributes::Resource {
            verb: &on("verb"),
            group: &on("group"),
            resource: &on("resource"),
            subresource: &on("subresource"),
            namespace: &on("namespace"),
            name: &on("name"),
            fields: selector.as_ref(),
        };
        server.may(user, &attributes).await
    };
    json!({"allowed": allowed})
}

/// The field selector of the list or watch that is asked about, in its text form where the question has requirements.
fn raw_field_selector(spec: &Value) -> String {
    let selector = &spec["resourceAttributes"]["fieldSelector"];
    if let Some(raw) = selector["rawSelector"].as_str() {
        return raw.to_owned();
    }
    let requirements = selector["requirements"].as_array().into_iter().flatten();
    let terms = requirements.filter(|one| one["operator"] == "In").filter_map(|one| {
        let [value] = one["values"].as_array()?.as_slice() else { return None };
        Some(format!("{}={}", one["key"].as_str()?, value.as_str()?))
    });
    terms.collect::<Vec<_>>().join(",")
}

/// Whose token it is. A client that names audiences wants one that is for them.
async fn token(server: &Server, spec: &Value) -> Value {
    let wanted: Vec<&str> =
        spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let audiences = if wanted.is_empty() { vec![ISSUER] } else { wanted };
    let token = spec["token"].as_str().unwrap_or_default();
    match server.tokens.user(token, &audiences, &*server.store).await {
        Some((user, audiences)) => {
            json!({"authenticated": true, "user": user.info(), "audiences": audiences})
        }
        None => json!({"authenticated": false, "error": "invalid bearer token"}),
    }
}

/// What a user may do in a namespace, as `kubectl auth can-i --list` shows it.
async fn rules(server: &Server, user: &User, spec: &Value) -> Result<Value, Status> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    // What everybody may do stands in roles as well.
    let rules = server.rbac.rules(user, namespace).map_err(Status::internal)?;
    let (paths, resources): (Vec<Value>, Vec<Value>) =
        rules.into_iter().partition(|rule| rule.get("nonResourceURLs").is_some());
    Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_is_all_that_the_question_says_of_it() {
        let spec = json!({"user": "bob", "groups": ["dev"], "uid": "7",
            "extra": {"example.org/scope": ["read", "write"], "authentication.kubernetes.io/node-name": ["n"]}});
        let info = json!({"username": "bob", "groups": ["dev"], "uid": "7", "extra": spec["extra"]});
        assert_eq!(subject(&spec).info(), info);
        assert_eq!(subject(&json!({"user": "amy"})), User { name: "amy".into(), ..User::default() });
    }
}
