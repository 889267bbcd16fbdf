//! ImageFsInfo: how much of which file system images and writable layers take.

use super::container_stats::number;
use crate::engine::blocking::blocking;
use crate::engine::core::{Core, now};
use crate::engine::failures::status;
use knarr_cri::Status;
use knarr_cri::v1::{FilesystemIdentifier, FilesystemUsage, ImageFsInfoResponse};
use std::sync::Arc;

pub(crate) async fn call(core: Arc<Core>) -> Result<ImageFsInfoResponse, Status> {
    let usage = blocking(move || {
        let (bytes, inodes) = core.images.usage()?;
        Ok(FilesystemUsage {
            timestamp: now(),
            fs_id: Some(FilesystemIdentifier { mountpoint: mountpoint(&core) }),
            used_bytes: Some(number(bytes)),
            inodes_used: Some(number(inodes)),
        })
    })
    .await
    .map_err(status)?;
    // Layers and what containers write live in one store.
    Ok(ImageFsInfoResponse { image_filesystems: vec![usage.clone()], container_filesystems: vec![usage] })
}

/// A directory on the file system of the store; the kubelet only needs to find its device.
pub(super) fn mountpoint(core: &Core) -> String {
    core.config.data_dir.to_string_lossy().into_owned()
}
