//! How patches merge into the objects of a kind: the schemas as `knarr_api::patch` wants them.

use super::facts::is_atomic;
use super::types::{self, ObjectType, Type};
use super::{Fact, fact};
use knarr_api::patch::{Ownership, PatchField, PatchSchema};
use std::sync::Arc;

/// The patch schema of a kind; `None` for a kind without a schema (custom resources have no strategic merge).
pub fn patch_schema(group: &str, version: &str, kind: &str) -> Option<Arc<dyn PatchSchema>> {
    types::of_kind(group, version, kind).map(|kind| Arc::new(Fields(kind)) as Arc<dyn PatchSchema>)
}

/// The fields of an object type.
struct Fields(Arc<ObjectType>);

impl PatchSchema for Fields {
    fn field(&self, name: &str) -> Option<PatchField> {
        let field = self.0.field(name)?;
        let fact = fact(&self.0.name, name);
        let strategies = fact.map_or("", |fact| fact.patch_strategy);
        let has = |strategy: &str| strategies.split(',').any(|part| part == strategy);
        Some(PatchField {
            merge: has("merge"),
            replace: has("replace"),
            merge_key: fact.map(|fact| fact.merge_key).filter(|key| !key.is_empty()).map(Arc::from),
            ownership: match &field.kind {
                Type::Object(name) if is_atomic(name) => Ownership::Atomic,
                _ => fact.map_or(Ownership::Default, ownership),
            },
            atomic_elements: matches!(&field.kind, Type::List(items) if is_whole(items)),
            always: fact.is_some_and(|fact| fact.always),
            child: child(&field.kind),
        })
    }
}

fn is_whole(kind: &Type) -> bool {
    matches!(kind, Type::Object(name) if is_atomic(name))
}

/// A map in which every key has the same type.
struct Values(Type);

impl PatchSchema for Values {
    fn field(&self, _: &str) -> Option<PatchField> {
        Some(PatchField { child: child(&self.0), ..PatchField::default() })
    }
}

fn child(kind: &Type) -> Option<Arc<dyn PatchSchema>> {
    match kind {
        Type::Object(name) => types::named(name).map(|kind| Arc::new(Fields(kind)) as Arc<dyn PatchSchema>),
        Type::List(items) => child(items),
        Type::Map(values) => Some(Arc::new(Values((**values).clone()))),
        _ => None,
    }
}

fn ownership(fact: Fact) -> Ownership {
    match fact.list_type {
        "atomic" => Ownership::Atomic,
        "set" => Ownership::Set,
        "map" => {
            let keys = fact.map_keys.split(',').map(|key| (Arc::from(key), default_of(key)));
            Ownership::Map(keys.collect())
        }
        _ => Ownership::Default,
    }
}

/// The default of a field that is a key of list elements: an element may leave it out.
fn default_of(key: &str) -> Option<serde_json::Value> {
    (key == "protocol").then(|| "TCP".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_know_their_merge_keys_all_the_way_down() {
        let deployment = patch_schema("apps", "v1", "Deployment").unwrap();
        let down = |schema: &Arc<dyn PatchSchema>, name: &str| schema.field(name).unwrap().child.unwrap();
        let pod = down(&down(&down(&deployment, "spec"), "template"), "spec");
        let containers = pod.field("containers").unwrap();
        assert!(containers.merge);
        assert_eq!(containers.merge_key.as_deref(), Some("name"));
        let env = containers.child.unwrap().field("env").unwrap();
        assert_eq!(env.merge_key.as_deref(), Some("name"));
        assert!(!pod.field("tolerations").unwrap().merge);
        assert_eq!(pod.field("tolerations").unwrap().ownership, Ownership::Atomic);
        assert!(pod.field("unheard-of").is_none());
        let labels = down(&down(&deployment, "metadata"), "labels");
        assert!(labels.field("any.example.com/key").is_some());
    }
}
