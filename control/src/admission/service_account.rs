//! Pods act as a service account. One that is missing is refused; the account's token, the cluster's CA and the name
//! of the namespace are mounted into every container where client libraries look for them.

use super::{Write, is_mirror};
use crate::random;
use crate::registry::fields;
use crate::server::Server;
use knarr_api::Status;
use serde_json::{Value, json};

/// Where client libraries look.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour, and seven seconds by which such a token is recognized.
const TOKEN_SECONDS: i64 = 3607;

pub(super) async fn fill_in(server: &Server, write: Write<'_>, pod: &mut Value) -> Result<(), Status> {
    if is_mirror(pod) {
        return Ok(());
    }
    let name = match fields::text(pod, "/spec/serviceAccountName") {
        "" => "default".to_owned(),
        name => name.to_owned(),
    };
    let account = account(server, write, &name).await?;
    let Some(spec) = fields::child(pod, "spec") else { return Ok(()) };
    let automount = [&*spec, &account]
        .into_iter()
        .find_map(|object| object["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    if automount {
        mount_token(spec);
    }
    if fields::list(spec, "/imagePullSecrets").is_empty()
        && !fields::list(&account, "/imagePullSecrets").is_empty()
    {
        fields::set(spec, "imagePullSecrets", account["imagePullSecrets"].clone());
    }
    Ok(())
}

/// The account, which must exist. `default` belongs to every namespace: a pod that comes before the controller has
/// made it does not wait.
async fn account(server: &Server, write: Write<'_>, name: &str) -> Result<Value, Status> {
    let key = format!("core/serviceaccounts/{}/{name}", write.namespace);
    if let Some(account) = server.object_at(&key).await? {
        return Ok(account);
    }
    if name == "default" {
        let row = server.table.find("", "v1", "serviceaccounts").ok_or_else(Status::no_such_resource)?;
        // Boxed: making it is a write that passes here again.
        Box::pin(server.ensure(&row, write.namespace, json!({"metadata": {"name": name}}))).await?;
        return Ok(Value::Null);
    }
    Err(write.forbidden(&format!(
        "error looking up service account {}/{name}: serviceaccount {name:?} not found",
        write.namespace
    )))
}

/// Mounts the token into every container that has nothing at its place.
fn mount_token(spec: &mut Value) {
    let known = fields::list(spec, "/volumes").iter().map(|volume| fields::text(volume, "/name"));
    let known = known.into_iter().find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned);
    let volume = known.clone().unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", random::suffix(5)));
    let mut used = false;
    for group in ["initContainers", "containers"] {
        for container in fields::each(spec, group) {
            let mut mounts = fields::list(container, "/volumeMounts").to_vec();
            if mounts.iter().any(|mount| fields::text(mount, "/mountPath") == MOUNT_PATH) {
                continue;
            }
            mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
            fields::set(container, "volumeMounts", mounts.into());
            used = true;
        }
    }
    if used && known.is_none() {
        let mut volumes = fields::list(spec, "/volumes").to_vec();
        volumes.push(token_volume(&volume));
        fields::set(spec, "volumes", volumes.into());
    }
}

fn token_volume(name: &str) -> Value {
    let namespace =
        json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
    let authority =
        json!({"name": crate::controllers::ROOT_CA, "items": [{"key": "ca.crt", "path": "ca.crt"}]});
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": authority},
        {"downwardAPI": {"items": [namespace]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_mounted_once_where_nothing_is() {
        let mut spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]}]});
        mount_token(&mut spec);
        let volume = spec["volumes"][0]["name"].as_str().unwrap().to_owned();
        assert!(volume.starts_with(VOLUME_PREFIX), "{volume}");
        for pointer in ["/initContainers/0", "/containers/0"] {
            assert_eq!(spec.pointer(pointer).unwrap()["volumeMounts"][0]["name"], volume);
        }
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().map(Vec::len), Some(1));
        assert_eq!(spec["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]["path"], "token");
        let once = spec.clone();
        mount_token(&mut spec);
        assert_eq!(spec, once, "a second time changes nothing");
    }
}
