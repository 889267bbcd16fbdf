//! Reads one manifest file: YAML (any number of documents) or JSON, pods and what they may refer to. What an API
//! server would have filled in or refused is filled in or refused here.

use crate::kubelet::pod::{HASH_ANNOTATION, SEEN_ANNOTATION, SOURCE_ANNOTATION};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Toleration};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Documents {
    #[allow(missing_docs)]
    pub pods: Vec<Arc<Pod>>,
    #[allow(missing_docs)]
    pub config_maps: Vec<ConfigMap>,
    #[allow(missing_docs)]
    pub secrets: Vec<Secret>,
}

/// Parses the text of `file` for the node of that name.
pub fn parse(text: &str, file: &Path, node: &str) -> Result<Documents, String> {
    parse_from("file", text, file, node)
}

/// The same of a web server's answer.
pub(in crate::kubelet::pod_source) fn parse_answer(
    text: &str,
    url: &str,
    node: &str,
) -> Result<Documents, String> {
    parse_from("http", text, Path::new(url), node)
}

fn parse_from(source: &str, text: &str, file: &Path, node: &str) -> Result<Documents, String> {
    let values: Vec<Value> = if text.trim_start().starts_with('{') {
        vec![serde_json::from_str(text).map_err(|error| error.to_string())?]
    } else {
        // `defaultMode: 0644` means what it means to everybody else who reads manifests.
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| error.to_string())?
    };
    let mut documents = Documents::default();
    for value in values.into_iter().filter(|value| !value.is_null()) {
        add(value, source, file, node, &mut documents)?;
    }
    Ok(documents)
}

fn add(value: Value, source: &str, file: &Path, node: &str, documents: &mut Documents) -> Result<(), String> {
    let kind = value["kind"].as_str().unwrap_or_default().to_string();
    let version = value["apiVersion"].as_str().unwrap_or_default();
    if version != "v1" {
        return Err(format!(
            "apiVersion \"{version}\", kind \"{kind}\": a node runs objects of apiVersion v1 only"
        ));
    }
    match kind.as_str() {
        "Pod" => documents.pods.push(Arc::new(static_pod(value, source, file, node)?)),
        "ConfigMap" => documents.config_maps.push(typed(value)?),
        "Secret" => documents.secrets.push(secret(value)?),
        "List" | "PodList" => {
            for item in value["items"].as_array().cloned().unwrap_or_default() {
                add(item, source, file, node, documents)?;
            }
        }
        _ => return Err(format!("kind \"{kind}\" cannot run on a node (Pod, ConfigMap and Secret can)")),
    }
    Ok(())
}

/// The error names the field.
fn typed<T: for<'a> Deserialize<'a>>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// `stringData` becomes `data`, as an API server does it.
fn secret(value: Value) -> Result<Secret, String> {
    let mut secret: Secret = typed(value)?;
    for (key, text) in secret.string_data.take().into_iter().flatten() {
        let bytes = k8s_openapi::ByteString(text.into_bytes());
        secret.data.get_or_insert_default().insert(key, bytes);
    }
    Ok(secret)
}

fn static_pod(value: Value, source: &str, file: &Path, node: &str) -> Result<Pod, String> {
    let hash = hash(&value, file, node);
    let mut pod: Pod = typed(value)?;
    let name = pod.metadata.name.clone().filter(|name| !name.is_empty());
    let name = name.ok_or("metadata.name: Required value: name or generateName is required")?;
    check(&pod)?;
    let meta = &mut pod.metadata;
    meta.name = Some(format!("{name}-{}", node.to_lowercase()));
    meta.namespace.get_or_insert_with(|| "default".to_string());
    meta.uid = meta.uid.take().filter(|uid| !uid.is_empty()).or(Some(hash.clone()));
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(HASH_ANNOTATION.to_string(), hash);
    annotations.insert(SOURCE_ANNOTATION.to_string(), source.to_string());
    annotations.remove(SEEN_ANNOTATION);
    pod.status = None;
    if let Some(spec) = &mut pod.spec {
        spec.node_name = Some(node.to_string());
        let everything = Toleration {
            effect: Some("NoExecute".into()),
            operator: Some("Exists".into()),
            ..Default::default()
        };
        let tolerations = spec.tolerations.get_or_insert_default();
        if !tolerations.contains(&everything) {
            tolerations.push(everything);
        }
    }
    Ok(pod)
}

