//! RemoveImage: removes an image with all its names. One that is not here is removed already.

use crate::engine::blocking::blocking;
use crate::engine::core::Core;
use crate::engine::failures::status;
use crate::engine::lifecycle::leftovers;
use knarr_cri::Status;
use knarr_cri::v1::{RemoveImageRequest, RemoveImageResponse};
use knarr_images::ErrorKind;
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: RemoveImageRequest,
) -> Result<RemoveImageResponse, Status> {
    let name = request.image.map(|image| image.image).unwrap_or_default();
    if name.is_empty() {
        return Err(Status::invalid_argument("image is required"));
    }
    // What removed containers stood on is free for removal only once they are gone.
    for sandbox in core.registry.all_sandboxes() {
        if let Err(left) = leftovers::clear(&core, &sandbox).await {
            tracing::warn!(pod = %sandbox.id, "before removing an image: {left:#}");
        }
    }
    blocking(move || {
        if let Some(image) = core.images.find(&name)? {
            match core.images.remove(&image) {
                // Somebody else was faster.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(RemoveImageResponse {})
    })
    .await
    .map_err(status)
}
