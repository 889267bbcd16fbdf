//! Volume attachments: which volume is plugged into which node.

use super::columns::{age, name, text};
use super::row::Row;
use super::{Resource, fields};

pub(super) fn row() -> Resource {
    Row::cluster("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments")
        .status()
        .columns(vec![
            name(),
            text("Attacher", "Who plugs it in.", |object| fields::text(object, "/spec/attacher").to_owned()),
            text("PV", "The volume.", |object| {
                fields::text(object, "/spec/source/persistentVolumeName").to_owned()
            }),
            text("Node", "The node.", |object| fields::text(object, "/spec/nodeName").to_owned()),
            text("Attached", "Whether it is done.", |object| {
                fields::flag(object, "/status/attached").to_string()
            }),
            age(),
        ])
        .done()
}
