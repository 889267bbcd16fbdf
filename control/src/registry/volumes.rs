//! Volumes of a pod: defaults and rules.

use super::faults::Faults;
use super::{fields, validation};
use serde_json::{Value, json};
use std::collections::BTreeSet;

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

/// Every fault of the volumes of a pod specification; the names that mounts may use.
pub(super) fn validate(spec: &Value, path: &str, faults: &mut Faults) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (index, volume) in fields::list(spec, "/volumes").iter().enumerate() {
        let path = format!("{path}.volumes[{index}]");
        let name = fields::text(volume, "/name");
        match name {
            "" => faults.required(format!("{path}.name"), ""),
            name => validation::dns_label(&format!("{path}.name"), name, faults),
        }
        if !name.is_empty() && !names.insert(name.to_owned()) {
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
    let needed = [
        ("hostPath", "path"),
        ("secret", "secretName"),
        ("configMap", "name"),
        ("persistentVolumeClaim", "claimName"),
        ("nfs", "server"),
    ];
    for (kind, field) in needed {
        let Some(source) = volume.get(kind) else { continue };
        if fields::text(source, &format!("/{field}")).is_empty() {
            faults.required(format!("{path}.{kind}.{field}"), "");
        }
    }
    for kind in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(mode) =
            fields::int(volume, &format!("/{kind}/defaultMode")).filter(|mode| !(0..=0o777).contains(mode))
        {
            let detail = "must be a number between 0 and 0777 (octal), both inclusive";
            faults.invalid(format!("{path}.{kind}.defaultMode"), &json!(mode), detail);
        }
    }
    let host = fields::text(volume, "/hostPath/path");
    if host.split('/').any(|part| part == "..") {
        faults.invalid(format!("{path}.hostPath.path"), &json!(host), "must not contain '..'");
    }
}
