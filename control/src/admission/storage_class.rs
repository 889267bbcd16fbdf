//! A claim that names no storage class gets the default one; `""` says that it wants none.

use crate::registry::fields;
use crate::server::Server;
use knarr_api::{Status, meta};
use serde_json::Value;

const IS_DEFAULT: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

pub(super) async fn fill_in(server: &Server, claim: &mut Value) -> Result<(), Status> {
    let named = claim.pointer("/spec/storageClassName").is_some_and(Value::is_string)
        || meta::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some();
    if named {
        return Ok(());
    }
    let mut classes = server.objects_below("storage.k8s.io/storageclasses/").await?;
    classes.retain(|class| IS_DEFAULT.iter().any(|key| meta::annotation(class, key) == Some("true")));
    // Of several the newest, then the first by name.
    let newest = classes.into_iter().reduce(|best, next| {
        if meta::creation_timestamp(&next) > meta::creation_timestamp(&best) { next } else { best }
    });
    if let Some(class) = newest {
        fields::set_in(claim, "spec", "storageClassName", meta::name(&class).into());
    }
    Ok(())
}
