//! MutatingAdmissionPolicy: expressions that change what is written, where a binding says so, without a program outside.
//!
//! Policies change the object one after the other. Those that ask for it (`reinvocationPolicy: IfNeeded`) get a second
//! look when somebody changed it after them: a later policy, or a webhook.

use super::bindings::{Invocation, conditions_hold, in_force, variables};
use super::matching::namespace_object;
use super::{Operation, Write};
use crate::expressions::{Expression, Variables, compose};
use crate::registry::fields;
use crate::schema::{DecodeError, Strictness, patch_schema};
use crate::server::{Server, schema_of};
use knarr_api::patch::{apply, json};
use knarr_api::{Status, StatusCause};
use serde_json::Value;

const KINDS: (&str, &str) = ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings");

/// What policies did to an object, for the second look.
#[derive(Debug, Default)]
pub(super) struct Round {
    invocations: Vec<Invocation>,
    /// How many of the invocations saw what came out last.
    seen: usize,
}

/// Lets policies change the object.
pub(super) async fn mutate(server: &Server, write: Write<'_>, object: &mut Value) -> Result<Round, Status> {
    if write.operation == Operation::Delete {
        return Ok(Round::default());
    }
    let invocations = in_force(server, write, KINDS, object).await?;
    let mut last_change = 0;
    for (index, invocation) in invocations.iter().enumerate() {
        if invocation.run(server, write, object).await? {
            last_change = index;
        }
    }
    Ok(Round { invocations, seen: last_change })
}

/// The second look. `changed`: a webhook has changed the object since.
pub(super) async fn again(
    server: &Server,
    write: Write<'_>,
    object: &mut Value,
    round: Round,
    changed: bool,
) -> Result<(), Status> {
    let Round { invocations, seen } = round;
    let late = if changed { invocations.len() } else { seen };
    let asks = |one: &&Invocation| fields::text(&one.policy, "/spec/reinvocationPolicy") == "IfNeeded";
    for invocation in invocations.iter().take(late).filter(asks) {
        invocation.run(server, write, object).await?;
    }
    Ok(())
}

/// Why a mutation was not made.
enum Fault {
    /// Counts by the failure policy.
    Evaluation(String),
    /// Refused whatever the failure policy says.
    Refused(Status),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Evaluation(why)
    }
}

impl Invocation {
    /// Makes the changes of one policy; whether there were any.
    async fn run(&self, server: &Server, write: Write<'_>, object: &mut Value) -> Result<bool, Status> {
        let Some(mut seen) = self.lens.see(server, write, object).await? else {
            return self.run_on(server, write, object).await;
        };
        let mut other = seen.take();
        let changed = self.run_on(server, seen.write(write), &mut other).await?;
        if changed {
            *object = seen.back(server, write, other).await?;
        }
        Ok(changed)
    }

    /// The same on an object in the version that the policy names.
    async fn run_on(&self, server: &Server, write: Write<'_>, object: &mut Value) -> Result<bool, Status> {
        let before = object.clone();
        match self.mutations(server, write, object).await {
            Ok(()) => {}
            Err(Fault::Refused(status)) => return Err(status),
            Err(Fault::Evaluation(why)) if self.ignores_failures() => {
                tracing::debug!(policy = self.name("policy"), "ignored: {why}");
            }
            Err(Fault::Evaluation(why)) => return Err(self.refusal(write, &why)),
        }
        Ok(*object != before)
    }

    async fn mutations(&self, server: &Server, write: Write<'_>, object: &mut Value) -> Result<(), Fault> {
        let params = self.params.as_ref().map_err(|why| Fault::Evaluation(why.clone()))?;
        let namespace = namespace_object(server, write, object).await.map_err(Fault::Refused)?;
        let namespace = namespace.unwrap_or(Value::Null);
        let known = |object: &Value| {
            variables(server, write, object).with("params", params).with("namespaceObject", &namespace)
        };
        let spec = &self.policy["spec"];
        if !conditions_hold(fields::list(spec, "/matchConditions"), &known(object))? {
            return Ok(());
        }
        for mutation in fields::list(spec, "/mutations") {
            let mut variables = known(object);
            compose(&mut variables, &named(spec));
            *object = changed(write, mutation, &variables, object)?;
        }
        Ok(())
    }

    fn refusal(&self, write: Write<'_>, why: &str) -> Status {
        let message = format!("{} denied request: {why}", self.name("policy"));
        let mut status = write.forbidden("");
        let configuration = self.params.is_err();
        status.reason = if configuration { "Forbidden".into() } else { "Invalid".into() };
        let cause = StatusCause { reason: String::new(), message: message.clone(), field: String::new() };
        status.details.causes.push(cause);
        status.message = message;
        status
    }
}

/// The variables of a policy; one that does not compile is absent.
fn named(spec: &Value) -> Vec<(String, Expression)> {
    let compiled = |variable: &Value| {
        let expression = Expression::compile_patch(fields::text(variable, "/expression")).ok()?;
        Some((fields::text(variable, "/name").to_owned(), expression))
    };
    fields::list(spec, "/variables").iter().filter_map(compiled).collect()
}

/// The object after one mutation, complete as if a client had sent it so.
fn changed(
    write: Write<'_>,
    mutation: &Value,
    variables: &Variables,
    object: &Value,
) -> Result<Value, Fault> {
    let resource = write.resource;
    if fields::text(mutation, "/patchType") == "JSONPatch" {
        let expression = Expression::compile_patch(fields::text(mutation, "/jsonPatch/expression"))?;
        let operations = expression.operations(variables)?;
        if !tests_hold(object, &operations) {
            return Ok(object.clone());
        }
        let patched = json::apply(object, &operations).map_err(|error| format!("JSONPath: {error}"))?;
        let internal = |error: DecodeError| Fault::Refused(Status::internal(error.detail()));
        return super::complete(write, patched, Strictness::Strict).map_err(internal);
    }
    let expression = Expression::compile_patch(fields::text(mutation, "/applyConfiguration/expression"))?;
    let mut part = expression.object(variables)?;
    for field in ["apiVersion", "kind"] {
        part[field] = object[field].clone();
    }
    let (group, version, kind) = write.kind();
    let own = write.kind.is_none();
    let schema = if own { schema_of(resource) } else { patch_schema(group, version, kind) };
    let merged = apply::overlay(object, &part, schema, !own || resource.schema.is_none())
        .map_err(|why| format!("error applying patch: {why}"))?;
    let unreadable = |error: DecodeError| {
        format!("error applying patch: failed to convert patch object to typed object: {}", error.detail())
    };
    Ok(super::complete(write, merged, Strictness::Ignore).map_err(unreadable)?)
}

/// A patch whose tests fail changes nothing, and that is no error. Tests come first, as everybody writes them: one that
/// looks at what an operation before it made is judged when the patch is applied.
fn tests_hold(object: &Value, operations: &Value) -> bool {
    let tests = operations.as_array().into_iter().flatten().take_while(|one| one["op"] == "test");
    tests.into_iter().all(|test| object.pointer(fields::text(test, "/path")) == test.get("value"))
}
