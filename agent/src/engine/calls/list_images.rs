//! ListImages and StreamImages: every image on this node, or the one a filter names.

use super::{image_status, in_chunks};
use crate::engine::blocking::blocking;
use crate::engine::core::Core;
use crate::engine::failures::status;
use knarr_cri::v1::{
    Image, ImageFilter, ListImagesRequest, ListImagesResponse, StreamImagesRequest, StreamImagesResponse,
};
use knarr_cri::{MessageStream, Status};
use std::sync::Arc;

pub(crate) async fn call(core: Arc<Core>, request: ListImagesRequest) -> Result<ListImagesResponse, Status> {
    Ok(ListImagesResponse { images: list(core, request.filter).await? })
}

pub(crate) async fn stream(
    core: Arc<Core>,
    request: StreamImagesRequest,
) -> Result<MessageStream<StreamImagesResponse>, Status> {
    Ok(in_chunks(list(core, request.filter).await?, |images| StreamImagesResponse { images }))
}

async fn list(core: Arc<Core>, filter: Option<ImageFilter>) -> Result<Vec<Image>, Status> {
    let name = filter.and_then(|filter| filter.image).map(|image| image.image).unwrap_or_default();
    blocking(move || {
        let images = match name.as_str() {
            "" => core.images.list()?,
            name => core.images.find(name)?.into_iter().collect(),
        };
        Ok(images.iter().map(|image| image_status::shown(&core, image)).collect())
    })
    .await
    .map_err(status)
}
