//! What the expressions of a policy can use, and what is known of it.

use super::{Kind, Scope, Shape};
use crate::schema::types;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `object` and all that comes with it; `params` where the policy takes some, `variables` where they can be used.
pub(crate) fn scope(
    object: Kind,
    params: Option<&Kind>,
    variables: Option<&BTreeMap<String, Kind>>,
) -> Scope {
    // Brings in the types that all kinds share.
    let namespace = types::of_kind("", "v1", "Namespace");
    let namespace = namespace.map_or(Kind::Any, |known| Kind::Object(Shape::Known(known)));
    let mut scope = Scope::default()
        .with("object", object.clone())
        .with("oldObject", object)
        .with("request", request())
        .with("namespaceObject", namespace)
        .with("authorizer", Kind::Any);
    if let Some(params) = params {
        scope = scope.with("params", params.clone());
    }
    if let Some(variables) = variables {
        scope = scope.with("variables", Kind::Object(Shape::Named(Arc::new(variables.clone()))));
    }
    scope
}

/// What is known of the request itself.
fn request() -> Kind {
    let texts = |names: &[&str]| {
        let pair = |name: &&str| ((*name).to_owned(), Kind::Text);
        Kind::Object(Shape::Named(Arc::new(names.iter().map(pair).collect())))
    };
    let (kind, resource) = (texts(&["group", "version", "kind"]), texts(&["group", "version", "resource"]));
    let list = || Kind::List(Box::new(Kind::Text));
    let user = [
        ("username", Kind::Text),
        ("uid", Kind::Text),
        ("groups", list()),
        ("extra", Kind::Map(Box::new(list()))),
    ];
    let user = Shape::Named(Arc::new(user.map(|(name, kind)| (name.to_owned(), kind)).into()));
    let all = [
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("subResource", Kind::Text),
        ("requestKind", kind),
        ("requestResource", resource),
        ("requestSubResource", Kind::Text),
        ("name", Kind::Text),
        ("namespace", Kind::Text),
        ("operation", Kind::Text),
        ("userInfo", Kind::Object(user)),
        ("dryRun", Kind::Bool),
        ("options", Kind::Any),
    ];
    Kind::Object(Shape::Named(Arc::new(all.map(|(name, kind)| (name.to_owned(), kind)).into())))
}
