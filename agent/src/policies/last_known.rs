//! Which pods policies selected when this node last heard of them, on disk: an agent that starts while the API server is
//! away, or a machine that boots without it, holds up those pods, and no others.

use super::policy::Policy;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// The file, and what it says.
#[derive(Debug)]
pub(super) struct LastKnown {
    file: PathBuf,
    /// Policies without their rules, in the order of their names; absent where there is no file that can be read.
    selecting: Option<Vec<NetworkPolicy>>,
}

impl LastKnown {
    /// Reads the file. Blocks.
    pub(super) fn read(directory: &Path) -> Self {
        let file = directory.join("policies.json");
        let selecting = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { file, selecting }
    }

    /// The policies, as far as it can be told from them which pods they select.
    pub(super) fn policies(&self) -> Option<Arc<Vec<Policy>>> {
        self.selecting.as_ref().map(|selecting| Arc::new(selecting.iter().filter_map(Policy::new).collect()))
    }

    /// Writes what is known now, where that is something new.
    pub(super) async fn keep(&mut self, policies: &[Arc<NetworkPolicy>]) {
        let mut now: Vec<NetworkPolicy> = policies.iter().map(|policy| without_rules(policy)).collect();
        now.sort_by_key(|policy| (policy.metadata.namespace.clone(), policy.metadata.name.clone()));
        if self.selecting.as_ref() == Some(&now) {
            return;
        }
        let file = self.file.clone();
        let written = spawn_blocking(move || write(&file, &now).map(|()| now)).await;
        match written.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(now) => self.selecting = Some(now),
            Err(error) => tracing::warn!(%error, "{} not written", self.file.display()),
        }
    }
}

fn write(file: &Path, policies: &[NetworkPolicy]) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    let mut fresh = tempfile::NamedTempFile::new_in(directory)?;
    fresh.write_all(&serde_json::to_vec(policies)?)?;
    fresh.as_file().sync_data()?;
    fresh.persist(file).map(drop).map_err(|error| error.error)
}

fn without_rules(policy: &NetworkPolicy) -> NetworkPolicy {
    let metadata = ObjectMeta {
        namespace: policy.metadata.namespace.clone(),
        name: policy.metadata.name.clone(),
        ..ObjectMeta::default()
    };
    let spec = policy.spec.as_ref().map(|spec| NetworkPolicySpec {
        pod_selector: spec.pod_selector.clone(),
        ..NetworkPolicySpec::default()
    });
    NetworkPolicy { metadata, spec }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn policy(name: &str) -> Arc<NetworkPolicy> {
        let object = json!({"metadata": {"namespace": "default", "name": name, "uid": "u", "resourceVersion": "7"},
            "spec": {"podSelector": {"matchLabels": {"app": name}}, "egress": [{}]}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[tokio::test]
    async fn the_next_agent_knows_whom_policies_selected() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("network");
        let mut first = LastKnown::read(&place);
        assert!(first.policies().is_none());
        first.keep(&[policy("b"), policy("a")]).await;
        let mut next = LastKnown::read(&place);
        let known = next.policies().unwrap();
        let selects =
            |app: &str| known.iter().any(|one| one.selects("default", &[("app".into(), app.into())].into()));
        assert_eq!(["a", "b", "c"].map(selects), [true, true, false]);
        let modified = || std::fs::metadata(place.join("policies.json")).unwrap().modified().unwrap();
        let before = modified();
        next.keep(&[policy("a"), policy("b")]).await;
        assert_eq!(modified(), before, "nothing new is not written");
        next.keep(&[]).await;
        assert!(LastKnown::read(&place).policies().unwrap().is_empty());
        std::fs::write(place.join("policies.json"), "[{").unwrap();
        assert!(LastKnown::read(&place).policies().is_none());
    }
}
