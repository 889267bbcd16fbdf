//! Files that a volume is made of: keys of config maps and secrets, fields of the pod, tokens, alone or put together.

use super::faults::Faults;
use super::{container_inputs, fields, validation};
use knarr_api::names;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Seconds that a token in a volume is good for at least.
const SHORTEST_TOKEN: i64 = 600;
const LONGEST_TOKEN: i64 = 1 << 32;
const SOURCES: [&str; 5] =
    ["configMap", "downwardAPI", "secret", "serviceAccountToken", "clusterTrustBundle"];

/// Keys and the files that they become.
pub(super) fn items(source: &Value, path: &str, faults: &mut Faults) {
    for (index, item) in fields::list(source, "/items").iter().enumerate() {
        let path = format!("{path}.items[{index}]");
        if fields::text(item, "/key").is_empty() {
            faults.required(format!("{path}.key"), "");
        }
        file(fields::text(item, "/path"), &format!("{path}.path"), faults);
        mode(item, "mode", &path, faults);
    }
}

/// Permission bits of a file.
pub(super) fn mode(source: &Value, name: &str, path: &str, faults: &mut Faults) {
    if let Some(mode) = fields::int(source, &format!("/{name}")).filter(|mode| !(0..=0o777).contains(mode)) {
        let detail = "must be a number between 0 and 0777 (octal), both inclusive";
        faults.invalid(format!("{path}.{name}"), &json!(mode), detail);
    }
}

fn file(text: &str, field: &str, faults: &mut Faults) {
    if text.is_empty() {
        faults.required(field, "");
        return;
    }
    container_inputs::descending(text, field, faults);
    // Names that start so are the node's own: by them a change of all files is one step.
    if text.starts_with("..") && !text.starts_with("../") {
        faults.invalid(field, &json!(text), "must not start with '..'");
    }
}

/// Fields of the pod as files. Kubernetes leaves out the index of the item.
pub(super) fn fields_of_pod(source: &Value, path: &str, faults: &mut Faults) {
    for item in fields::list(source, "/items") {
        file(fields::text(item, "/path"), &format!("{path}.path"), faults);
        match (item.get("fieldRef"), item.get("resourceFieldRef")) {
            (Some(_), Some(_)) => {
                faults.invalid(
                    path,
                    &json!("resource"),
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
            (Some(reference), None) => {
                let allowed = &container_inputs::FOR_FILES;
                container_inputs::field_reference(reference, allowed, &format!("{path}.fieldRef"), faults);
            }
            (None, Some(reference)) => {
                let path = format!("{path}.resourceFieldRef");
                container_inputs::amount_reference(reference, true, &path, faults);
            }
            (None, None) => faults.required(path, "one of fieldRef and resourceFieldRef is required"),
        }
        mode(item, "mode", path, faults);
    }
}

/// Several sources in one directory.
pub(super) fn projected(volume: &Value, path: &str, faults: &mut Faults) {
    let mut taken = BTreeSet::new();
    for (index, source) in fields::list(volume, "/sources").iter().enumerate() {
        let place = format!("{path}.sources[{index}]");
        for kind in ["secret", "configMap"] {
            let Some(found) = source.get(kind) else { continue };
            let path = format!("{place}.{kind}");
            let name = fields::text(found, "/name");
            validation::required_name(&format!("{path}.name"), name, names::dns1123_subdomain, faults);
            items(found, &path, faults);
        }
        if let Some(found) = source.get("downwardAPI") {
            fields_of_pod(found, &format!("{place}.downwardAPI"), faults);
        }
        if let Some(token) = source.get("serviceAccountToken") {
            token_of(token, path, &format!("{place}.serviceAccountToken"), faults);
        }
        if SOURCES.iter().filter(|kind| source.get(**kind).is_some()).count() > 1 {
            faults.forbidden(place, "may not specify more than 1 volume type per source");
        }
        for (owner, file) in files_of(source) {
            if !taken.insert(file) {
                faults.invalid(path, &json!(owner), "conflicting duplicate paths");
            }
        }
    }
}

/// The files that a source names, each with the name of what it comes from.
fn files_of(source: &Value) -> Vec<(&str, &str)> {
    let mut files = Vec::new();
    for kind in ["secret", "configMap", "downwardAPI"] {
        let Some(found) = source.get(kind) else { continue };
        let owner = fields::text(found, "/name");
        files.extend(fields::list(found, "/items").iter().map(|item| (owner, fields::text(item, "/path"))));
    }
    if let Some(token) = source.get("serviceAccountToken") {
        files.push(("", fields::text(token, "/path")));
    }
    files.retain(|(_, file)| !file.is_empty());
    files
}

fn token_of(token: &Value, volume: &str, path: &str, faults: &mut Faults) {
    let seconds = fields::int(token, "/expirationSeconds").unwrap_or(SHORTEST_TOKEN);
    let field = format!("{path}.expirationSeconds");
    if seconds < SHORTEST_TOKEN {
        faults.invalid(field.as_str(), &json!(seconds), "may not specify a duration less than 10 minutes");
    }
    if seconds > LONGEST_TOKEN {
        faults.invalid(field, &json!(seconds), "may not specify a duration larger than 2^32 seconds");
    }
    file(fields::text(token, "/path"), &format!("{volume}.path"), faults);
}
