//! What is in force: the configuration file, then the command line on top of it. Resolved once, handed down.

use crate::args::{Global, NodeOptions};
use anyhow::Context;
use knarr_agent::config::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use std::path::{Path, PathBuf};

/// The settings of one command.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Everything about the node.
    pub(crate) node: Config,
    /// Where that was read from.
    pub(crate) file: PathBuf,
}

impl Settings {
    /// Reads the file (a missing one is the default; a broken one is an error that names the key) and applies flags.
    pub(crate) fn resolve(global: &Global) -> anyhow::Result<Self> {
        let mut node = read(&global.config)?;
        if let Some(directory) = &global.data_dir {
            node.data_dir = std::path::absolute(directory)?;
        }
        if let Some(directory) = &global.state_dir {
            node.state_dir = std::path::absolute(directory)?;
        }
        Ok(Self { node, file: std::path::absolute(&global.config)? })
    }

    /// The same with a node's own flags applied.
    pub(crate) fn with_node_options(mut self, options: &NodeOptions) -> Self {
        if let Some(name) = &options.node_name {
            self.node.node_name = Some(name.clone());
        }
        if let Some(listen) = options.kubelet_listen {
            self.node.kubelet.listen = listen;
        }
        if let Some(ip) = options.node_ip {
            self.node.kubelet.node_ip = Some(ip);
        }
        self
    }

    /// Where images are kept; shared by agent, `knarr image` and `knarr run`.
    pub(crate) fn images_dir(&self) -> PathBuf {
        self.node.data_dir.join("images")
    }

    /// Credentials of the administrator, written by the control plane.
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.node.data_dir.join("admin.kubeconfig")
    }

    /// A client of the control plane on this machine, with those credentials.
    pub(crate) async fn admin_client(&self) -> anyhow::Result<kube::Client> {
        let file = self.admin_kubeconfig();
        let kubeconfig = Kubeconfig::read_from(&file)
            .with_context(|| format!("{} (is the control plane on this machine?)", file.display()))?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }
}

fn read(file: &Path) -> anyhow::Result<Config> {
    match std::fs::read_to_string(file) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{}", file.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Config::default()),
        Err(error) => Err(error).with_context(|| format!("{}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_names_its_key() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        std::fs::write(&file, "[network]\nbrigde = \"x\"\n").unwrap();
        let error = format!("{:#}", read(&file).unwrap_err());
        assert!(error.contains("brigde"), "{error}");
    }

    #[test]
    fn a_missing_file_is_the_default() {
        let config = read(Path::new("/nonexistent/config.toml")).unwrap();
        assert_eq!(config.network.bridge, "knarr0");
    }
}
