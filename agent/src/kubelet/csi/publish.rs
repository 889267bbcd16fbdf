//! Gives a pod its volumes: staged for the node where the driver wants that, then published into the pod's directory.

use super::places::{Places, Staging};
use super::record::Record;
use super::withdraw::blocking;
use super::{Csi, CsiVolume, Driver};
use crate::kubelet::host::Host;
use crate::kubelet::pod;
use crate::kubelet::volumes::{VolumeError, VolumeInputs, give_to_group};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec, VolumeAttachment};
use knarr_cri::csi::node_service_capability::rpc::Type;
use knarr_cri::csi::{NodePublishVolumeRequest, NodeStageVolumeRequest, VolumeCapability};
use kube::Api;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where drivers look for tokens.
const TOKENS: &str = "csi.storage.k8s.io/serviceAccount.tokens";
/// How long the API server may take to answer.
const ASK: Duration = Duration::from_secs(30);

impl Csi {
    /// Publishes every driver's volume of the pod.
    pub async fn publish_all(&self, host: &Host, inputs: &VolumeInputs) -> Result<(), VolumeError> {
        for volume in pod::spec(&inputs.pod).volumes.iter().flatten() {
            let Some(found) = super::describe(&inputs.pod, volume, &inputs.references) else { continue };
            let name = Some(volume.name.clone());
            let published = self.publish(host, &inputs.pod, &found).await;
            published.map_err(|message| VolumeError { volume: name, message })?;
        }
        Ok(())
    }

    /// Publishes again what its driver wants to renew from time to time (`requiresRepublish`), such as tokens.
    pub async fn publish_again(&self, host: &Host, inputs: &VolumeInputs) -> Result<(), VolumeError> {
        for volume in pod::spec(&inputs.pod).volumes.iter().flatten() {
            let Some(found) = super::describe(&inputs.pod, volume, &inputs.references) else { continue };
            let renewed = self.renew(host, &inputs.pod, &found).await;
            renewed.map_err(|message| VolumeError { volume: Some(volume.name.clone()), message })?;
        }
        Ok(())
    }

    async fn renew(&self, host: &Host, pod: &Pod, volume: &CsiVolume) -> Result<(), String> {
        self.grow(host, pod, volume).await?;
        let rules = self.rules(volume).await?;
        if rules.requires_republish != Some(true) {
            return Ok(());
        }
        let driver = self.for_mount(&volume.driver)?;
        let attached = self.attached(volume, &rules).await?;
        let _turn = self.turn(&volume.handle).await;
        let places = Places::of_pod(&self.root, &host.paths, pod::uid(pod), volume);
        let publication = Publication { host, pod, volume, rules: &rules, places, attached };
        driver.publish(publication.request(&driver).await?).await
    }

    async fn publish(&self, host: &Host, pod: &Pod, volume: &CsiVolume) -> Result<(), String> {
        let driver = self.for_mount(&volume.driver)?;
        let rules = self.rules(volume).await?;
        let attached = self.attached(volume, &rules).await?;
        let _turn = self.turn(&volume.handle).await;
        let places = Places::of_pod(&self.root, &host.paths, pod::uid(pod), volume);
        let publication = Publication { host, pod, volume, rules: &rules, places, attached };
        let places = &publication.places;
        let record = publication.record(self);
        note(record.clone(), places.record.clone()).await?;
        if !record.attachment_id.is_empty() {
            self.tell_in_use().await?;
        }
        if is_staged(&driver, volume) {
            make_staging(record, &places.staging).await?;
            driver.stage(publication.stage_request(&driver).await?).await?;
        }
        make_parent(&places.target).await?;
        driver.publish(publication.request(&driver).await?).await?;
        self.expand(host, pod, volume, &driver, places).await?;
        if volume.block {
            is_device(places.target.clone()).await?;
            let shown = places.clone();
            return blocking(move || shown.show()).await;
        }
        let place = places.target.clone();
        let gives = own_group(&driver, pod).is_none() && volume.takes_group(rules.fs_group_policy.as_deref());
        if gives { give(pod.clone(), place).await } else { Ok(()) }
    }

