//! `/scale`: the number of replicas of any kind that has one, as an `autoscaling/v1 Scale`.

use super::super::change::{At, Part};
use super::super::{Call, Server, answer, read_body, stored};
use super::patch::Patch;
use crate::registry::{Resource, ScalePaths, columns};
use crate::server::Answer;
use knarr_api::{LabelSelector, Status, meta};
use serde_json::{Value, json};

pub(super) async fn run(server: &Server, call: &Call, verb: &str) -> Result<Answer, Status> {
    let at = At { resource: &call.resource, namespace: call.path.namespace(), name: call.path.name() };
    let bytes = match verb {
        "get" => stored::encoded(at.resource, &*server.entry(at).await?),
        "update" => {
            let scale = read_body::object(call, ("autoscaling", "v1", "Scale"))?;
            change(server, call, at, |_| Ok(scale.clone())).await?
        }
        _ => {
            let patch = Patch::read(call)?;
            change(server, call, at, |old| patch.apply(at.resource, &scale_of(at.resource, old))).await?
        }
    };
    let object: Value = serde_json::from_slice(&bytes).map_err(Status::internal)?;
    let scale = scale_of(at.resource, &object);
    let row = Resource { columns: columns::scale(), ..Resource::clone(&call.resource) };
    answer::object_of(call, &row, 200, scale.to_string().into())
}

async fn change(
    server: &Server,
    call: &Call,
    at: At<'_>,
    scale: impl Fn(&Value) -> Result<Value, Status> + Send + Sync,
) -> Result<bytes::Bytes, Status> {
    let change = |old: &Value| {
        let wanted = scale(old)?;
        let replicas = wanted.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(0);
        if replicas < 0 {
            let message = format!("Invalid value: {replicas}: must be greater than or equal to 0");
            let cause = knarr_api::StatusCause {
                reason: "FieldValueInvalid".into(),
                message,
                field: "spec.replicas".into(),
            };
            return Err(Status::invalid("autoscaling", "Scale", at.name, vec![cause]));
        }
        let mut new = old.clone();
        put(&mut new, &places(at.resource).wanted, replicas.into());
        let version = meta::resource_version(&wanted);
        if !version.is_empty() {
            meta::set(&mut new, "resourceVersion", version);
        }
        Ok(new)
    };
    Ok(server.modify(at, Part::Main, &super::manner(call), change).await?.bytes)
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
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
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
