//! What must hold for every row, whatever its kind.

use super::*;
use crate::schema::{Strictness, Written, decode, kinds};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn every_kind_has_a_schema() {
    for row in rows() {
        let published = kinds::find(&row.group, &row.version, &row.kind).is_some();
        assert!(published || row.schema.is_some(), "{row:?}");
    }
}

#[test]
fn every_listed_kind_has_columns_that_start_with_its_name() {
    for row in rows().iter().filter(|row| row.allows("list")) {
        let identity = row.columns.iter().find(|column| column.format == "name");
        assert!(identity.is_some_and(|column| column.name == "Name"), "{row:?}");
    }
}

#[test]
fn defaults_fit_the_schema() {
    for row in rows() {
        let mut object =
            json!({"apiVersion": row.api_version(), "kind": row.kind, "metadata": {"name": "x"}});
        row.strategy.prepare_create(&mut object);
        row.strategy.default(&mut object);
        let decoded = decode(
            &row.group,
            &row.version,
            &row.kind,
            object,
            Written::Faults(Vec::new()),
            Strictness::Strict,
        );
        assert!(decoded.is_ok(), "{row:?}: {decoded:?}");
    }
}

/// Objects that look a little like workloads, with holes in all places.
fn any_object() -> impl proptest::strategy::Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z0-9%./-]{0,6}".prop_map(Value::from),
    ];
    let names = [
        "metadata",
        "spec",
        "status",
        "template",
        "containers",
        "volumes",
        "ports",
        "selector",
        "matchLabels",
        "name",
        "data",
        "jobTemplate",
        "webhooks",
        "limits",
        "strategy",
        "type",
        "kind",
        "rules",
        "env",
        "resources",
        "conditions",
    ];
    leaf.prop_recursive(6, 96, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(names.to_vec()), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn strategies_take_anything_and_settle_at_once(object in any_object(), other in any_object()) {
        for row in rows() {
            // The schema comes first, as it does in the server.
            let Ok(decoded) = decode(&row.group, &row.version, &row.kind, object.clone(), Written::Faults(Vec::new()), Strictness::Ignore) else { continue };
            let mut object = decoded.object;
            row.strategy.default(&mut object);
            let once = object.clone();
            row.strategy.default(&mut object);
            prop_assert_eq!(&object, &once, "{:?}", row);
            row.strategy.validate_update(&object, &other);
            row.strategy.prepare_update(&mut object, &other);
            for column in &row.columns {
                (column.cell)(&other, jiff::Timestamp::UNIX_EPOCH);
            }
        }
    }
}
