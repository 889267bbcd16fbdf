//! `/scale`: the number of replicas of any kind that has one, as an `autoscaling/v1 Scale`.

use super::super::change::{At, Part, schema_of};
use super::super::{Call, Server, answer, object_meta, read_body, stored};
use super::patch::{APPLY, Patch};
use crate::admission::{Kind, Operation, Write};
use crate::registry::{Resource, ScalePaths, columns};
use crate::server::Answer;
use knarr_api::patch::apply::{self, Window, Writer};
use knarr_api::{LabelSelector, Status, StatusCause, meta};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// apiVersion of what is shown.
const SHOWN_AS: &str = "autoscaling/v1";
const KIND: Kind<'_> = ("autoscaling", "v1", "Scale");
/// Attempts at a change between which somebody else keeps writing.
const MOST_ATTEMPTS: usize = 64;

pub(super) async fn run(server: &Server, call: &Call, verb: &str) -> Result<Answer, Status> {
    let at = At { resource: &call.resource, namespace: call.path.namespace(), name: call.path.name() };
    // The request as one about an object of kind Scale.
    let shown = Call { resource: Arc::new(scale_row(at.resource)), ..call.clone() };
    let (bytes, warnings) = match verb {
        "get" => (stored::encoded(at.resource, &*server.entry(at).await?), Vec::new()),
        "update" => replace(server, &shown, at).await?,
        _ if read_body::content_type(call) == APPLY => apply(server, &shown, at).await?,
        _ => patch(server, &shown, at).await?,
    };
    let object: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
    let scale = scale_of(at.resource, &object);
    let mut answer = answer::object(&shown, 200, scale.to_string().into())?;
    answer::warn(&mut answer, &warnings);
    Ok(answer)
}

/// The row of the kind that is shown in place of an object of `resource`.
fn scale_row(resource: &Resource) -> Resource {
    Resource {
        group: "autoscaling".into(),
        version: "v1".into(),
        kind: "Scale".into(),
        columns: columns::scale(),
        schema: None,
        custom: None,
        ..resource.clone()
    }
}

/// What a change gives: the object as it is stored now, and what the client should be told.
type Changed = Result<(bytes::Bytes, Vec<String>), Status>;

async fn replace(server: &Server, shown: &Call, at: At<'_>) -> Changed {
    let scale = read_body::object(shown, KIND)?;
    let (mut scale, warnings) = read_body::checked(shown, scale)?;
    object_meta::place(&mut scale, at.resource, at.namespace)?;
    object_meta::require_name(&scale, at.name)?;
    object_meta::check_name(&mut scale, at.name)?;
    change(server, shown, at, |_| Ok((scale.clone(), warnings.clone())), |old, new| scaled(at, old, new))
        .await
}

async fn patch(server: &Server, shown: &Call, at: At<'_>) -> Changed {
    let patch = Patch::read(shown)?;
    let scale = |old: &Value| patch.checked(shown, &scale_of(at.resource, old));
    change(server, shown, at, scale, |old, new| scaled(at, old, new)).await
}

/// Changes the object by its Scale, which is what policies and webhooks see: `scale` is the wanted one, and `finish` makes
/// the object of the one that came of it. All again when somebody else wrote in between.
async fn change(
    server: &Server,
    shown: &Call,
    at: At<'_>,
    scale: impl Fn(&Value) -> Result<(Value, Vec<String>), Status>,
    finish: impl Fn(&Value, &Value) -> Result<Value, Status> + Send + Sync,
) -> Changed {
    let mut manner = super::manner(shown);
    manner.by = None;
    // The field belongs to the object, under the name it has there; who applies says himself what is whose.
    let writer = manner.writer.filter(|_| read_body::content_type(shown) != APPLY);
    manner.writer = writer.map(|writer| Writer { api_version: at.resource.api_version(), ..writer });
    let mut attempt = 0;
    loop {
        let old = stored::decode(at.resource, &*server.entry(at).await?);
        let (mut wanted, mut warnings) = scale(&old)?;
        let before = scale_of(at.resource, &old);
        let write = super::write_of(shown, Operation::Update, KIND);
        let write = Write { resource: at.resource, old: Some(&before), ..write };
        warnings.extend(server.admit_sent(write, &mut wanted).await?);
        let moved = AtomicBool::new(false);
        let finish = |now: &Value| {
            moved.store(meta::resource_version(now) != meta::resource_version(&old), Ordering::Relaxed);
            if moved.load(Ordering::Relaxed) {
                return Err(Status::modified(&at.resource.group, &at.resource.plural, at.name));
            }
            finish(now, &wanted)
        };
        match server.modify(at, Part::Main, &manner, finish).await {
            Err(_) if moved.load(Ordering::Relaxed) && attempt < MOST_ATTEMPTS => attempt += 1,
            written => return Ok((written?.bytes, warnings)),
        }
    }
}

