//! Which policies have a say in a write: those that a binding puts in force for it, each with every object of the
//! parameters that the binding names. The same for policies that refuse and for those that change.

use super::matching::{is_exempt, matches};
use super::versions::Lens;
use super::{Operation, Write, rights};
use crate::expressions::{Expression, Variables};
use crate::registry::fields;
use crate::server::Server;
use knarr_api::{LabelSelector, Status, meta};
use serde_json::{Value, json};
use std::sync::Arc;

const PREFIX: &str = "admissionregistration.k8s.io/";

/// A policy in force, and one object of its parameters.
#[derive(Debug, Clone)]
pub(super) struct Invocation {
    pub(super) policy: Arc<Value>,
    pub(super) binding: Arc<Value>,
    /// Null where the policy takes none; or why there is none.
    pub(super) params: Result<Value, String>,
    /// In which version it sees the write.
    pub(super) lens: Lens,
}

impl Invocation {
    /// Whether what cannot be evaluated lets the write pass.
    pub(super) fn ignores_failures(&self) -> bool {
        fields::text(&self.policy, "/spec/failurePolicy") == "Ignore"
    }

    /// `policy 'p' with binding 'b'`, after the kind of the policy.
    pub(super) fn name(&self, kind: &str) -> String {
        format!("{kind} '{}' with binding '{}'", meta::name(&self.policy), meta::name(&self.binding))
    }
}

/// The policies of the resource `policies` that are in force for a write, in the order of their names.
pub(super) async fn in_force(
    server: &Server,
    write: Write<'_>,
    (policies, bindings): (&str, &str),
    object: &Value,
) -> Result<Vec<Invocation>, Status> {
    let mut invocations = Vec::new();
    if is_exempt(write) {
        return Ok(invocations);
    }
    let mut bindings = server.objects_below(&format!("{PREFIX}{bindings}/")).await?;
    bindings.sort_by(|a, b| key(a).cmp(&key(b)));
    for binding in bindings {
        let name = fields::text(&binding, "/spec/policyName");
        let found = server.object_at(&format!("{PREFIX}{policies}/{name}")).await?;
        let Some(policy) = found else { continue };
        let Some(lens) = lens(server, write, &policy, &binding, object).await? else { continue };
        let found = params(server, write, &policy, &binding).await?;
        let (policy, binding) = (Arc::new(policy), Arc::new(binding));
        let one = |params| Invocation {
            policy: policy.clone(),
            binding: binding.clone(),
            params,
            lens: lens.clone(),
        };
        match found {
            Ok(found) => invocations.extend(found.into_iter().map(|params| one(Ok(params)))),
            Err(why) => invocations.push(one(Err(format!("failed to configure binding: {why}")))),
        }
    }
    Ok(invocations)
}

fn key(binding: &Value) -> (&str, &str) {
    (fields::text(binding, "/spec/policyName"), meta::name(binding))
}

/// The version in which a policy is about the write, if it is.
async fn lens(
    server: &Server,
    write: Write<'_>,
    policy: &Value,
    binding: &Value,
    object: &Value,
) -> Result<Option<Lens>, Status> {
    let constraints = &policy["spec"]["matchConstraints"];
    let Some(lens) = matches(server, write, constraints, "/resourceRules", object).await? else {
        return Ok(None);
    };
    let narrower = &binding["spec"]["matchResources"];
    if narrower.is_null() {
        return Ok(Some(lens));
    }
    let mut narrower = narrower.clone();
    if fields::list(&narrower, "/resourceRules").is_empty() {
        narrower["resourceRules"] = constraints["resourceRules"].clone();
    }
    Ok(matches(server, write, &narrower, "/resourceRules", object).await?.map(|_| lens))
}

