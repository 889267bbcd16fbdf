//! OpenAPI documents of servers behind ours. The third version comes from them as it is, or, where they know only the
//! second, from that; the second is one document for all, so theirs becomes a part of ours.

use super::{Aggregation, Remote};
use crate::server::Server;
use crate::service_target::Service;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::sync::Arc;

const JSON: &str = "application/json";

/// A document of the second version, and what of it counts.
#[derive(Debug)]
pub(crate) struct Foreign {
    /// Where the paths begin that its server serves.
    pub(crate) prefixes: Vec<String>,
    pub(crate) document: Value,
    /// Of the document as it was sent.
    pub(crate) digest: [u8; 32],
}

impl Aggregation {
    /// Adds what others serve to the index of documents of the third version.
    pub(crate) fn add_documents(&self, index: &mut Value) {
        for remote in self.all().values() {
            let path = remote.path().trim_start_matches('/').to_owned();
            let own = || format!("/openapi/v3/{path}?hash={}", remote.service.name);
            let url = remote.told().document.unwrap_or_else(own);
            index["paths"][&path] = json!({"serverRelativeURL": url});
        }
    }

    /// The documents of the second version of all servers that answer.
    pub(crate) async fn documents(&self, server: &Server) -> Vec<Foreign> {
        let remotes: Vec<Arc<Remote>> =
            self.all().values().filter(|remote| remote.is_available()).cloned().collect();
        let mut read: Vec<&Service> = Vec::new();
        let mut found = Vec::new();
        for remote in &remotes {
            if read.contains(&&remote.service) {
                continue;
            }
            read.push(&remote.service);
            let same = remotes.iter().filter(|other| other.service == remote.service);
            let prefixes = same.map(|other| format!("{}/", other.path())).collect();
            match remote.second(server).await {
                Ok((digest, document)) => found.push(Foreign { prefixes, document, digest }),
                Err(why) => tracing::debug!(api_service = remote.name, "OpenAPI: {why}"),
            }
        }
        found
    }
}

impl Remote {
    /// Its document of the third version.
    pub(crate) async fn document(&self, server: &Server) -> Result<Bytes, String> {
        if let Some(path) = self.told().document {
            return self.fetch(server, &path).await;
        }
        let (_, document) = self.second(server).await?;
        Ok(third(document, &format!("{}/", self.path())).to_string().into())
    }

    async fn second(&self, server: &Server) -> Result<([u8; 32], Value), String> {
        let bytes = self.fetch(server, "/openapi/v2").await?;
        let document = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        Ok((Sha256::digest(&bytes).into(), document))
    }

    async fn fetch(&self, server: &Server, path: &str) -> Result<Bytes, String> {
        let targets = self.targets(server).await.map_err(|fault| format!("{fault:?}"))?;
        let target = targets.first().ok_or("no endpoint")?;
        self.read(target, path, JSON).await
    }
}

/// A document of the second version as one of the third, with the paths that begin with `prefix`.
fn third(mut document: Value, prefix: &str) -> Value {
    let mut schemas = document["definitions"].take();
    refer(&mut schemas);
    let paths = match document["paths"].take() {
        Value::Object(paths) => paths.into_iter().filter(|(path, _)| path.starts_with(prefix)).collect(),
        _ => Map::new(),
    };
    let paths: Map<String, Value> = paths.into_iter().map(|(path, item)| (path, path_item(item))).collect();
    json!({"openapi": "3.0.0", "info": document["info"], "paths": paths, "components": {"schemas": schemas}})
}

/// References lead to where schemas are now.
fn refer(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if name == "$ref" => {
                        *text = text.replacen("#/definitions/", "#/components/schemas/", 1);
                    }
                    other => refer(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(refer),
        _ => {}
    }
}

/// Operations with what clients look for: their kind, and which parameters they know.
fn path_item(item: Value) -> Value {
    let Value::Object(map) = item else { return item };
    let converted = map.into_iter().map(|(name, mut value)| {
        if name == "parameters" {
            return (name, parameters(value));
        }
        value["parameters"] = parameters(value["parameters"].take());
        value["responses"] = json!({"200": {"description": "OK"}});
        if let Some(operation) = value.as_object_mut() {
            ["consumes", "produces", "schemes"].iter().for_each(|field| drop(operation.remove(*field)));
        }
        (name, value)
    });
    Value::Object(converted.collect())
}

fn parameters(list: Value) -> Value {
    let Value::Array(list) = list else { return json!([]) };
    let outer: BTreeSet<&str> = ["name", "in", "description", "required"].into();
    let converted = list.into_iter().filter(|parameter| parameter["in"] != "body").map(|parameter| {
        let Value::Object(map) = parameter else { return parameter };
        let (mut parameter, schema): (Map<_, _>, Map<_, _>) =
            map.into_iter().partition(|(name, _)| outer.contains(name.as_str()));
        parameter.insert("schema".to_owned(), schema.into());
        Value::Object(parameter)
    });
    converted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_the_second_version_becomes_one_of_the_third() {
        let patch = json!({"x-kubernetes-group-version-kind": {"kind": "K"}, "consumes": ["x"], "parameters": [
            {"name": "body", "in": "body", "schema": {}}, {"name": "dryRun", "in": "query", "type": "string"}]});
        let document = json!({"info": {"title": "T"}, "paths": {"/apis/g/v1/ks": {"patch": patch}, "/apis/other/v1/ks": {}},
            "definitions": {"a": {"properties": {"b": {"$ref": "#/definitions/b"}}}}});
        let expected = json!({"openapi": "3.0.0", "info": {"title": "T"},
            "paths": {"/apis/g/v1/ks": {"patch": {"x-kubernetes-group-version-kind": {"kind": "K"},
                "parameters": [{"name": "dryRun", "in": "query", "schema": {"type": "string"}}],
                "responses": {"200": {"description": "OK"}}}}},
            "components": {"schemas": {"a": {"properties": {"b": {"$ref": "#/components/schemas/b"}}}}}});
        assert_eq!(third(document, "/apis/g/v1/"), expected);
    }
}
