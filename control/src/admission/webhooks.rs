//! Admission webhooks: programs outside that change or refuse writes. Mutating ones are called one after the other,
//! each with what the one before left; validating ones all at once.

use super::bindings::{conditions_hold, request, variables};
use super::matching::{is_exempt, matches};
use super::versions::{Lens, Seen};
use super::{Operation, Write};
use crate::registry::fields;
use crate::server::Server;
use crate::webhook;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use knarr_api::{Status, meta, patch};
use serde_json::{Value, json};
use std::time::Duration;

const PREFIX: &str = "admissionregistration.k8s.io/";

/// What one webhook answered.
#[derive(Debug, Default)]
struct Verdict {
    patch: Option<Value>,
    warnings: Vec<String>,
}

/// The webhooks of one kind of configuration that are about the write, in the order of their configurations' names.
async fn concerned(
    server: &Server,
    write: Write<'_>,
    kind: &str,
    object: &Value,
) -> Result<Vec<(Value, Lens)>, Status> {
    let mut hooks = Vec::new();
    if is_exempt(write) {
        return Ok(hooks);
    }
    for configuration in server.objects_below(&format!("{PREFIX}{kind}/")).await? {
        for hook in fields::list(&configuration, "/webhooks") {
            let Some(lens) = matches(server, write, hook, "/rules", object).await? else { continue };
            let seen = lens.see(server, write, object).await?;
            let (as_seen, object) = Seen::instead(&seen, write, object);
            if wanted(server, as_seen, hook, object)? {
                hooks.push((hook.clone(), lens));
            }
        }
    }
    Ok(hooks)
}

/// Whether the conditions of the webhook hold.
fn wanted(server: &Server, write: Write<'_>, hook: &Value, object: &Value) -> Result<bool, Status> {
    let conditions = fields::list(hook, "/matchConditions");
    match conditions_hold(conditions, &variables(server, write, object)) {
        Ok(holds) => Ok(holds),
        Err(_) if ignores_failures(hook) => Ok(false),
        Err(why) => Err(write.forbidden(&format!("webhook {:?}: match conditions: {why}", name(hook)))),
    }
}

fn name(hook: &Value) -> &str {
    fields::text(hook, "/name")
}

fn ignores_failures(hook: &Value) -> bool {
    fields::text(hook, "/failurePolicy") == "Ignore"
}

/// Lets webhooks change the object. Whether one did.
pub(super) async fn mutate(server: &Server, write: Write<'_>, object: &mut Value) -> Result<bool, Status> {
    let hooks = concerned(server, write, "mutatingwebhookconfigurations", object).await?;
    let mut changed_by = Vec::new();
    for (index, (hook, lens)) in hooks.iter().enumerate() {
        if ask_and_patch(server, write, (hook, lens), object).await? {
            changed_by.push(index);
        }
    }
    // Once more for those who want to see what later ones changed.
    let last = changed_by.last().copied().unwrap_or(0);
    let asks = |hook: &Value| fields::text(hook, "/reinvocationPolicy") == "IfNeeded";
    for (hook, lens) in hooks.iter().take(last).filter(|(hook, _)| asks(hook)) {
        ask_and_patch(server, write, (hook, lens), object).await?;
    }
    Ok(!changed_by.is_empty())
}

async fn ask_and_patch(
    server: &Server,
    write: Write<'_>,
    (hook, lens): (&Value, &Lens),
    object: &mut Value,
) -> Result<bool, Status> {
    let seen = lens.see(server, write, object).await?;
    let (as_seen, shown) = Seen::instead(&seen, write, object);
    let verdict = ask(server, as_seen, hook, shown).await?;
    let Some(operations) = verdict.patch else { return Ok(false) };
    if write.operation == Operation::Delete {
        let why = "attempted to modify the object, which is not supported for this operation";
        return Err(Status::internal(format!("admission webhook {:?} {why}", name(hook))));
    }
    let patched = patch::json::apply(shown, &operations)
        .map_err(|error| failure(hook, &format!("the patch does not apply: {error}")))?;
    if !patched.is_object() || meta::name(&patched) != meta::name(object) || patched["kind"] != object["kind"]
    {
        return Err(failure(hook, "the patch makes another object of it"));
    }
    let patched = match &seen {
        Some(seen) => seen.back(server, write, patched).await?,
        None => patched,
    };
    let changed = patched != *object;
    *object = patched;
    Ok(changed)
}

