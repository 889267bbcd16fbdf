//! Volumes of a pod: defaults and rules.

use super::faults::Faults;
use super::{fields, persistentvolumeclaims, resources, validation, volume_files, volume_sources};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// 0644, as JSON knows no octal.
const FILE_MODE: i64 = 0o644;

/// The documented defaults of one volume.
pub(super) fn defaults(volume: &mut Value) {
    if volume.as_object().is_some_and(|volume| volume.keys().all(|key| key == "name")) {
        fields::set(volume, "emptyDir", json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = volume.get_mut(source) {
            fields::fill(source, "defaultMode", FILE_MODE);
        }
    }
    if let Some(source) = volume.get_mut("hostPath") {
        fields::fill(source, "type", "");
    }
    if let Some(source) = volume.get_mut("downwardAPI") {
        field_references(source);
    }
    if let Some(projected) = volume.get_mut("projected") {
        for source in fields::each(projected, "sources") {
            if let Some(token) = source.get_mut("serviceAccountToken") {
                fields::fill(token, "expirationSeconds", 3600);
            }
            if let Some(downward) = source.get_mut("downwardAPI") {
                field_references(downward);
            }
        }
    }
    if let Some(claim) = volume.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        fields::fill_text(claim, "volumeMode", "Filesystem");
    }
}

fn field_references(source: &mut Value) {
    for item in fields::each(source, "items") {
        if let Some(reference) = item.get_mut("fieldRef") {
            fields::fill_text(reference, "apiVersion", "v1");
        }
    }
}

/// The volumes that containers may use by their names, and whether each is a claim's.
pub(super) type Volumes = BTreeMap<String, bool>;

/// Every fault of the volumes of a pod specification; those that containers may use.
pub(super) fn validate(spec: &Value, path: &str, faults: &mut Faults) -> Volumes {
    let mut names = Volumes::new();
    for (index, volume) in fields::list(spec, "/volumes").iter().enumerate() {
        let path = format!("{path}.volumes[{index}]");
        let name = fields::text(volume, "/name");
        match name {
            "" => faults.required(format!("{path}.name"), ""),
            name => validation::dns_label(&format!("{path}.name"), name, faults),
        }
        let of_claim = ["persistentVolumeClaim", "ephemeral"].iter().any(|kind| volume.get(kind).is_some());
        if !name.is_empty() && names.insert(name.to_owned(), of_claim).is_some() {
            faults.duplicate(format!("{path}.name"), &json!(name));
        }
        let sources: Vec<&str> = volume
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.as_str())
            .filter(|key| *key != "name")
            .collect();
        match sources.as_slice() {
            [] => faults.required(path.clone(), "must specify a volume type"),
            [_] => {}
            [_, more @ ..] => {
                for source in more {
                    faults.forbidden(format!("{path}.{source}"), "may not specify more than 1 volume type");
                }
            }
        }
        source(volume, &path, faults);
    }
    names
}

fn source(volume: &Value, path: &str, faults: &mut Faults) {
    volume_sources::validate(volume, path, faults);
    for (kind, field) in [
        ("secret", "secretName"),
        ("configMap", "name"),
        ("persistentVolumeClaim", "claimName"),
        ("image", "reference"),
        ("gitRepo", "repository"),
    ] {
        if let Some(source) = volume.get(kind) {
            volume_sources::needed(source, &[field], &format!("{path}.{kind}"), faults);
        }
    }
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        let Some(source) = volume.get(kind) else { continue };
        let path = format!("{path}.{kind}");
        volume_files::mode(source, "defaultMode", &path, faults);
        match kind {
            "downwardAPI" => volume_files::fields_of_pod(source, &path, faults),
            "projected" => volume_files::projected(source, &path, faults),
            _ => volume_files::items(source, &path, faults),
        }
    }
    if let Some(csi) = volume.get("csi") {
        volume_sources::driver(fields::text(csi, "/driver"), &format!("{path}.csi.driver"), faults);
    }
    let pull = fields::text(volume, "/image/pullPolicy");
    let field = format!("{path}.image.pullPolicy");
    validation::optional_choice(&field, pull, &["Always", "IfNotPresent", "Never"], faults);
    let size = volume.pointer("/emptyDir/sizeLimit").and_then(resources::parse);
    if size.is_some_and(|size| size.is_negative()) {
        let detail = "SizeLimit field must be a valid resource quantity";
        faults.forbidden(format!("{path}.emptyDir.sizeLimit"), detail);
    }
    if let Some(ephemeral) = volume.get("ephemeral") {
        let path = format!("{path}.ephemeral.volumeClaimTemplate");
        match ephemeral.get("volumeClaimTemplate") {
            None => faults.required(path, ""),
            Some(claim) => persistentvolumeclaims::validate_spec(claim, &format!("{path}.spec"), faults),
        }
    }
}
