//! Pod templates as objects of their own, for whoever makes pods from them.

use super::columns::{name, text};
use super::row::Row;
use super::rules::Rules;
use super::{Resource, cells, fields, pod_spec};

pub(super) fn row() -> Resource {
    Row::namespaced("", "v1", "PodTemplate", "podtemplates")
        .columns(vec![
            name(),
            text("Containers", "Names of the containers.", |object| {
                cells::container_fields(object, "/template/spec", "name")
            }),
            text("Images", "Images of the containers.", |object| {
                cells::container_fields(object, "/template/spec", "image")
            }),
            text("Pod Labels", "Labels of its pods.", |object| {
                cells::labels(object, "/template/metadata/labels")
            }),
        ])
        .rules(Rules {
            has_generation: true,
            defaults: |object| {
                if let Some(spec) =
                    object.get_mut("template").and_then(|template| fields::child(template, "spec"))
                {
                    pod_spec::template_defaults(spec);
                }
            },
            ..Rules::NONE
        })
        .done()
}