    /// What the cluster says about the driver.
    async fn rules(&self, volume: &CsiVolume) -> Result<CSIDriverSpec, String> {
        let found: Option<CSIDriver> = match &self.client {
            Some(client) => ask(&Api::all(client.clone()), &volume.driver).await?,
            // On its own a node has its administrator's word for everything.
            None => return Ok(CSIDriverSpec { attach_required: Some(false), ..Default::default() }),
        };
        let spec = found.map(|driver| driver.spec).unwrap_or_default();
        let wanted = if volume.inline { "Ephemeral" } else { "Persistent" };
        let modes = spec.volume_lifecycle_modes.clone().filter(|modes| !modes.is_empty());
        let modes = modes.unwrap_or_else(|| vec!["Persistent".to_owned()]);
        if modes.iter().any(|mode| mode == wanted) {
            return Ok(spec);
        }
        Err(format!(
            "volume mode {wanted:?} not supported by driver {} (only supports {modes:?})",
            volume.driver
        ))
    }

    /// What attaching the volume to this node has brought; an error while it is not attached.
    async fn attached(
        &self,
        volume: &CsiVolume,
        rules: &CSIDriverSpec,
    ) -> Result<HashMap<String, String>, String> {
        let (Some(client), true) = (&self.client, is_attachable(volume, rules)) else {
            return Ok(HashMap::new());
        };
        let name = volume.attachment(&self.node_name);
        let found: Option<VolumeAttachment> = ask(&Api::all(client.clone()), &name).await?;
        let found = found.ok_or_else(|| {
            format!(
                "volume {} is not attached: volumeattachments.storage.k8s.io \"{name}\" not found",
                volume.name
            )
        })?;
        let status = found.status.unwrap_or_default();
        if !status.attached {
            let why = status.attach_error.and_then(|error| error.message).unwrap_or_default();
            return Err(format!("volume attachment {name} is not attached yet {why}").trim_end().to_owned());
        }
        Ok(status.attachment_metadata.unwrap_or_default().into_iter().collect())
    }
}

/// On disk before the driver knows.
async fn note(record: Record, directory: PathBuf) -> Result<(), String> {
    let written = tokio::task::spawn_blocking(move || record.write(&directory)).await;
    written.map_err(|error| error.to_string())?.map_err(|error| format!("vol_data.json: {error}"))
}

async fn make_staging(record: Record, staging: &Staging) -> Result<(), String> {
    note(record, staging.record.clone()).await?;
    let made = tokio::fs::create_dir_all(&staging.target).await;
    made.map_err(|error| format!("{}: {error}", staging.target.display()))
}

/// The place itself is the driver's to make.
async fn make_parent(target: &Path) -> Result<(), String> {
    let Some(parent) = target.parent() else { return Ok(()) };
    let made = tokio::fs::create_dir_all(parent).await;
    made.map_err(|error| format!("{}: {error}", parent.display()))
}

/// Whether somebody has to plug the volume into the node first.
fn is_attachable(volume: &CsiVolume, rules: &CSIDriverSpec) -> bool {
    !volume.inline && rules.attach_required != Some(false)
}

pub(super) fn is_staged(driver: &Driver, volume: &CsiVolume) -> bool {
    driver.can(Type::StageUnstageVolume) && !volume.inline
}

/// The pod's group, where the driver gives the files to it.
fn own_group(driver: &Driver, pod: &Pod) -> Option<u32> {
    let group = pod::spec(pod).security_context.as_ref().and_then(|context| context.fs_group);
    group.and_then(|group| u32::try_from(group).ok()).filter(|_| driver.can(Type::VolumeMountGroup))
}

/// A volume on its way into a pod.
struct Publication<'a> {
    host: &'a Host,
    pod: &'a Pod,
    volume: &'a CsiVolume,
    rules: &'a CSIDriverSpec,
    places: Places,
    /// What attaching it has brought.
    attached: HashMap<String, String>,
}

