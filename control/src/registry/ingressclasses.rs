//! Ingress classes: which program serves which ingresses.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, fields};

pub(super) fn row() -> Resource {
    Row::cluster("networking.k8s.io", "v1", "IngressClass", "ingressclasses")
        .columns(vec![
            name(),
            text("Controller", "The program.", |object| fields::text(object, "/spec/controller").to_owned()),
            text("Parameters", "Its settings.", |object| {
                let part =
                    |field: &str| fields::text(object, &format!("/spec/parameters/{field}")).to_owned();
                match (part("apiGroup"), part("kind")) {
                    (_, kind) if kind.is_empty() => cells::NONE.to_owned(),
                    (group, kind) if group.is_empty() => format!("{kind}/{}", part("name")),
                    (group, kind) => format!("{kind}.{group}/{}", part("name")),
                }
            }),
            age(),
        ])
        .rules(Rules { has_generation: true, ..Rules::NONE })
        .done()
}
