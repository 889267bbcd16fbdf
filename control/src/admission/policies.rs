//! ValidatingAdmissionPolicy: expressions that every write must satisfy where a binding says so.

use super::Write;
use super::bindings::{Invocation, conditions_hold, in_force, variables};
use super::matching::namespace_object;
use super::versions::Seen;
use crate::expressions::{Expression, Variables, compose};
use crate::registry::fields;
use crate::server::Server;
use knarr_api::{Status, StatusCause, meta};
use serde_json::Value;

const KINDS: (&str, &str) = ("validatingadmissionpolicies", "validatingadmissionpolicybindings");

/// What one validation found.
#[derive(Debug, PartialEq, Eq)]
struct Denial {
    message: String,
    reason: String,
}

/// Refuses what a policy denies; gives what policies only warn of.
pub(super) async fn check(server: &Server, write: Write<'_>, object: &Value) -> Result<Vec<String>, Status> {
    let mut warnings = Vec::new();
    for invocation in in_force(server, write, KINDS, object).await? {
        match &invocation.params {
            Ok(params) => {
                let namespace = namespace_object(server, write, object).await?.unwrap_or(Value::Null);
                let seen = invocation.lens.see(server, write, object).await?;
                let (as_seen, object) = Seen::instead(&seen, write, object);
                for denial in invocation.evaluate(server, as_seen, object, params, &namespace) {
                    invocation.act(write, denial, &mut warnings)?;
                }
            }
            Err(why) => {
                invocation.failed(why).map_or(Ok(()), |denial| Err(invocation.denied(write, &denial)))?
            }
        }
    }
    Ok(warnings)
}

impl Invocation {
    fn evaluate(
        &self,
        server: &Server,
        write: Write<'_>,
        object: &Value,
        params: &Value,
        namespace: &Value,
    ) -> Vec<Denial> {
        let spec = &self.policy["spec"];
        let mut variables =
            variables(server, write, object).with("params", params).with("namespaceObject", namespace);
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
        (!self.ignores_failures()).then(|| Denial { message: why.to_owned(), reason: "Invalid".to_owned() })
    }

    fn act(&self, write: Write<'_>, denial: Denial, warnings: &mut Vec<String>) -> Result<(), Status> {
        let (policy, binding) = (meta::name(&self.policy), meta::name(&self.binding));
        let actions = fields::list(&self.binding, "/spec/validationActions");
        let does = |action: &str| actions.iter().any(|own| own == action);
        if does("Warn") {
            let name = self.name("ValidatingAdmissionPolicy");
            warnings.push(format!("Validation failed for {name}: {}", denial.message));
        }
        if does("Audit") {
            tracing::info!(policy, binding, name = write.name, "policy: {}", denial.message);
        }
        if does("Deny") { Err(self.denied(write, &denial)) } else { Ok(()) }
    }

    fn denied(&self, write: Write<'_>, denial: &Denial) -> Status {
        let why = format!("{} denied request: {}", self.name("ValidatingAdmissionPolicy"), denial.message);
        let mut status = write.forbidden(&why);
        status.code = match &*denial.reason {
            "Unauthorized" => 401,
            "Forbidden" => 403,
            "RequestEntityTooLarge" => 413,
            _ => 422,
        };
        status.reason = denial.reason.clone().into();
        status.details.causes.push(StatusCause { reason: String::new(), message: why, field: String::new() });
        status
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