impl Publication<'_> {
    fn record(&self, csi: &Csi) -> Record {
        let attachment =
            is_attachable(self.volume, self.rules).then(|| self.volume.attachment(&csi.node_name));
        Record { attachment_id: attachment.unwrap_or_default(), ..Record::of(self.volume, &csi.node_name) }
    }

    fn capability(&self, driver: &Driver) -> VolumeCapability {
        let many_writers = driver.can(Type::SingleNodeMultiWriter);
        self.volume.capability(many_writers, own_group(driver, self.pod))
    }

    async fn stage_request(&self, driver: &Driver) -> Result<NodeStageVolumeRequest, String> {
        Ok(NodeStageVolumeRequest {
            volume_id: self.volume.handle.clone(),
            publish_context: self.attached.clone(),
            staging_target_path: text(&self.places.staging.target),
            volume_capability: Some(self.capability(driver)),
            secrets: secrets(self.host, self.volume.stage_secret.as_ref()).await?,
            volume_context: self.volume.attributes.clone().into_iter().collect(),
        })
    }

    async fn request(&self, driver: &Driver) -> Result<NodePublishVolumeRequest, String> {
        let (pod, volume) = (self.pod, self.volume);
        let staging = is_staged(driver, volume).then(|| text(&self.places.staging.target));
        let mut context = volume.context(pod, self.rules.pod_info_on_mount == Some(true));
        context.extend(self.tokens().await?.map(|tokens| (TOKENS.to_owned(), tokens)));
        Ok(NodePublishVolumeRequest {
            volume_id: volume.handle.clone(),
            publish_context: self.attached.clone(),
            staging_target_path: staging.unwrap_or_default(),
            target_path: text(&self.places.target),
            volume_capability: Some(self.capability(driver)),
            readonly: volume.read_only,
            secrets: secrets(self.host, volume.publish_secret.as_ref()).await?,
            volume_context: context.into_iter().collect(),
        })
    }

    /// Tokens of the pod's account that the driver asks for, by audience, as the drivers expect them.
    async fn tokens(&self) -> Result<Option<String>, String> {
        let mut tokens = serde_json::Map::new();
        for wanted in self.rules.token_requests.iter().flatten() {
            let source = self.host.tokens.as_ref().ok_or("service account tokens need a cluster")?;
            let seconds = wanted.expiration_seconds.unwrap_or(3600);
            let token = source.token(self.pod, &wanted.audience, seconds).await?;
            let until = token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            let entry = json!({"token": token.text, "expirationTimestamp": until});
            tokens.insert(wanted.audience.clone(), entry);
        }
        Ok((!tokens.is_empty()).then(|| serde_json::Value::Object(tokens).to_string()))
    }
}

/// One object of the cluster, if there is one.
async fn ask<T: Clone + DeserializeOwned + Debug>(api: &Api<T>, name: &str) -> Result<Option<T>, String> {
    let answer = tokio::time::timeout(ASK, api.get_opt(name)).await;
    answer.map_err(|_| format!("{name}: the API server does not answer"))?.map_err(|error| error.to_string())
}

pub(super) async fn secrets(
    host: &Host,
    name: Option<&super::volume::SecretName>,
) -> Result<HashMap<String, String>, String> {
    let Some((namespace, name)) = name else { return Ok(HashMap::new()) };
    let found = host.objects.secret(namespace, name).await?;
    let found = found.ok_or_else(|| format!("secret \"{namespace}/{name}\" not found"))?;
    let data: BTreeMap<_, _> = found.data.unwrap_or_default();
    let as_text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(data.into_iter().map(|(key, bytes)| (key, as_text(bytes.0))).collect())
}

async fn give(pod: Pod, target: PathBuf) -> Result<(), String> {
    let given = tokio::task::spawn_blocking(move || give_to_group(&pod, &target)).await;
    given.map_err(|error| error.to_string())?
}

/// What the driver gave as a device is one.
async fn is_device(place: PathBuf) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    match tokio::fs::metadata(&place).await {
        Ok(found) if found.file_type().is_block_device() => Ok(()),
        Ok(_) => Err(format!("blockMapper.MapPodDevice failed: {} is not a block device", place.display())),
        Err(error) => Err(format!("blockMapper.MapPodDevice failed: {}: {error}", place.display())),
    }
}

pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
