//! Takes volumes back from drivers: out of a pod that ended, and off the node when no pod has them any more.

use super::Csi;
use super::places::{Places, Staging};
use super::record::{self, Record};
use crate::kubelet::paths::Paths;
use knarr_cri::csi::{NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest};
use std::io;
use std::path::{Path, PathBuf};

impl Csi {
    /// Takes every driver's volume out of a pod's directory. Goes on after errors and returns them all; doing it again is
    /// harmless.
    pub async fn withdraw_all(&self, paths: &Paths, uid: &str) -> Result<(), String> {
        let directory = paths.pod(uid);
        let found = blocking(move || record::of_pod(&directory)).await?;
        let mut errors = Vec::new();
        for (directory, record) in found {
            let name = record.spec_vol_id.clone();
            let places = Places::of_record(&self.root, paths, uid, &directory, &record);
            if let Err(error) = self.withdraw(paths, places, record).await {
                errors.push(format!("UnmountVolume.TearDown failed for volume \"{name}\" : {error}"));
            }
        }
        errors.extend(self.tell_gone().await.err());
        if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
    }

    async fn withdraw(&self, paths: &Paths, places: Places, record: Record) -> Result<(), String> {
        let driver = self.driver(&record.driver_name)?;
        let _turn = self.turn(&record.volume_handle).await;
        let target_path = places.target.to_string_lossy().into_owned();
        let request = NodeUnpublishVolumeRequest { volume_id: record.volume_handle.clone(), target_path };
        let shown = places.clone();
        blocking(move || shown.hide()).await?;
        driver.unpublish(request).await?;
        let staging = places.staging.clone();
        blocking(move || places.remove()).await?;
        self.unstage_if_unused(paths, &record, staging).await
    }

    /// The caller has the volume's turn.
    async fn unstage_if_unused(
        &self,
        paths: &Paths,
        record: &Record,
        staging: Staging,
    ) -> Result<(), String> {
        let (looked, pods, wanted) = (staging.record.clone(), paths.all().to_path_buf(), record.clone());
        let staged_and_unused =
            blocking(move || Ok(Record::read(&looked)?.is_some() && !is_used(&pods, &wanted)?)).await?;
        if !staged_and_unused {
            return Ok(());
        }
        let request = NodeUnstageVolumeRequest {
            volume_id: record.volume_handle.clone(),
            staging_target_path: staging.target.to_string_lossy().into_owned(),
        };
        self.driver(&record.driver_name)?.unstage(request).await?;
        blocking(move || staging.remove()).await
    }

    /// Takes back what a crash left staged: asked when a driver registers.
    pub(super) async fn sweep(&self, driver: &str) {
        let paths = Paths::new(&self.root, Path::new(""));
        let root = self.root.clone();
        let records = match blocking(move || record::staged(&root)).await {
            Ok(records) => records,
            Err(error) => return tracing::warn!(driver, "staged volumes: {error}"),
        };
        for (directory, record) in records.into_iter().filter(|(_, record)| record.driver_name == driver) {
            let _turn = self.turn(&record.volume_handle).await;
            let staging = Staging::of_record(&self.root, &directory, &record);
            if let Err(error) = self.unstage_if_unused(&paths, &record, staging).await {
                tracing::warn!(driver, volume = record.volume_handle, "{error}");
            }
        }
        if let Err(error) = self.tell_in_use().await {
            tracing::warn!(driver, "{error}");
        }
    }
}

/// Whether any pod of the node has the volume.
fn is_used(pods: &Path, wanted: &Record) -> io::Result<bool> {
    for pod in record::directories(pods)? {
        let same = |(_, record): &(PathBuf, Record)| {
            (&record.driver_name, &record.volume_handle) == (&wanted.driver_name, &wanted.volume_handle)
        };
        if record::of_pod(&pod)?.iter().any(same) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, String> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}
