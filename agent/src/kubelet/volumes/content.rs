//! The files of volumes that are made of API objects: configMap, secret, downwardAPI, and projected, which joins
//! them with service account tokens.

use super::VolumeInputs;
use super::atomic::{File, Files};
use super::token;
use crate::kubelet::references::References;
use crate::kubelet::{facts, pod, security};
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, ProjectedVolumeSource, ServiceAccountTokenProjection, Volume,
};

/// What a volume shows.
#[derive(Debug, Default)]
pub(super) struct Payload {
    pub(super) files: Files,
    /// Must not touch a disk.
    pub(super) secret: bool,
}

/// Reads the sources of one volume.
pub(super) fn payload(inputs: &VolumeInputs, volume: &Volume) -> Result<Payload, String> {
    let mut payload = Payload::default();
    let references = &inputs.references;
    if let Some(source) = &volume.config_map {
        let keys = source.items.as_deref().unwrap_or_default();
        let mode = mode(source.default_mode);
        payload.files = config_map(references, &source.name, keys, mode, source.optional)?;
    } else if let Some(source) = &volume.secret {
        let keys = source.items.as_deref().unwrap_or_default();
        let name = source.secret_name.as_deref().unwrap_or_default();
        payload.secret = true;
        payload.files = secret(references, name, keys, mode(source.default_mode), source.optional)?;
    } else if let Some(source) = &volume.downward_api {
        payload.files =
            downward(inputs, source.items.as_deref().unwrap_or_default(), mode(source.default_mode))?;
    } else if let Some(source) = &volume.projected {
        payload = projected(inputs, source)?;
    }
    Ok(payload)
}

/// Mode bits of an API field, 0644 where absent.
fn mode(field: Option<i32>) -> u32 {
    field.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644)
}

fn projected(inputs: &VolumeInputs, source: &ProjectedVolumeSource) -> Result<Payload, String> {
    let default = mode(source.default_mode);
    let mut payload = Payload::default();
    for part in source.sources.iter().flatten() {
        if let Some(part) = &part.config_map {
            let keys = part.items.as_deref().unwrap_or_default();
            payload.files.extend(config_map(&inputs.references, &part.name, keys, default, part.optional)?);
        }
        if let Some(part) = &part.secret {
            let keys = part.items.as_deref().unwrap_or_default();
            payload.secret = true;
            payload.files.extend(secret(&inputs.references, &part.name, keys, default, part.optional)?);
        }
        if let Some(part) = &part.downward_api {
            payload.files.extend(downward(inputs, part.items.as_deref().unwrap_or_default(), default)?);
        }
        if let Some(part) = &part.service_account_token {
            payload.secret = true;
            payload.files.insert(part.path.clone(), token_file(inputs, part, default)?);
        }
        if part.cluster_trust_bundle.is_some() {
            return Err("clusterTrustBundle projections are not supported yet".to_string());
        }
    }
    Ok(payload)
}

/// Readable by the pod's user (or group) alone where it has one.
fn token_file(
    inputs: &VolumeInputs,
    part: &ServiceAccountTokenProjection,
    mode: u32,
) -> Result<File, String> {
    let text = inputs.tokens.get(&token::key(part)).ok_or("service account tokens need a cluster")?;
    let owner = security::common_user(&inputs.pod);
    let context = pod::spec(&inputs.pod).security_context.as_ref();
    let grouped = context.is_some_and(|context| context.fs_group.is_some());
    let mode = if owner.is_some() || grouped { 0o600 } else { mode };
    Ok(File { bytes: text.clone().into_bytes(), mode, owner })
}

fn config_map(
    references: &References,
    name: &str,
    keys: &[KeyToPath],
    mode: u32,
    optional: Option<bool>,
) -> Result<Files, String> {
    let Some(map) = references.config_maps.get(name) else {
        return absent(optional, || format!("configmap \"{name}\" not found"));
    };
    let text = map.data.iter().flatten().map(|(key, text)| (key.clone(), text.as_bytes().to_vec()));
    let binary = map.binary_data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    let missing = "configmap references non-existent config key";
    select(text.chain(binary).collect(), keys, mode, optional, missing)
}

fn secret(
    references: &References,
    name: &str,
    keys: &[KeyToPath],
    mode: u32,
    optional: Option<bool>,
) -> Result<Files, String> {
    let Some(secret) = references.secrets.get(name) else {
        return absent(optional, || format!("secret \"{name}\" not found"));
    };
    let data = secret.data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone()));
    select(data.collect(), keys, mode, optional, "references non-existent secret key")
}

fn absent(optional: Option<bool>, message: impl FnOnce() -> String) -> Result<Files, String> {
    if optional == Some(true) { Ok(Files::default()) } else { Err(message()) }
}

/// All keys, or the listed ones at their paths.
fn select(
    data: Vec<(String, Vec<u8>)>,
    keys: &[KeyToPath],
    mode: u32,
    optional: Option<bool>,
    missing: &str,
) -> Result<Files, String> {
    if keys.is_empty() {
        return Ok(data.into_iter().map(|(key, bytes)| (key, file(bytes, mode))).collect());
    }
    let mut files = Files::default();
    for item in keys {
        match data.iter().find(|(key, _)| *key == item.key) {
            Some((_, bytes)) => {
                let mode = item.mode.map_or(mode, |own| self::mode(Some(own)));
                files.insert(item.path.clone(), file(bytes.clone(), mode));
            }
            None if optional == Some(true) => {}
            None => return Err(format!("{missing}: {}", item.key)),
        }
    }
    Ok(files)
}

fn file(bytes: Vec<u8>, mode: u32) -> File {
    File { bytes, mode, owner: None }
}

fn downward(inputs: &VolumeInputs, items: &[DownwardAPIVolumeFile], default: u32) -> Result<Files, String> {
    let nameless = Container::default();
    let mut files = Files::default();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            facts::field(&inputs.pod, &inputs.facts, &field.field_path)?
        } else if let Some(selector) = &item.resource_field_ref {
            let first = pod::spec(&inputs.pod).containers.first().unwrap_or(&nameless);
            facts::resource(&inputs.pod, &inputs.facts, first, selector)?
        } else {
            return Err(format!("{}: neither fieldRef nor resourceFieldRef", item.path));
        };
        let mode = item.mode.map_or(default, |own| mode(Some(own)));
        files.insert(item.path.clone(), file(text.into_bytes(), mode));
    }
    Ok(files)
}
