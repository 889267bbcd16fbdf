//! Media types of manifests and layers: which documents are understood, and which layers can be unpacked.

use crate::error::{Error, ErrorKind, Result};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1";

/// What a manifest request accepts, in order of preference.
pub(crate) const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Schema 1 lists its layers in another way and is signed in a broken one; every registry converts it.
pub(crate) fn is_schema1(media_type: &str) -> bool {
    media_type.starts_with(DOCKER_SCHEMA1)
}

/// The OCI name of a layer's type, for a manifest of our own over a Docker image's layers.
pub(crate) fn oci_layer(media_type: &str) -> String {
    match media_type.strip_prefix("application/vnd.docker.image.rootfs.diff.tar") {
        Some(".gzip") => OCI_LAYER_GZIP.to_owned(),
        Some(".zstd") => format!("{OCI_LAYER}+zstd"),
        Some(_) => OCI_LAYER.to_owned(),
        None => media_type.to_owned(),
    }
}

/// Fails for layers that cannot be part of a container's root: artifacts, encrypted layers, and foreign layers,
/// whose bytes lie at a URL the image chooses (CVE-2020-15157: credentials were sent there).
pub(crate) fn check_layer(media_type: &str, has_urls: bool) -> Result<()> {
    let foreign = media_type.contains(".foreign.") || media_type.contains(".nondistributable.");
    if foreign || has_urls {
        let message = format!("layer of type {media_type}: foreign layers are not supported");
        return Err(Error::new(ErrorKind::Unsupported, message));
    }
    let known = media_type.starts_with("application/vnd.oci.image.layer.v1.tar")
        || media_type.starts_with("application/vnd.docker.image.rootfs.diff.tar");
    if known && !media_type.contains("encrypted") {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("layer of type {media_type}: not a container image layer"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_layers_unpack() {
        for good in [
            OCI_LAYER,
            OCI_LAYER_GZIP,
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
        ] {
            assert!(check_layer(good, false).is_ok(), "{good}");
            assert!(check_layer(good, true).is_err(), "{good} with urls");
        }
        for bad in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
            "application/vnd.in-toto+json",
            "",
        ] {
            assert_eq!(check_layer(bad, false).unwrap_err().kind(), ErrorKind::Unsupported, "{bad}");
        }
    }
}
