//! Rows from custom resource definitions: a kind that a user adds is served like any other.

use super::json_path::JsonPath;
use super::{Column, Custom, Resource, ScalePaths, StoredAs, Subresource, cells, columns, fields};
use crate::discovery::version_rank;
use serde_json::Value;
use std::borrow::Cow;
use std::sync::Arc;
use strategy::CustomStrategy;

mod strategy;

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// The rows of a definition: one for each version that it serves.
pub(crate) fn rows(definition: &Value) -> Vec<Resource> {
    let versions = fields::list(definition, "/spec/versions");
    let stored = versions.iter().find(|version| fields::flag(version, "/storage"));
    let stored = stored.map(|version| fields::text(version, "/name")).unwrap_or_default();
    let served = versions.iter().filter(|version| fields::flag(version, "/served"));
    served.map(|version| row(definition, version, stored)).collect()
}

fn row(definition: &Value, version: &Value, stored: &str) -> Resource {
    let text = |pointer: &str| Cow::from(fields::text(definition, pointer).to_owned());
    let texts = |pointer: &str| {
        let all = fields::list(definition, pointer).iter().filter_map(Value::as_str);
        all.map(|text| Cow::from(text.to_owned())).collect::<Vec<_>>()
    };
    let name = fields::text(version, "/name");
    let group = text("/spec/group");
    let custom = custom(definition, version, &group, stored);
    let schema = version.pointer("/schema/openAPIV3Schema").cloned().map(Arc::new);
    let has_status = version.pointer("/subresources/status").is_some();
    Resource {
        version: name.to_owned().into(),
        kind: text("/spec/names/kind"),
        plural: text("/spec/names/plural"),
        singular: text("/spec/names/singular"),
        short_names: texts("/spec/names/shortNames"),
        categories: texts("/spec/names/categories"),
        namespaced: fields::text(definition, "/spec/scope") == "Namespaced",
        verbs: VERBS.iter().map(|verb| Cow::Borrowed(*verb)).collect(),
        subresources: subresources(version),
        columns: printer_columns(version),
        strategy: Arc::new(CustomStrategy {
            schema: schema.clone(),
            has_status,
            selectable: selectable(version),
        }),
        stored_as: (name != stored).then(|| other_version(&group, stored, &text("/spec/names/plural"))),
        schema,
        custom: Some(Arc::new(custom)),
        group,
    }
}

/// Fields that selectors may name: `.spec.color` is `spec.color`.
fn selectable(version: &Value) -> Vec<String> {
    let paths = fields::list(version, "/selectableFields").iter();
    paths.map(|field| fields::text(field, "/jsonPath").trim_start_matches('.').to_owned()).collect()
}

/// The row that has the objects. They come in the version that is asked for (`server/versions.rs`): a stored object may
/// have any version that the definition ever had.
fn other_version(group: &str, stored: &str, plural: &str) -> StoredAs {
    let as_it_is = || -> super::Convert { Arc::new(|object| object) };
    StoredAs {
        row: (group.to_owned().into(), stored.to_owned().into(), plural.to_owned().into()),
        to_stored: as_it_is(),
        from_stored: as_it_is(),
    }
}

fn custom(definition: &Value, version: &Value, group: &str, stored: &str) -> Custom {
    let by_webhook = fields::text(definition, "/spec/conversion/strategy") == "Webhook";
    let pointer = |field: &str| {
        let path = fields::text(version, &format!("/subresources/scale/{field}"));
        path.replace('.', "/")
    };
    Custom {
        stored: format!("{group}/{stored}"),
        webhook: definition.pointer("/spec/conversion/webhook").filter(|_| by_webhook).cloned(),
        has_defaults: version.pointer("/schema/openAPIV3Schema").is_some_and(has_defaults),
        scale: version.pointer("/subresources/scale").map(|_| ScalePaths {
            wanted: pointer("specReplicasPath"),
            found: pointer("statusReplicasPath"),
            selector: pointer("labelSelectorPath"),
        }),
        warning: fields::flag(version, "/deprecated").then(|| deprecation(definition, version)),
    }
}

/// The author's own words about a deprecated version, or which newer one there is.
fn deprecation(definition: &Value, version: &Value) -> String {
    if let Some(words) = version.get("deprecationWarning").and_then(Value::as_str) {
        return words.to_owned();
    }
    let (group, kind) =
        (fields::text(definition, "/spec/group"), fields::text(definition, "/spec/names/kind"));
    let name = fields::text(version, "/name");
    let versions = fields::list(definition, "/spec/versions").iter();
    let fit = versions.filter(|other| fields::flag(other, "/served") && !fields::flag(other, "/deprecated"));
    let newer = fit
        .map(|other| fields::text(other, "/name"))
        .filter(|other| version_rank(other) > version_rank(name));
    match newer.max_by_key(|other| version_rank(other)) {
        Some(newer) => format!("{group}/{name} {kind} is deprecated; use {group}/{newer} {kind}"),
        None => format!("{group}/{name} {kind} is deprecated"),
    }
}