/// Server-side apply of a Scale: the number is owned like any other field of the object.
async fn apply(server: &Server, shown: &Call, at: At<'_>) -> Changed {
    let (config, warnings) = super::apply::configuration(shown)?;
    let writer = Writer { api_version: SHOWN_AS.to_owned(), ..super::writer(shown) };
    let places = places(at.resource);
    let window = Window {
        place: places.wanted.split('/').skip(1).collect(),
        shown_at: vec!["spec", "replicas"],
        shown_as: SHOWN_AS,
    };
    let force = shown.query.flag("force");
    let merged = |old: &Value| {
        let mut live = scale_of(at.resource, old);
        window.show_owners(old, &mut live);
        let merged = apply::apply(&live, &config, &writer, force, schema_of(&shown.resource))
            .map_err(|conflict| Status::apply_conflict(conflict.message, conflict.causes))?;
        Ok((merged, warnings.clone()))
    };
    let finish = |old: &Value, merged: &Value| {
        let mut new = scaled(at, old, merged)?;
        window.take_owners(&mut new, merged);
        Ok(new)
    };
    change(server, shown, at, merged, finish).await
}

/// The object with as many replicas as the Scale says, if it is the one that the Scale is of.
fn scaled(at: At<'_>, old: &Value, scale: &Value) -> Result<Value, Status> {
    let replicas = scale.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
    if replicas < 0 {
        let message = format!("Invalid value: {replicas}: must be greater than or equal to 0");
        let cause =
            StatusCause { reason: "FieldValueInvalid".into(), message, field: "spec.replicas".into() };
        return Err(Status::invalid("autoscaling", "Scale", at.name, vec![cause]));
    }
    let mut new = old.clone();
    put(&mut new, &places(at.resource).wanted, replicas.into());
    for (field, known) in [("resourceVersion", meta::resource_version(scale)), ("uid", meta::uid(scale))] {
        if !known.is_empty() {
            meta::set(&mut new, field, known);
        }
    }
    Ok(new)
}

/// Where the numbers are: custom resources say so.
fn places(resource: &Resource) -> ScalePaths {
    let own = resource.custom.as_ref().and_then(|custom| custom.scale.clone());
    own.unwrap_or_else(|| ScalePaths {
        wanted: "/spec/replicas".to_owned(),
        found: "/status/replicas".to_owned(),
        selector: String::new(),
    })
}

/// Sets a field, and makes the objects above it.
fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for name in pointer.split('/').skip(1) {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[name];
    }
    *place = value;
}

fn scale_of(resource: &Resource, object: &Value) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object["metadata"].get(field) {
            metadata[field] = value.clone();
        }
    }
    let places = places(resource);
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": number(&places.found)});
    let selector = match &resource.custom {
        Some(_) => crate::registry::fields::text(object, &places.selector).to_owned(),
        None => selector(object),
    };
    if !selector.is_empty() {
        status["selector"] = selector.into();
    }
    json!({
        "kind": "Scale", "apiVersion": SHOWN_AS, "metadata": metadata,
        "spec": {"replicas": number(&places.wanted)}, "status": status,
    })
}

/// The selector in its text form; that of a ReplicationController is a plain map.
fn selector(object: &Value) -> String {
    let Some(selector) = object.pointer("/spec/selector").and_then(Value::as_object) else {
        return String::new();
    };
    let is_structured = selector.contains_key("matchLabels") || selector.contains_key("matchExpressions");
    if !is_structured {
        return LabelSelector::from_map(selector).to_string();
    }
    LabelSelector::from_object(&object["spec"]["selector"])
        .map(|selector| selector.to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_of_an_object() {
        let deployment = json!({"metadata": {"name": "web", "labels": {}}, "spec": {"replicas": 3,
            "selector": {"matchLabels": {"app": "web"}}}, "status": {"replicas": 2}});
        let table = crate::registry::Table::builtin();
        let mut row = Resource::clone(&table.find("apps", "v1", "deployments").unwrap());
        let scale = scale_of(&row, &deployment);
        assert_eq!(scale["metadata"], json!({"name": "web"}));
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web"}));
        assert_eq!(selector(&json!({"spec": {"selector": {"a": "b"}}})), "a=b");

        let scale = ScalePaths {
            wanted: "/spec/crew/size".to_owned(),
            found: "/status/size".to_owned(),
            selector: "/status/selector".to_owned(),
        };
        let custom = crate::registry::Custom {
            stored: "example.com/v1".to_owned(),
            webhook: None,
            has_defaults: false,
            scale: Some(scale),
            warning: None,
        };
        row.custom = Some(std::sync::Arc::new(custom));
        let mut ship = json!({"status": {"size": 1, "selector": "a=b"}});
        put(&mut ship, &places(&row).wanted, 4.into());
        assert_eq!(ship["spec"], json!({"crew": {"size": 4}}));
        let scale = scale_of(&row, &ship);
        assert_eq!(
            (&scale["spec"]["replicas"], &scale["status"]),
            (&json!(4), &json!({"replicas": 1, "selector": "a=b"}))
        );
    }
}
