//! What is remembered of an attachment: enough to say in DEL and CHECK exactly what was said in ADD, even when the
//! configuration has changed since. One file per sandbox.

use super::super::{HostPort, PodAttachment};
use super::config::NetworkList;
use super::request;
use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// One pod on the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) sandbox_id: String,
    /// The data directory of the agent or command that owns the sandbox.
    pub(crate) owner: PathBuf,
    pub(crate) netns: PathBuf,
    /// `CNI_ARGS`.
    pub(crate) args: String,
    /// By capability.
    pub(crate) runtime_config: Map<String, Value>,
    pub(crate) list: NetworkList,
    /// The result of ADD; absent while it is not complete.
    pub(crate) result: Option<Value>,
}

impl Attachment {
    pub(crate) fn new(pod: &PodAttachment, owner: &Path, list: NetworkList, pod_cidr: Option<&str>) -> Self {
        Self {
            sandbox_id: pod.sandbox_id.clone(),
            owner: owner.to_owned(),
            netns: pod.netns.clone(),
            args: request::args(pod),
            runtime_config: request::runtime_config(pod, pod_cidr),
            list,
            result: None,
        }
    }
}

impl HostPort {
    /// As the `portMappings` capability has it.
    pub(crate) fn mapping(&self) -> Value {
        serde_json::json!({
            "hostPort": self.host_port,
            "containerPort": self.container_port,
            "protocol": self.protocol,
            "hostIP": self.host_ip.map(|address| address.to_string()).unwrap_or_default(),
        })
    }
}

/// The directory of attachments.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(crate) fn find(&self, sandbox_id: &str) -> anyhow::Result<Option<Attachment>> {
        let path = self.path(sandbox_id)?;
        match fs::read(&path) {
            Ok(text) => {
                let attachment = serde_json::from_slice(&text);
                attachment.with_context(|| format!("CNI attachment {}", path.display())).map(Some)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    }

    pub(crate) fn all(&self) -> anyhow::Result<Vec<Attachment>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("read {}", self.dir.display())),
        };
        let mut found = Vec::new();
        for entry in entries {
            let name = entry.with_context(|| format!("read {}", self.dir.display()))?.file_name();
            if let Some(sandbox_id) = name.to_str().and_then(|name| name.strip_suffix(".json")) {
                found.extend(self.find(sandbox_id)?);
            }
        }
        Ok(found)
    }

    /// Synced: it must survive a power failure, because what a plugin has allocated does.
    pub(crate) fn write(&self, attachment: &Attachment) -> anyhow::Result<()> {
        let path = self.path(&attachment.sandbox_id)?;
        let write = || -> anyhow::Result<()> {
            fs::create_dir_all(&self.dir)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            serde_json::to_writer(&mut file, attachment)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    pub(crate) fn remove(&self, sandbox_id: &str) -> anyhow::Result<()> {
        let path = self.path(sandbox_id)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The specification's rule for container ids, which also keeps them from being paths.
    fn path(&self, sandbox_id: &str) -> anyhow::Result<PathBuf> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let valid = sandbox_id.starts_with(|c: char| c.is_ascii_alphanumeric()) && sandbox_id.len() <= 200;
        ensure!(valid && sandbox_id.bytes().all(plain), "invalid sandbox id: {sandbox_id:?}");
        Ok(self.dir.join(format!("{sandbox_id}.json")))
    }
}
