//! Which volumes this node uses, told in its status (`volumesInUse`): whoever unplugs volumes from nodes takes away none
//! that is named there.
//!
//! What must hold: a volume is named before its driver hears of it, and until the driver has taken it back. The records on
//! disk are written and removed at just these times, so the list is read from them.

use super::Csi;
use super::record::{self, Record};
use super::withdraw::blocking;
use crate::kubelet::paths::Paths;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How long the API server may take to answer.
const ASK: Duration = Duration::from_secs(30);

impl Csi {
    /// Brings the node's status in line with the disk.
    pub(super) async fn tell_in_use(&self) -> Result<(), String> {
        let Some(client) = self.client.clone() else { return Ok(()) };
        let mut told = self.told.lock().await;
        let root = self.root.clone();
        let now = blocking(move || in_use(&root)).await?;
        if told.as_ref() != Some(&now) || self.seen_in_use() != Some(now.clone()) {
            let nodes: Api<Node> = Api::all(client);
            let patch = Patch::Merge(json!({"status": {"volumesInUse": (!now.is_empty()).then_some(&now)}}));
            let parameters = PatchParams::default();
            let patched =
                tokio::time::timeout(ASK, nodes.patch_status(&self.node_name, &parameters, &patch)).await;
            let patched = patched.map_err(|_| "the API server does not answer".to_owned());
            patched
                .and_then(|answer| answer.map_err(|error| error.to_string()))
                .map_err(|error| format!("volumesInUse: {error}"))?;
        }
        *told = Some(now);
        Ok(())
    }

    /// The same after a volume went, where any was ever told of.
    pub(super) async fn tell_gone(&self) -> Result<(), String> {
        let is_empty = self.told.lock().await.as_ref().is_none_or(BTreeSet::is_empty);
        if is_empty { Ok(()) } else { self.tell_in_use().await }
    }

    /// What the Node object says, if it has been seen.
    fn seen_in_use(&self) -> Option<BTreeSet<String>> {
        let node = self.node.borrow().clone()?;
        let names = node.status.iter().flat_map(|status| status.volumes_in_use.iter().flatten());
        Some(names.cloned().collect())
    }
}

/// The volumes that had to be attached, in pods or staged, under the names that node status has for them. Blocks.
fn in_use(root: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut note = |record: Record| {
        if !record.attachment_id.is_empty() {
            names.insert(format!("kubernetes.io/csi/{}^{}", record.driver_name, record.volume_handle));
        }
    };
    for pod in record::directories(Paths::new(root, Path::new("")).all())? {
        record::of_pod(&pod)?.into_iter().for_each(|(_, record)| note(record));
    }
    record::staged(root)?.into_iter().for_each(|(_, record)| note(record));
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::CsiVolume;
    use super::*;

    #[test]
    fn attached_volumes_are_in_use_from_their_record_to_its_end() {
        let root = tempfile::tempdir().unwrap();
        let record = |handle: &str, attached: bool| {
            let volume = CsiVolume { driver: "d".into(), handle: handle.into(), ..Default::default() };
            let attachment = if attached { volume.attachment("n") } else { String::new() };
            Record { attachment_id: attachment, ..Record::of(&volume, "n") }
        };
        let pod = root.path().join("pods/uid/volumes/kubernetes.io~csi");
        let staged = root.path().join("plugins/kubernetes.io/csi/d/1234");
        assert_eq!(in_use(root.path()).unwrap(), BTreeSet::new());
        record("a", true).write(&pod.join("pv-a")).unwrap();
        record("b", false).write(&pod.join("pv-b")).unwrap();
        record("c", true).write(&staged).unwrap();
        let names = ["kubernetes.io/csi/d^a", "kubernetes.io/csi/d^c"].map(str::to_owned);
        assert_eq!(in_use(root.path()).unwrap(), BTreeSet::from(names.clone()));
        Record::remove(&staged, &staged.join("globalmount")).unwrap();
        assert_eq!(in_use(root.path()).unwrap(), BTreeSet::from([names[0].clone()]));
    }
}