/// Whether a default stands anywhere in the schema: `default` beside `type`, not a property of that name.
fn has_defaults(schema: &Value) -> bool {
    let inner = ["items", "additionalProperties"].into_iter().filter_map(|name| schema.get(name));
    let properties = schema.get("properties").and_then(Value::as_object);
    schema.get("default").is_some()
        || inner.chain(properties.into_iter().flat_map(|map| map.values())).any(has_defaults)
}

fn subresources(version: &Value) -> Vec<Subresource> {
    let verbs = || ["get", "patch", "update"].map(Cow::Borrowed).to_vec();
    let scale = ("autoscaling".into(), "v1".into(), "Scale".into());
    let all = [("scale", Some(scale)), ("status", None)].into_iter();
    let declared = all.filter(|(name, _)| version.pointer(&format!("/subresources/{name}")).is_some());
    declared.map(|(name, body)| Subresource { name: name.into(), body, verbs: verbs() }).collect()
}

/// The columns that the definition asks for; the age where it asks for none.
fn printer_columns(version: &Value) -> Vec<Column> {
    let wanted = fields::list(version, "/additionalPrinterColumns");
    let mut all = vec![columns::name()];
    if wanted.is_empty() {
        all.push(columns::age());
    }
    all.extend(wanted.iter().filter_map(printer_column));
    all
}

fn printer_column(wanted: &Value) -> Option<Column> {
    let path = JsonPath::parse(fields::text(wanted, "/jsonPath"))?;
    let kind = match fields::text(wanted, "/type") {
        "integer" => "integer",
        "number" => "number",
        "boolean" => "boolean",
        "date" => "date",
        _ => "string",
    };
    let owned = |pointer: &str| Cow::from(fields::text(wanted, pointer).to_owned());
    Some(Column {
        name: owned("/name"),
        kind,
        format: "",
        description: owned("/description"),
        priority: i32::try_from(fields::int(wanted, "/priority").unwrap_or(0)).unwrap_or(1),
        cell: Arc::new(move |object, now| cell(kind, &path.find(object), now)),
    })
}

fn cell(kind: &str, found: &[&Value], now: jiff::Timestamp) -> Value {
    match (kind, found) {
        (_, []) => Value::Null,
        ("date", [first, ..]) => cells::since(first.as_str().unwrap_or_default(), now).into(),
        ("integer" | "number" | "boolean", [first, ..]) if !first.is_string() => Value::clone(first),
        (_, [single]) => shown(single).into(),
        (_, many) => many.iter().map(|value| shown(value)).collect::<Vec<_>>().join(",").into(),
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition() -> Value {
        let version = |name: &str, storage: bool| {
            json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                    "properties": {"cron": {"type": "string", "default": "* * * * *"}}}}}},
                "additionalPrinterColumns": [{"name": "Cron", "type": "string", "jsonPath": ".spec.cron"}]})
        };
        json!({"spec": {"group": "stable.example.com", "scope": "Namespaced",
            "names": {"kind": "CronTab", "plural": "crontabs", "singular": "crontab", "shortNames": ["ct"]},
            "versions": [version("v1", true), version("v1beta1", false)]}})
    }

    #[test]
    fn who_uses_a_deprecated_version_is_told() {
        let mut definition = definition();
        let warning = |definition: &Value| rows(definition)[1].custom.as_ref().unwrap().warning.clone();
        assert_eq!(warning(&definition), None);
        definition["spec"]["versions"][1]["deprecated"] = json!(true);
        let newer = "stable.example.com/v1beta1 CronTab is deprecated; use stable.example.com/v1 CronTab";
        assert_eq!(warning(&definition).as_deref(), Some(newer));
        definition["spec"]["versions"][0]["served"] = json!(false);
        let only = rows(&definition)[0].custom.as_ref().unwrap().warning.clone();
        assert_eq!(only.as_deref(), Some("stable.example.com/v1beta1 CronTab is deprecated"));
        definition["spec"]["versions"][1]["deprecationWarning"] = json!("go away");
        assert_eq!(rows(&definition)[0].custom.as_ref().unwrap().warning.as_deref(), Some("go away"));
    }

    #[test]
    fn a_definition_becomes_a_row_for_each_version() {
        let rows = rows(&definition());
        assert_eq!(rows.len(), 2);
        let (first, second) = (&rows[0], &rows[1]);
        assert_eq!((first.kind.as_ref(), first.namespaced, first.short_names.len()), ("CronTab", true, 1));
        assert!(first.subresource("status").is_some() && first.stored_as.is_none());
        assert_eq!(second.stored_as.as_ref().unwrap().row.1, "v1");
        let custom = second.custom.as_ref().unwrap();
        assert_eq!((&*custom.stored, custom.has_defaults), ("stable.example.com/v1", true));
        assert_eq!((&custom.webhook, &custom.scale), (&None, &None));
        let mut object = json!({"spec": {}});
        first.strategy.default(&mut object);
        let column = &first.columns[1];
        assert_eq!((column.cell)(&object, jiff::Timestamp::UNIX_EPOCH), "* * * * *");
    }
}
