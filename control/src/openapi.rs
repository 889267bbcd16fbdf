//! OpenAPI documents: what kinds look like, for people (`kubectl explain`) and for clients that check before they send.
//!
//! There is one document per group version (OpenAPI 3), and one of everything (OpenAPI 2) for older clients. A document is large (the descriptions of a whole group) and rarely asked
//! for, so it is made when somebody asks and only the encoded bytes of the last few are kept. Its hash says what it was
//! made from, not what it contains: the index names every hash, and must not cost making every document.

mod definitions;
mod gnostic;
mod json;
mod parameters;
mod paths;
mod v2;

use crate::aggregation::openapi::Foreign;
use crate::registry::{Resource, Table};
use crate::schema::kinds;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

/// As many encoded documents are kept; kubectl asks for one or two again and again.
const KEPT: usize = 3;

const TITLE: &str = "Kubernetes";
/// Of the API that the documents describe.
const VERSION: &str = "v1.33.0";

/// Makes the documents and keeps the last few.
#[derive(Debug, Default)]
pub struct Documents {
    /// Path, hash and bytes, last used last. Never held across an await: making a document is plain computing.
    kept: Mutex<Vec<(String, String, Bytes)>>,
}

impl Documents {
    /// `GET /openapi/v3`: where each document is, with its hash.
    pub fn v3_index(&self, table: &Table) -> Value {
        let rows = table.all();
        let versions: BTreeSet<(&str, &str)> =
            rows.iter().map(|row| (row.group.as_ref(), row.version.as_ref())).collect();
        let paths: Map<String, Value> = versions
            .into_iter()
            .map(|(group, version)| {
                let path = document_path(group, version);
                let hash = hash(&rows_of(&rows, group, version));
                let url = format!("/openapi/v3/{path}?hash={hash}");
                (path, json!({"serverRelativeURL": url}))
            })
            .collect();
        json!({"paths": paths})
    }

    /// `GET /openapi/v3/PATH`, PATH being `api/v1` or `apis/GROUP/VERSION`: the encoded document.
    ///
    /// # Errors
    /// That of the encoder; `None` for a group version that nobody serves.
    pub fn v3_document(&self, table: &Table, path: &str) -> serde_json::Result<Option<Bytes>> {
        let Some((group, version)) = group_version(path) else { return Ok(None) };
        let rows = rows_of(&table.all(), group, version);
        if rows.is_empty() {
            return Ok(None);
        }
        let hash = hash(&rows);
        if let Some(found) = self.take(path, &hash) {
            return Ok(Some(found));
        }
        let mut document = json::Document::v3();
        write(&rows, &mut document)?;
        let bytes = Bytes::from(document.finish());
        self.keep(path, hash, bytes.clone());
        Ok(Some(bytes))
    }

    /// `GET /openapi/v2`: everything in one document, as JSON or as the protobuf message of the same content.
    ///
    /// # Errors
    /// That of the encoder.
    pub(crate) fn v2_document(
        &self,
        table: &Table,
        foreign: &[Foreign],
        protobuf: bool,
    ) -> serde_json::Result<Bytes> {
        let mut rows = table.all();
        rows.retain(|row| {
            let prefix = format!("/{}/", document_path(&row.group, &row.version));
            !foreign.iter().any(|foreign| foreign.prefixes.contains(&prefix))
        });
        let mut hash = hash(&rows);
        foreign.iter().for_each(|foreign| hash.push_str(&format!("{:?}", foreign.digest)));
        let path = if protobuf { "v2 protobuf" } else { "v2" };
        if let Some(found) = self.take(path, &hash) {
            return Ok(found);
        }
        let bytes = if protobuf {
            let mut document = gnostic::Document::default();
            write_all(&rows, foreign, &mut document)?;
            Bytes::from(document.finish())
        } else {
            let mut document = json::Document::v2();
            write_all(&rows, foreign, &mut document)?;
            Bytes::from(document.finish())
        };
        self.keep(path, hash, bytes.clone());
        Ok(bytes)
    }