/// The same manifest of the same file on the same node is the same pod; any change makes another one.
fn hash(value: &Value, file: &Path, node: &str) -> String {
    let digest = Sha256::new()
        .chain_update(value.to_string())
        .chain_update(node)
        .chain_update(file.as_os_str().as_encoded_bytes())
        .finalize();
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check(pod: &Pod) -> Result<(), String> {
    let spec = pod.spec.as_ref().ok_or("spec: Required value")?;
    if spec.containers.is_empty() {
        return Err("spec.containers: Required value".to_string());
    }
    let mut names = BTreeSet::new();
    let lists = [("containers", Some(&spec.containers)), ("initContainers", spec.init_containers.as_ref())];
    for (list, containers) in lists {
        for (index, container) in containers.into_iter().flatten().enumerate() {
            let field = format!("spec.{list}[{index}]");
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if container.name.is_empty() {
                return Err(format!("{field}.name: Required value"));
            }
            if !container.name.chars().all(legal) || container.name.len() > 63 {
                return Err(format!(
                    "{field}.name: Invalid value: \"{}\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-'",
                    container.name
                ));
            }
            if container.image.as_deref().unwrap_or_default().is_empty() {
                return Err(format!("{field}.image: Required value"));
            }
            if !names.insert(&container.name) {
                return Err(format!("{field}.name: Duplicate value: \"{}\"", container.name));
            }
        }
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if !name.chars().all(legal) || name.starts_with(['-', '.']) || name.len() > 253 {
        return Err(format!(
            "metadata.name: Invalid value: \"{name}\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'"
        ));
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    if namespace.is_empty() || !namespace.chars().all(|c| legal(c) && c != '.') {
        return Err(format!("metadata.namespace: Invalid value: \"{namespace}\""));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Documents, String> {
        parse(text, Path::new("/m/x.yaml"), "Node1")
    }

    #[test]
    fn a_pod_and_what_it_refers_to() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: c, image: i}]\n---\n\
                    apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {k: v}\n---\n\
                    apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {k: v}\n";
        let documents = parsed(text).unwrap();
        assert_eq!(documents.pods[0].metadata.name.as_deref(), Some("a-node1"));
        assert_eq!(documents.pods[0].metadata.uid.as_deref().map(str::len), Some(32));
        assert_eq!(documents.secrets[0].data.as_ref().unwrap()["k"].0, b"v");
        assert_eq!(documents.config_maps.len(), 1);
        assert_eq!(parsed(text).unwrap(), documents, "the same text is the same pod");
        let edited = parsed(&text.replace("image: i", "image: j")).unwrap();
        assert_ne!(edited.pods[0].metadata.uid, documents.pods[0].metadata.uid);
    }

    #[test]
    fn modes_are_octal_as_in_everybody_elses_yaml() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers: [{name: c, image: i}]\n  \
                    volumes: [{name: v, secret: {secretName: s, defaultMode: 0400}}]\n";
        let documents = parsed(text).unwrap();
        let volumes = documents.pods[0].spec.as_ref().unwrap().volumes.as_ref().unwrap();
        assert_eq!(volumes[0].secret.as_ref().unwrap().default_mode, Some(0o400));
    }

    #[test]
    fn broken_manifests_name_the_field() {
        for (text, expected) in [
            ("{", "EOF"),
            ("a: [", ""),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "spec: Required value"),
            ("apiVersion: v1\nkind: Pod\nspec: {containers: [{name: c, image: i}]}\n", "metadata.name"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n", "spec.containers"),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c}]}\n",
                "containers[0].image",
            ),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: 5}\n", "invalid type"),
            ("apiVersion: apps/v1\nkind: Deployment\n", "apiVersion v1 only"),
            ("apiVersion: v1\nkind: Service\n", "cannot run on a node"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
