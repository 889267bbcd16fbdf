//! POST serviceaccounts/NAME/token: a token by which a pod (or a person) acts as a service account for some time.

use super::super::change::At;
use super::super::{Call, Server, answer, object_meta, read_body, stored};
use crate::admission::Operation;
use crate::authn::service_account::{Claims, Holder, ISSUER, Reference};
use crate::server::Answer;
use jiff::Timestamp;
use knarr_api::{Status, StatusCause, meta};
use serde_json::{Value, json};

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
/// Longer is cut to this.
const MAX_SECONDS: i64 = 1 << 32;

pub(super) async fn run(server: &Server, call: &Call) -> Result<Answer, Status> {
    const KIND: (&str, &str, &str) = ("authentication.k8s.io", "v1", "TokenRequest");
    let mut request = read_body::object(call, KIND)?;
    let at = At { resource: &call.resource, namespace: call.path.namespace(), name: call.path.name() };
    let account = stored::decode(at.resource, &*server.entry(at).await?);
    server.admit_sent(super::write_of(call, Operation::Create, KIND), &mut request).await?;
    let spec = &request["spec"];
    let seconds = spec["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
    if seconds < MIN_SECONDS {
        let message = format!("Invalid value: {seconds}: may not specify a duration less than 10 minutes");
        let cause = StatusCause {
            reason: "FieldValueInvalid".into(),
            message,
            field: "spec.expirationSeconds".into(),
        };
        return Err(Status::invalid("authentication.k8s.io", "TokenRequest", "", vec![cause]));
    }
    let audiences = spec["audiences"].as_array().into_iter().flatten();
    let audiences = audiences.filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
    let holder = bound_object(server, at, spec).await?;
    let claims = Claims::new(&account, holder, audiences, seconds.min(MAX_SECONDS));
    let expires = Timestamp::from_second(claims.exp).map_err(Status::internal)?;
    request["status"] = json!({
        "token": server.tokens.issuer.issue(&claims)?,
        "expirationTimestamp": object_meta::timestamp(expires),
    });
    request["spec"]["expirationSeconds"] = seconds.into();
    if request["spec"]["audiences"].as_array().is_none_or(Vec::is_empty) {
        request["spec"]["audiences"] = json!([ISSUER]);
    }
    request["metadata"] = json!({"name": at.name, "namespace": at.namespace, "uid": meta::uid(&account), "creationTimestamp": object_meta::now()});
    answer::object(call, 201, request.to_string().into())
}

/// The object that the token dies with. It must be there, and a pod must run as this account.
async fn bound_object(server: &Server, at: At<'_>, spec: &Value) -> Result<Option<Holder>, Status> {
    let reference = &spec["boundObjectRef"];
    let text = |field: &str| reference[field].as_str().unwrap_or_default().to_owned();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let api_version = text("apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let (plural, prefix, holder): (_, _, fn(Reference) -> Holder) = match (group, kind.as_str()) {
        (_, "") => return Ok(None),
        ("", "Pod") => ("pods", format!("core/pods/{}/", at.namespace), Holder::Pod),
        ("", "Secret") => ("secrets", format!("core/secrets/{}/", at.namespace), Holder::Secret),
        ("", "Node") => ("nodes", "core/nodes/".to_owned(), Holder::Node),
        _ => {
            let why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
            return Err(Status::bad_request(why));
        }
    };
    let found = server.store.get(&format!("{prefix}{name}")).await.map_err(Status::internal)?;
    let object = found.ok_or_else(|| Status::not_found("", plural, &name))?.object();
    if !uid.is_empty() && uid != meta::uid(&object) {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict("", &kind, &name, &why));
    }
    let account = object.pointer("/spec/serviceAccountName").and_then(Value::as_str).unwrap_or("default");
    if plural == "pods" && account != at.name {
        let why = format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            at.name
        );
        return Err(Status::bad_request(why));
    }
    Ok(Some(holder(Reference { name, uid: meta::uid(&object).to_owned() })))
}
