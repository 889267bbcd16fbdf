//! ValidatingAdmissionPolicy: expressions that every write must satisfy where a binding says so.

use super::matching::{is_exempt, matches, namespace_object};
use super::{Operation, Write};
use crate::expressions::{Expression, Variables, compose};
use crate::registry::fields;
use crate::server::Server;
use knarr_api::{LabelSelector, Status, StatusCause, meta};
use serde_json::{Value, json};

const PREFIX: &str = "admissionregistration.k8s.io/";

/// A policy, a binding of it, and one object of its parameters.
struct Asked<'a> {
    policy: &'a Value,
    binding: &'a Value,
    params: Value,
}

/// What one validation found.
#[derive(Debug, PartialEq, Eq)]
struct Denial {
    message: String,
    reason: String,
}

/// Refuses what a policy denies; gives what policies only warn of.
pub(super) async fn check(server: &Server, write: Write<'_>, object: &Value) -> Result<Vec<String>, Status> {
    if is_exempt(write) {
        return Ok(Vec::new());
    }
    let bindings = server.objects_below(&format!("{PREFIX}validatingadmissionpolicybindings/")).await?;
    let mut warnings = Vec::new();
    for binding in &bindings {
        let name = fields::text(binding, "/spec/policyName");
        let found = server.object_at(&format!("{PREFIX}validatingadmissionpolicies/{name}")).await?;
        let Some(policy) = found else { continue };
        if !is_about(server, write, &policy, binding, object).await? {
            continue;
        }
        let namespace = namespace_object(server, write, object).await?.unwrap_or(Value::Null);
        for params in params(server, write, &policy, binding).await? {
            let asked = Asked { policy: &policy, binding, params };
            for denial in asked.evaluate(write, object, &namespace) {
                asked.act(write, denial, &mut warnings)?;
            }
        }
    }
    Ok(warnings)
}

async fn is_about(
    server: &Server,
    write: Write<'_>,
    policy: &Value,
    binding: &Value,
    object: &Value,
) -> Result<bool, Status> {
    let constraints = &policy["spec"]["matchConstraints"];
    if !matches(server, write, constraints, "/resourceRules", object).await? {
        return Ok(false);
    }
    let narrower = &binding["spec"]["matchResources"];
    if narrower.is_null() {
        return Ok(true);
    }
    let mut narrower = narrower.clone();
    if fields::list(&narrower, "/resourceRules").is_empty() {
        narrower["resourceRules"] = constraints["resourceRules"].clone();
    }
    matches(server, write, &narrower, "/resourceRules", object).await
}

/// The objects of parameters that the binding names; one null where the policy takes none.
async fn params(
    server: &Server,
    write: Write<'_>,
    policy: &Value,
    binding: &Value,
) -> Result<Vec<Value>, Status> {
    let (kind, reference) = (&policy["spec"]["paramKind"], &binding["spec"]["paramRef"]);
    if kind.is_null() || reference.is_null() {
        return Ok(vec![Value::Null]);
    }
    let (group, version) = match fields::text(kind, "/apiVersion").split_once('/') {
        Some(parts) => parts,
        None => ("", fields::text(kind, "/apiVersion")),
    };
    let row = server.table.by_kind(group, version, fields::text(kind, "/kind"));
    let unknown =
        || write.forbidden(&format!("policy {} takes parameters of an unknown kind", meta::name(policy)));
    let row = row.ok_or_else(unknown)?;
    let namespace = match fields::text(reference, "/namespace") {
        "" => write.namespace,
        given => given,
    };
    let prefix = crate::server::stored::resource_prefix(&row);
    let prefix = if row.namespaced { format!("{prefix}{namespace}/") } else { prefix };
    let found = match fields::text(reference, "/name") {
        "" => {
            let selector = LabelSelector::from_object(&reference["selector"]).map_err(Status::bad_request)?;
            let mut all = server.objects_below(&prefix).await?;
            all.retain(|object| selector.matches_object(object));
            all
        }
        name => server.object_at(&format!("{prefix}{name}")).await?.into_iter().collect(),
    };
    let allowed = fields::text(reference, "/parameterNotFoundAction") == "Allow";
    if found.is_empty() && !allowed {
        return Err(write.forbidden(&format!(
            "ValidatingAdmissionPolicy '{}' with binding '{}' denied request: no params found for policy binding with `Deny` parameterNotFoundAction",
            meta::name(policy),
            meta::name(binding)
        )));
    }
    Ok(found)
}

