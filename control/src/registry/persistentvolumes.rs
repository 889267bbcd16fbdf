//! Persistent volumes: disks of the cluster.

use super::columns::{age, name, text};
use super::row::Row;
use super::rules::Rules;
use super::{
    Resource, amount_status_rules, cells, faults::Faults, fields, node_affinity, resources, validation,
    volume_sources, warnings,
};
use knarr_api::names;
use serde_json::{Value, json};

pub(super) const ACCESS_MODES: [&str; 4] =
    ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

const SOURCES: [&str; 22] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "hostPath",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "flocker",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

pub(super) fn row() -> Resource {
    Row::cluster("", "v1", "PersistentVolume", "persistentvolumes")
        .short(&["pv"])
        .status()
        .columns(vec![
            name(),
            text("Capacity", "How large it is.", |object| {
                cells::int_or_text(object, "/spec/capacity/storage", "0")
            }),
            text("Access Modes", "How it may be mounted.", |object| {
                cells::access_modes(object, "/spec/accessModes")
            }),
            text("Reclaim Policy", "What becomes of it when its claim goes.", |object| {
                fields::text(object, "/spec/persistentVolumeReclaimPolicy").to_owned()
            }),
            text("Status", "Whether it is in use.", phase),
            text("Claim", "Who has it.", |object| {
                let claim = |field: &str| fields::text(object, &format!("/spec/claimRef/{field}")).to_owned();
                if object.pointer("/spec/claimRef").is_some() {
                    format!("{}/{}", claim("namespace"), claim("name"))
                } else {
                    String::new()
                }
            }),
            text("StorageClass", "Its class.", |object| {
                fields::text(object, "/spec/storageClassName").to_owned()
            }),
            text("VolumeAttributesClass", "Its class of attributes.", |object| {
                cells::int_or_text(object, "/spec/volumeAttributesClassName", "<unset>")
            }),
            text("Reason", "Why it is in this state.", |object| {
                fields::text(object, "/status/reason").to_owned()
            }),
            age(),
            text("VolumeMode", "Files or raw blocks.", |object| {
                cells::int_or_text(object, "/spec/volumeMode", "<unset>")
            })
            .wide(),
        ])
        .rules(Rules {
            defaults,
            on_create,
            on_status_update: amount_status_rules::stamp_phase,
            validate,
            validate_update,
            warnings: warn,
            ..Rules::NONE
        })
        .done()
}

/// The phase of a volume or claim, or that it is going away.
pub(super) fn phase(object: &Value) -> String {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return "Terminating".to_owned();
    }
    fields::text(object, "/status/phase").to_owned()
}

fn defaults(object: &mut Value) {
    let Some(spec) = fields::child(object, "spec") else { return };
    fields::fill_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    fields::fill_text(spec, "volumeMode", "Filesystem");
    if let Some(host) = spec.get_mut("hostPath") {
        fields::fill(host, "type", "");
    }
}

fn on_create(object: &mut Value) {
    fields::set(
        object,
        "status",
        json!({"phase": "Pending", "lastPhaseTransitionTime": amount_status_rules::now()}),
    );
}

