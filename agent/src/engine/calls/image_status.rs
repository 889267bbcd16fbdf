//! ImageStatus: one image by name, id or digest; an image that is not here is no error.

use crate::engine::blocking::blocking;
use crate::engine::core::Core;
use crate::engine::failures::status;
use knarr_cri::Status;
use knarr_cri::v1::{Image, ImageSpec, ImageStatusRequest, ImageStatusResponse, Int64Value};
use knarr_images::Digest;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) async fn call(
    core: Arc<Core>,
    request: ImageStatusRequest,
) -> Result<ImageStatusResponse, Status> {
    let name = request.image.map(|image| image.image).unwrap_or_default();
    if name.is_empty() {
        return Err(Status::invalid_argument("image is required"));
    }
    let verbose = request.verbose;
    blocking(move || {
        let Some(image) = core.images.find(&name)? else { return Ok(ImageStatusResponse::default()) };
        let info = if verbose { info(&core, &image)? } else { HashMap::new() };
        Ok(ImageStatusResponse { image: Some(shown(&core, &image)), info })
    })
    .await
    .map_err(status)
}

/// An image in CRI's words. The user is a number or a name, never both. Blocking.
pub(super) fn shown(core: &Core, image: &knarr_images::Image) -> Image {
    let config = core.images.config(image).ok();
    let user =
        config.as_ref().and_then(|config| config.config().as_ref()?.user().clone()).unwrap_or_default();
    let (uid, username) = user_of(&user);
    Image {
        id: image.id.clone(),
        repo_tags: image.tags.clone(),
        repo_digests: image.digests.clone(),
        size: image.size,
        uid,
        username,
        spec: Some(ImageSpec { image: image.id.clone(), ..ImageSpec::default() }),
        pinned: image.pinned,
    }
}

/// The user part of an image's `USER`; root where it says nothing.
fn user_of(user: &str) -> (Option<Int64Value>, String) {
    let name = user.split(':').next().unwrap_or_default();
    match name.parse::<i64>() {
        Ok(value) => (Some(Int64Value { value }), String::new()),
        Err(_) if name.is_empty() => (Some(Int64Value { value: 0 }), String::new()),
        Err(_) => (None, name.to_owned()),
    }
}

fn info(core: &Core, image: &knarr_images::Image) -> anyhow::Result<HashMap<String, String>> {
    let config = core.images.config(image)?;
    let chain_id = chain_id(config.rootfs().diff_ids());
    let info = serde_json::json!({ "chainID": chain_id, "imageSpec": serde_json::to_value(&config)? });
    Ok(HashMap::from([("info".to_owned(), info.to_string())]))
}

/// The address of the topmost layer with everything beneath it, as the image specification has it.
fn chain_id(diff_ids: &[String]) -> String {
    let mut layers = diff_ids.iter();
    let first = layers.next().cloned().unwrap_or_default();
    layers.fold(first, |below, layer| Digest::of(format!("{below} {layer}").as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_chained_as_the_specification_says() {
        assert_eq!(chain_id(&[]), "");
        assert_eq!(chain_id(&["sha256:a".into()]), "sha256:a");
        let two = Digest::of(b"sha256:a sha256:b").to_string();
        assert_eq!(chain_id(&["sha256:a".into(), "sha256:b".into()]), two);
        let three = Digest::of(format!("{two} sha256:c").as_bytes()).to_string();
        assert_eq!(chain_id(&["sha256:a".into(), "sha256:b".into(), "sha256:c".into()]), three);
    }

    #[test]
    fn a_user_is_a_number_or_a_name() {
        let number = |value| Some(Int64Value { value });
        for (user, uid, name) in [
            ("", number(0), ""),
            ("1002", number(1002), ""),
            ("1003:users", number(1003), ""),
            ("www-data", None, "www-data"),
            ("www-data:100", None, "www-data"),
        ] {
            assert_eq!(user_of(user), (uid, name.to_owned()), "{user}");
        }
    }
}
