//! Rows from custom resource definitions: a kind that a user adds is served like any other.

use super::json_path::JsonPath;
use super::{Column, Resource, StoredAs, Subresource, cells, columns, fields};
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
        stored_as: (name != stored).then(|| other_version(&group, name, stored, &text("/spec/names/plural"))),
        schema,
        group,
    }
}

/// Fields that selectors may name: `.spec.color` is `spec.color`.
fn selectable(version: &Value) -> Vec<String> {
    let paths = fields::list(version, "/selectableFields").iter();
    paths.map(|field| fields::text(field, "/jsonPath").trim_start_matches('.').to_owned()).collect()
}

/// The versions of a custom resource differ in nothing but their name.
fn other_version(group: &str, name: &str, stored: &str, plural: &str) -> StoredAs {
    let relabel = |version: &str| -> Arc<dyn Fn(Value) -> Value + Send + Sync> {
        let api_version = format!("{group}/{version}");
        Arc::new(move |object| {
            let mut object = object;
            fields::set(&mut object, "apiVersion", api_version.as_str().into());
            object
        })
    };
    StoredAs {
        row: (group.to_owned().into(), stored.to_owned().into(), plural.to_owned().into()),
        to_stored: relabel(stored),
        from_stored: relabel(name),
    }
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
    fn a_definition_becomes_a_row_for_each_version() {
        let rows = rows(&definition());
        assert_eq!(rows.len(), 2);
        let (first, second) = (&rows[0], &rows[1]);
        assert_eq!((first.kind.as_ref(), first.namespaced, first.short_names.len()), ("CronTab", true, 1));
        assert!(first.subresource("status").is_some() && first.stored_as.is_none());
        let stored = second.stored_as.as_ref().unwrap();
        assert_eq!((stored.to_stored)(json!({"apiVersion": "x"}))["apiVersion"], "stable.example.com/v1");
        let mut object = json!({"spec": {}});
        first.strategy.default(&mut object);
        let column = &first.columns[1];
        assert_eq!((column.cell)(&object, jiff::Timestamp::UNIX_EPOCH), "* * * * *");
    }
}