/// The objects of parameters that the binding names; one null where the policy takes none. What is wrong with them is
/// told by the policy, not here.
async fn params(
    server: &Server,
    write: Write<'_>,
    policy: &Value,
    binding: &Value,
) -> Result<Result<Vec<Value>, String>, Status> {
    let (kind, reference) = (&policy["spec"]["paramKind"], &binding["spec"]["paramRef"]);
    if kind.is_null() || reference.is_null() {
        return Ok(Ok(vec![Value::Null]));
    }
    let (group, version) = match fields::text(kind, "/apiVersion").split_once('/') {
        Some(parts) => parts,
        None => ("", fields::text(kind, "/apiVersion")),
    };
    let Some(row) = server.table.by_kind(group, version, fields::text(kind, "/kind")) else {
        let known = format!("{group}/{version}, Kind={}", fields::text(kind, "/kind"));
        return Ok(Err(format!("paramKind kind `{}` not known", known.trim_start_matches('/'))));
    };
    let namespace = match fields::text(reference, "/namespace") {
        "" => write.namespace,
        _ if !row.namespaced => {
            return Ok(Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()
            ));
        }
        given => given,
    };
    if row.namespaced && namespace.is_empty() {
        let why = "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
        return Ok(Err(why.to_owned()));
    }
    let prefix = crate::server::stored::resource_prefix(&row);
    let prefix = if row.namespaced { format!("{prefix}{namespace}/") } else { prefix };
    let found: Vec<Value> = match fields::text(reference, "/name") {
        "" => {
            let selector = LabelSelector::from_object(&reference["selector"]).map_err(Status::bad_request)?;
            let mut all = server.objects_below(&prefix).await?;
            all.retain(|object| selector.matches_object(object));
            all
        }
        name => server.object_at(&format!("{prefix}{name}")).await?.into_iter().collect(),
    };
    if found.is_empty() && fields::text(reference, "/parameterNotFoundAction") != "Allow" {
        let why = "no params found for policy binding with `Deny` parameterNotFoundAction";
        return Ok(Err(why.to_owned()));
    }
    Ok(Ok(found))
}

/// What expressions can use about the request itself.
pub(super) fn request(write: Write<'_>) -> Value {
    let (resource, sent) = (write.resource, write.sent.unwrap_or(write.resource));
    let (group, version, kind) = write.kind();
    let (sent_group, sent_version, sent_kind) =
        write.kind.unwrap_or((&sent.group, &sent.version, &sent.kind));
    let mut request = json!({
        "kind": {"group": group, "version": version, "kind": kind},
        "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
        "subResource": write.subresource, "name": write.name, "namespace": write.namespace,
        "operation": write.operation.as_str(), "dryRun": write.dry_run,
        "userInfo": write.user.info(),
        "requestKind": {"group": sent_group, "version": sent_version, "kind": sent_kind},
        "requestResource": {"group": sent.group, "version": sent.version, "resource": sent.plural},
        "requestSubResource": write.subresource,
    });
    if !write.user.extra.is_empty() {
        request["userInfo"]["extra"] = json!(write.user.extra);
    }
    let options = match write.operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return request,
    };
    let mut told = json!({"apiVersion": "meta.k8s.io/v1", "kind": options});
    for (name, value) in write.options.and_then(Value::as_object).into_iter().flatten() {
        told[name.as_str()] = value.clone();
    }
    request["options"] = told;
    request
}

/// The variables of conditions and validations.
pub(super) fn variables(server: &Server, write: Write<'_>, object: &Value) -> Variables {
    let new = if write.operation == Operation::Delete { &Value::Null } else { object };
    let (authorizer, objects) = rights::authorizer(server, write);
    Variables::default()
        .with("object", new)
        .with("oldObject", write.old.unwrap_or(&Value::Null))
        .with("request", &request(write))
        .with_authorizer(authorizer, objects)
}

/// Whether all `matchConditions` hold. One that fails counts by the failure policy.
pub(super) fn conditions_hold(conditions: &[Value], variables: &Variables) -> Result<bool, String> {
    let mut fault = None;
    for condition in conditions {
        let expression = Expression::compile(fields::text(condition, "/expression"));
        match expression.and_then(|expression| expression.holds(variables)) {
            Ok(true) => {}
            // One that says no is enough, whatever happens to the others.
            Ok(false) => return Ok(false),
            Err(why) => fault = Some(why),
        }
    }
    fault.map_or(Ok(true), Err)
}