/// What expressions can use about the request itself.
pub(super) fn request(write: Write<'_>) -> Value {
    let resource = write.resource;
    json!({
        "kind": {"group": resource.group, "version": resource.version, "kind": resource.kind},
        "resource": {"group": resource.group, "version": resource.version, "resource": resource.plural},
        "subResource": write.subresource, "name": write.name, "namespace": write.namespace,
        "operation": write.operation.as_str(), "dryRun": write.dry_run,
        "userInfo": {"username": write.user.name, "uid": write.user.uid, "groups": write.user.groups},
    })
}

/// The variables of conditions and validations.
pub(super) fn variables(write: Write<'_>, object: &Value) -> Variables {
    let new = if write.operation == Operation::Delete { &Value::Null } else { object };
    Variables::default()
        .with("object", new)
        .with("oldObject", write.old.unwrap_or(&Value::Null))
        .with("request", &request(write))
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

impl Asked<'_> {
    fn evaluate(&self, write: Write<'_>, object: &Value, namespace: &Value) -> Vec<Denial> {
        let spec = &self.policy["spec"];
        let mut variables =
            variables(write, object).with("params", &self.params).with("namespaceObject", namespace);
        match conditions_hold(fields::list(spec, "/matchConditions"), &variables) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(why) => return self.failed(&why).into_iter().collect(),
        }
        let named: Vec<(String, Expression)> = fields::list(spec, "/variables")
            .iter()
            .filter_map(|one| {
                let expression = Expression::compile(fields::text(one, "/expression")).ok()?;
                Some((fields::text(one, "/name").to_owned(), expression))
            })
            .collect();
        compose(&mut variables, &named);
        let validations = fields::list(spec, "/validations").iter();
        validations.filter_map(|validation| self.validate(validation, &variables)).collect()
    }

    fn validate(&self, validation: &Value, variables: &Variables) -> Option<Denial> {
        let source = fields::text(validation, "/expression");
        match Expression::compile(source).and_then(|expression| expression.holds(variables)) {
            Ok(true) => None,
            Ok(false) => Some(Denial {
                message: message(validation, variables)
                    .unwrap_or_else(|| format!("failed expression: {source}")),
                reason: match fields::text(validation, "/reason") {
                    "" => "Invalid".to_owned(),
                    reason => reason.to_owned(),
                },
            }),
            Err(why) => self.failed(&format!("expression '{source}' resulted in error: {why}")),
        }
    }

    /// An expression that cannot be evaluated denies, unless failures are to be ignored.
    fn failed(&self, why: &str) -> Option<Denial> {
        let ignored = fields::text(self.policy, "/spec/failurePolicy") == "Ignore";
        (!ignored).then(|| Denial { message: why.to_owned(), reason: "Invalid".to_owned() })
    }

    fn act(&self, write: Write<'_>, denial: Denial, warnings: &mut Vec<String>) -> Result<(), Status> {
        let (policy, binding) = (meta::name(self.policy), meta::name(self.binding));
        let actions = fields::list(self.binding, "/spec/validationActions");
        let does = |action: &str| actions.iter().any(|own| own == action);
        if does("Warn") {
            let text = format!(
                "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {}",
                denial.message
            );
            warnings.push(text);
        }
        if does("Audit") {
            tracing::info!(policy, binding, name = write.name, "policy: {}", denial.message);
        }
        if !does("Deny") {
            return Ok(());
        }
        let why = format!(
            "ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}",
            denial.message
        );
        let mut status = write.forbidden(&why);
        status.code = match &*denial.reason {
            "Unauthorized" => 401,
            "Forbidden" => 403,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        status.reason = denial.reason.into();
        status.details.causes.push(StatusCause { reason: String::new(), message: why, field: String::new() });
        Err(status)
    }
}

fn message(validation: &Value, variables: &Variables) -> Option<String> {
    let computed = fields::text(validation, "/messageExpression");
    if !computed.is_empty() {
        let text = Expression::compile(computed).and_then(|expression| expression.text(variables));
        if let Ok(text) = text.map(|text| text.trim().to_owned())
            && !text.is_empty()
            && !text.contains('\n')
        {
            return Some(text);
        }
    }
    Some(fields::text(validation, "/message").trim().to_owned()).filter(|text| !text.is_empty())
}
