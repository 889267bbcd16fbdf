//! criu, which needs a kernel that it knows; and images that hold what it wrote down.

use crate::bins;
use crate::skip::skip;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Stdio};

/// Whether it can work here; else `test` is a named skip.
pub fn can_work(test: &str) -> bool {
    let mut check = Command::new("criu");
    check.arg("check").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match check.status() {
        Ok(status) if status.success() => return true,
        Ok(_) => skip(test, "criu cannot work on this kernel"),
        Err(error) => skip(test, &format!("criu: {error}")),
    }
    false
}

/// An image as `buildah` makes one of a checkpoint: one layer that holds what the archive holds, and an annotation. It is
/// put together at `layout` and loaded by `knarr`.
///
/// # Panics
/// When anything of it cannot be done.
pub fn image_of(layout: &Path, archive: &Path, name: &str, mut knarr: Command) {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("a file of the image");
    let blob = |bytes: &[u8]| {
        let file = layout.join("new");
        std::fs::write(&file, bytes).expect("a file of the image");
        let said = bins::run(Command::new("sha256sum").arg(&file)).ok();
        let digest = said.split_whitespace().next().expect("a file of the image").to_owned();
        std::fs::rename(&file, blobs.join(&digest)).expect("a file of the image");
        format!("sha256:{digest}")
    };
    let bytes = std::fs::read(archive).expect("a file of the image");
    let layer = blob(&bytes);
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer]}});
    let config = config.to_string();
    let config_digest = blob(config.as_bytes());
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config_digest,
            "size": config.len()},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": bytes.len()}],
        "annotations": {"org.criu.checkpoint.container.name": "main"}});
    let manifest = manifest.to_string();
    let digest = blob(manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len(),
        "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}}]});
    std::fs::write(layout.join("index.json"), index.to_string()).expect("a file of the image");
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("a file of the image");
    let packed = layout.with_extension("tar");
    bins::run(Command::new("tar").arg("-cf").arg(&packed).arg("-C").arg(layout).arg(".")).ok();
    bins::run(knarr.args(["image", "load", "-i"]).arg(&packed)).ok();
}