    fn take(&self, path: &str, hash: &str) -> Option<Bytes> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, of, _)| known == path && of == hash)?;
        let entry = kept.remove(at);
        let bytes = entry.2.clone();
        kept.push(entry);
        Some(bytes)
    }

    fn keep(&self, path: &str, hash: String, bytes: Bytes) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(known, ..)| known != path);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((path.to_owned(), hash, bytes));
    }
}

/// `api/v1`, `apis/apps/v1`
fn document_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn group_version(path: &str) -> Option<(&str, &str)> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    }
}

fn rows_of(rows: &[Arc<Resource>], group: &str, version: &str) -> Vec<Arc<Resource>> {
    rows.iter().filter(|row| row.group == group && row.version == version).cloned().collect()
}

/// Of all that a document is made from: this program and the rows.
fn hash(rows: &[Arc<Resource>]) -> String {
    let mut sum = Sha256::new();
    sum.update(env!("CARGO_PKG_VERSION"));
    for row in rows {
        sum.update(format!("{:?}{:?}{:?}{:?}", row.plural, row.kind, row.namespaced, row.subresources));
        if let Some(schema) = &row.schema {
            sum.update(schema.to_string());
        }
    }
    sum.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

/// A document under construction: definitions and paths come one by one, so that never more than the closure of one
/// kind is in memory besides the encoded document.
trait Sink {
    fn definition(&mut self, name: &str, schema: Value) -> serde_json::Result<()>;
    fn path(&mut self, path: &str, item: Value) -> serde_json::Result<()>;
    /// A path as it stands in a document of the second version.
    fn ready_path(&mut self, path: &str, item: &Value) -> serde_json::Result<()>;
}

/// Our own and what others serve; a definition that both have is ours.
fn write_all(rows: &[Arc<Resource>], foreign: &[Foreign], sink: &mut impl Sink) -> serde_json::Result<()> {
    let mut written = write(rows, sink)?;
    let entries = |value: &'_ Value| value.as_object().cloned().unwrap_or_default();
    for Foreign { prefixes, document, .. } in foreign {
        for (name, schema) in entries(&document["definitions"]) {
            if written.insert(name.clone()) {
                sink.definition(&name, schema)?;
            }
        }
        let own = |path: &str| prefixes.iter().any(|prefix| path.starts_with(prefix.as_str()));
        for (path, item) in entries(&document["paths"]).iter().filter(|(path, _)| own(path)) {
            sink.ready_path(path, item)?;
        }
    }
    Ok(())
}

/// Gives the names of all definitions.
fn write(rows: &[Arc<Resource>], sink: &mut impl Sink) -> serde_json::Result<BTreeSet<String>> {
    let kinds: Vec<&kinds::Kind> = described_kinds(rows)
        .into_iter()
        .filter_map(|(group, version, kind)| kinds::find(group, version, kind))
        .collect();
    let names = definitions::Names::of(&kinds);
    let mut written = BTreeSet::new();
    for kind in kinds {
        for (name, schema) in kind.definitions() {
            if written.insert(name.clone()) {
                sink.definition(&name, definitions::publish(&name, schema, &names))?;
            }
        }
    }
    if rows.iter().any(|row| row.schema.is_some()) {
        metadata(&mut written, &names, sink)?;
    }
    for row in rows {
        let more = [definitions::custom(row, &written), definitions::list(row)];
        for (name, schema) in more.into_iter().flatten() {
            // Some lists have been described with the kinds of their group.
            if written.insert(name.clone()) {
                sink.definition(&name, schema)?;
            }
        }
    }
    for row in rows {
        for (path, item) in paths::of(row) {
            sink.path(&path, item)?;
        }
    }
    Ok(written)
}

/// The type of every object's metadata, which custom resources do not bring along.
fn metadata(
    written: &mut BTreeSet<String>,
    names: &definitions::Names,
    sink: &mut impl Sink,
) -> serde_json::Result<()> {
    let any = kinds::find("", "v1", "ConfigMap").map(kinds::Kind::definitions).unwrap_or_default();
    let general = any.into_iter().filter(|(name, _)| name.starts_with("io.k8s.apimachinery."));
    for (name, schema) in general {
        if written.insert(name.clone()) {
            sink.definition(&name, definitions::publish(&name, schema, names))?;
        }
    }
    Ok(())
}

/// The kinds of rows and of the bodies of their subresources.
fn described_kinds(rows: &[Arc<Resource>]) -> BTreeSet<(&str, &str, &str)> {
    let own = rows.iter().map(|row| (row.group.as_ref(), row.version.as_ref(), row.kind.as_ref()));
    let bodies = rows
        .iter()
        .flat_map(|row| row.subresources.iter().filter_map(|subresource| subresource.body.as_ref()));
    let bodies = bodies.map(|(group, version, kind)| (group.as_ref(), version.as_ref(), kind.as_ref()));
    own.chain(bodies).chain([("meta.k8s.io", "v1", "DeleteOptions")]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(path: &str) -> Value {
        let bytes = Documents::default().v3_document(&Table::builtin(), path).unwrap().unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn the_index_leads_to_every_document() {
        let (table, documents) = (Table::builtin(), Documents::default());
        let index = documents.v3_index(&table);
        for (path, entry) in index["paths"].as_object().unwrap() {
            let url = entry["serverRelativeURL"].as_str().unwrap();
            assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")));
            assert!(documents.v3_document(&table, path).unwrap().is_some(), "{path}");
        }
        assert!(documents.v3_document(&table, "apis/nowhere/v1").unwrap().is_none());
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for path in ["api/v1", "apis/apps/v1", "apis/events.k8s.io/v1"] {
            let document = made(path);
            let mut references = Vec::new();
            collect(&document, &mut references);
            assert!(!references.is_empty());
            for reference in references {
                let name = reference.strip_prefix("#/components/schemas/").unwrap();
                assert!(document["components"]["schemas"].get(name).is_some(), "{path}: {name}");
            }
        }
    }

    #[test]
    fn the_older_form_refers_to_its_own_definitions() {
        let bytes = Documents::default().v2_document(&Table::builtin(), &[], false).unwrap();
        let document: Value = serde_json::from_slice(&bytes).unwrap();
        let mut references = Vec::new();
        collect(&document, &mut references);
        for reference in references {
            let name = reference.strip_prefix("#/definitions/").unwrap();
            assert!(document["definitions"].get(name).is_some(), "{name}");
        }
        let spec = &document["definitions"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
        assert_eq!(spec["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
        assert!(spec.get("allOf").is_none());
    }

    #[test]
    fn every_definition_is_there_once() {
        let bytes = Documents::default().v2_document(&Table::builtin(), &[], false).unwrap();
        assert_eq!(crate::schema::duplicate_fields(&bytes), Vec::<String>::new());
    }

    fn collect(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| collect(value, references));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
            _ => {}
        }
    }

    #[test]
    fn documents_say_what_kubectl_asks() {
        let core = made("api/v1");
        let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(
            patch["x-kubernetes-group-version-kind"],
            json!({"group": "", "version": "v1", "kind": "Pod"})
        );
        let parameters = patch["parameters"].as_array().unwrap();
        assert!(parameters.iter().any(|parameter| parameter["name"] == "fieldValidation"));
        let schemas = &core["components"]["schemas"];
        let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
        assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
        assert!(containers["description"].as_str().is_some_and(|text| !text.is_empty()));
        assert!(schemas["io.k8s.api.core.v1.PodList"]["properties"]["items"].is_object());
        assert!(schemas["io.k8s.api.policy.v1.Eviction"]["x-kubernetes-group-version-kind"].is_array());
    }
}