fn validate(object: &Value, faults: &mut Faults) {
    modes(object, "spec", "", faults);
    capacity(object, faults);
    let policy = fields::text(object, "/spec/persistentVolumeReclaimPolicy");
    let field = "spec.persistentVolumeReclaimPolicy";
    validation::optional_choice(field, policy, &["Delete", "Recycle", "Retain"], faults);
    let affinity = object.pointer("/spec/nodeAffinity");
    if let Some(affinity) = affinity {
        let path = "spec.nodeAffinity.required";
        match affinity.get("required") {
            Some(required) => node_affinity::selector(required, path, faults),
            None => faults.required(path, "must specify required node constraints"),
        }
    }
    source(object, faults);
    if policy == "Recycle" && fields::text(object, "/spec/hostPath/path") == "/" {
        faults.forbidden(field, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let class = fields::text(object, "/spec/storageClassName");
    validation::optional_name("spec.storageClassName", class, names::dns1123_subdomain, faults);
    validation::one_of(object, "spec.volumeMode", &["Block", "Filesystem"], faults);
    if let Some(class) = object.pointer("/spec/volumeAttributesClassName").and_then(Value::as_str) {
        if class.is_empty() {
            faults.required("spec.volumeAttributesClassName", "an empty string is disallowed");
        }
        if object.pointer("/spec/csi").is_none() {
            faults.required("spec.csi", "has to be specified when using volumeAttributesClassName");
        }
    }
}

fn capacity(object: &Value, faults: &mut Faults) {
    let capacity = object.pointer("/spec/capacity").unwrap_or(&Value::Null);
    if fields::pairs(object, "/spec/capacity").next().is_none() {
        faults.required("spec.capacity", "");
    }
    match capacity.get("storage") {
        Some(_) if fields::pairs(object, "/spec/capacity").count() == 1 => {}
        _ => faults.not_supported_value("spec.capacity", capacity, &["storage"]),
    }
    for (name, amount) in fields::pairs(object, "/spec/capacity") {
        resources::more_than_nothing(&format!("spec.capacity[{name}]"), amount, faults);
    }
}

/// One source, and what it needs.
fn source(object: &Value, faults: &mut Faults) {
    let Some(spec) = object.get("spec") else { return };
    let mut given = SOURCES.iter().filter(|source| spec.get(**source).is_some());
    if given.next().is_none() {
        faults.required("spec", "must specify a volume type");
    }
    for more in given {
        faults.forbidden(format!("spec.{more}"), "may not specify more than 1 volume type");
    }
    volume_sources::validate(spec, "spec", faults);
    if let Some(local) = spec.get("local") {
        volume_sources::needed(local, &["path"], "spec.local", faults);
        volume_sources::without_climbing(fields::text(local, "/path"), "spec.local.path", faults);
        if spec.get("nodeAffinity").is_none() {
            faults.required("spec.nodeAffinity", "Local volume requires node affinity");
        }
    }
    if let Some(csi) = spec.get("csi") {
        volume_sources::driver(fields::text(csi, "/driver"), "spec.csi.driver", faults);
        volume_sources::needed(csi, &["volumeHandle"], "spec.csi", faults);
    }
    if let Some(fc) = spec.get("fc") {
        let given = |list: &str| !fields::list(fc, list).is_empty();
        if given("/targetWWNs") == given("/wwids") {
            faults.required("spec.fc.targetWWNs", "must specify either targetWWNs or wwids, but not both");
        }
    }
}

fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    let sources = |volume: &Value| -> Vec<Option<Value>> {
        SOURCES.iter().map(|source| volume.pointer(&format!("/spec/{source}")).cloned()).collect()
    };
    if sources(new) != sources(old) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        faults.forbidden("spec.persistentvolumesource", detail);
    }
    let part = |volume: &Value, field: &str| volume.pointer(&format!("/spec/{field}")).cloned();
    if part(new, "volumeMode") != part(old, "volumeMode") {
        faults.immutable("volumeMode", &part(new, "volumeMode").unwrap_or(Value::Null));
    }
    let affinity = part(old, "nodeAffinity");
    if affinity.is_some() && part(new, "nodeAffinity") != affinity {
        let shown = part(new, "nodeAffinity").unwrap_or(Value::Null);
        let detail = "field is immutable, except for updating from beta label to GA";
        faults.invalid("nodeAffinity", &shown, detail);
    }
}

/// At least one access mode, and none that does not exist; also of claims, whose specification is told as that at `path`.
pub(super) fn modes(object: &Value, path: &str, when_absent: &str, faults: &mut Faults) {
    let (modes, field) = (fields::list(object, "/spec/accessModes"), format!("{path}.accessModes"));
    if modes.is_empty() {
        faults.required(field.as_str(), when_absent);
    }
    for mode in modes.iter().filter_map(Value::as_str).filter(|mode| !ACCESS_MODES.contains(mode)) {
        faults.not_supported(field.as_str(), mode, &ACCESS_MODES);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        faults.forbidden(field, "may not use ReadWriteOncePod with other access modes");
    }
}

fn warn(object: &Value) -> Vec<String> {
    let class = "volume.beta.kubernetes.io/storage-class";
    let words = "deprecated since v1.8; use \"storageClassName\" attribute instead";
    let mut found: Vec<String> = warnings::of_annotation(object, class, words).into_iter().collect();
    if fields::text(object, "/spec/persistentVolumeReclaimPolicy") == "Recycle" {
        let words = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.";
        found.push(format!("spec.persistentVolumeReclaimPolicy: {words}"));
    }
    if let Some(selector) = object.pointer("/spec/nodeAffinity/required") {
        found.extend(warnings::of_node_selector(selector, "spec.nodeAffinity.required"));
    }
    found
}
