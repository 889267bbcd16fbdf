//! Where the bytes of a volume are, in pods and in persistent volumes alike: what every kind of source needs to say.

use super::faults::Faults;
use super::fields;
use knarr_api::names;
use serde_json::{Value, json};

const HOST_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
/// As long as the name of a driver may be, bytes.
const MAX_DRIVER: usize = 63;

/// Every fault of the sources that volumes of both sorts know.
pub(super) fn validate(volume: &Value, path: &str, faults: &mut Faults) {
    if let Some(host) = volume.get("hostPath") {
        host_path(host, &format!("{path}.hostPath"), faults);
    }
    if let Some(nfs) = volume.get("nfs") {
        needed(nfs, &["server"], &format!("{path}.nfs"), faults);
        match fields::text(nfs, "/path") {
            "" => faults.required(format!("{path}.nfs.path"), ""),
            place if !place.starts_with('/') => {
                faults.invalid(format!("{path}.nfs.path"), &json!(place), "must be an absolute path");
            }
            _ => {}
        }
    }
    if let Some(iscsi) = volume.get("iscsi") {
        block_device(iscsi, &format!("{path}.iscsi"), faults);
    }
}

/// A path of the node; one that climbs is refused, since what it means depends on links.
pub(super) fn host_path(host: &Value, path: &str, faults: &mut Faults) {
    needed(host, &["path"], path, faults);
    without_climbing(fields::text(host, "/path"), &format!("{path}.path"), faults);
    let kind = fields::text(host, "/type");
    if !HOST_TYPES.contains(&kind) {
        faults.not_supported(format!("{path}.type"), kind, &HOST_TYPES);
    }
}

/// A path without `..`.
pub(super) fn without_climbing(text: &str, field: &str, faults: &mut Faults) {
    if text.split('/').any(|part| part == "..") {
        faults.invalid(field, &json!(text), "must not contain '..'");
    }
}

/// The name of a storage driver.
pub(super) fn driver(text: &str, field: &str, faults: &mut Faults) {
    if text.is_empty() {
        faults.required(field, "");
        return;
    }
    if text.len() > MAX_DRIVER {
        faults.too_long(field, MAX_DRIVER);
    }
    for detail in names::dns1123_subdomain(&text.to_lowercase()) {
        faults.invalid(field, &json!(text), &detail);
    }
}

/// Fields that a source cannot do without.
pub(super) fn needed(source: &Value, required: &[&str], path: &str, faults: &mut Faults) {
    for field in required.iter().filter(|field| fields::text(source, &format!("/{field}")).is_empty()) {
        faults.required(format!("{path}.{field}"), "");
    }
}

fn block_device(iscsi: &Value, path: &str, faults: &mut Faults) {
    needed(iscsi, &["targetPortal", "iqn"], path, faults);
    let name = fields::text(iscsi, "/iqn");
    let known = ["iqn.", "eui.", "naa."].iter().any(|start| name.starts_with(start));
    if !name.is_empty() && !known {
        faults.invalid(format!("{path}.iqn"), &json!(name), "must be valid format");
    }
    let unit = fields::int(iscsi, "/lun").unwrap_or(0);
    if !(0..=255).contains(&unit) {
        faults.invalid(format!("{path}.lun"), &json!(unit), "must be between 0 and 255, inclusive");
    }
}