/// Asks every validating webhook; the first refusal counts.
pub(super) async fn validate(
    server: &Server,
    write: Write<'_>,
    object: &Value,
) -> Result<Vec<String>, Status> {
    let hooks = concerned(server, write, "validatingwebhookconfigurations", object).await?;
    let asked = hooks.iter().map(|(hook, lens)| async move {
        let seen = lens.see(server, write, object).await?;
        let (as_seen, object) = Seen::instead(&seen, write, object);
        ask(server, as_seen, hook, object).await
    });
    let verdicts = futures_util::future::try_join_all(asked).await?;
    Ok(verdicts.into_iter().flat_map(|verdict| verdict.warnings).collect())
}

fn failure(hook: &Value, why: &str) -> Status {
    Status::internal(format!("failed calling webhook {:?}: {why}", name(hook)))
}

async fn ask(server: &Server, write: Write<'_>, hook: &Value, object: &Value) -> Result<Verdict, Status> {
    let harmless = matches!(fields::text(hook, "/sideEffects"), "None" | "NoneOnDryRun");
    if write.dry_run && !harmless {
        return Err(Status::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            name(hook)
        )));
    }
    let review = review(write, object);
    let seconds = fields::int(hook, "/timeoutSeconds").unwrap_or(10).clamp(1, 30).unsigned_abs();
    let timeout = Duration::from_secs(seconds);
    let answered = webhook::post(server, &hook["clientConfig"], &review, timeout).await;
    let read = answered.and_then(|answer| read(&answer, &review));
    match read {
        Ok(response) => decide(hook, &response),
        Err(why) if ignores_failures(hook) => {
            tracing::warn!(webhook = name(hook), "failed calling webhook, ignored: {why}");
            Ok(Verdict::default())
        }
        Err(why) => Err(failure(hook, &format!("failed to call webhook: {why}"))),
    }
}

fn review(write: Write<'_>, object: &Value) -> Value {
    let mut request = request(write);
    request["uid"] = crate::random::uid().into();
    if let Some(parts) = request.as_object_mut() {
        parts.retain(|_, value| value != "");
    }
    request["object"] = if write.operation == Operation::Delete { Value::Null } else { object.clone() };
    request["oldObject"] = write.old.cloned().unwrap_or(Value::Null);
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

/// The response in an answer, which must be to our question.
fn read(answer: &Value, review: &Value) -> Result<Value, String> {
    let response = &answer["response"];
    if answer["kind"] != "AdmissionReview" || answer["apiVersion"] != "admission.k8s.io/v1" {
        let found = (fields::text(answer, "/apiVersion"), fields::text(answer, "/kind"));
        return Err(format!(
            "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {found:?}"
        ));
    }
    if response["uid"] != review["request"]["uid"] {
        return Err(format!("expected response.uid={}, got {}", review["request"]["uid"], response["uid"]));
    }
    Ok(response.clone())
}

fn decide(hook: &Value, response: &Value) -> Result<Verdict, Status> {
    if response["allowed"] != true {
        return Err(refusal(hook, &response["status"]));
    }
    let warnings = fields::list(response, "/warnings").iter().filter_map(Value::as_str).map(str::to_owned);
    let verdict = Verdict { patch: None, warnings: warnings.collect() };
    let Some(encoded) = response["patch"].as_str().filter(|text| !text.is_empty()) else {
        return Ok(verdict);
    };
    if response["patchType"] != "JSONPatch" {
        return Err(failure(hook, "invalid response.patchType, want JSONPatch"));
    }
    let bytes = STANDARD.decode(encoded).map_err(|error| failure(hook, &error.to_string()))?;
    let operations = serde_json::from_slice(&bytes).map_err(|error| failure(hook, &error.to_string()))?;
    Ok(Verdict { patch: Some(operations), ..verdict })
}

fn refusal(hook: &Value, given: &Value) -> Status {
    let denied = format!("admission webhook {:?} denied the request", name(hook));
    let (message, reason) = (fields::text(given, "/message"), fields::text(given, "/reason"));
    let said = match (message, reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", reason) => format!("{denied}: {reason}"),
        (message, _) => format!("{denied}: {message}"),
    };
    let code = fields::int(given, "/code").and_then(|code| u16::try_from(code).ok()).unwrap_or(400);
    let mut status = Status::bad_request(said);
    status.code = code.clamp(400, 599);
    status.reason = reason.to_owned().into();
    status
}
