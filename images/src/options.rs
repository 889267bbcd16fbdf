//! What can be set when a store is opened.

use crate::registry::proxy::Proxies;
use std::path::PathBuf;

/// How an unpacked layer is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerKind {
    /// In one file where this kernel can mount it, else as a directory.
    #[default]
    Auto,
    /// A directory of files: works on every kernel.
    Directory,
    /// One EROFS image per layer, made by us while the layer streams in, mounted from its file (kernel 6.12)
    /// while a container stands on it.
    Erofs,
    /// A full copy per container, where the kernel refuses overlay.
    Copy,
}

/// Settings of a store; the default is what a fresh machine should use.
#[derive(Debug, Clone)]
pub struct Options {
    /// New layers are held this way; layers already there stay as they are.
    pub layers: LayerKind,
    /// Directory with `HOST[:PORT]/hosts.toml` files as containerd reads them: mirrors, certificates, plain HTTP.
    pub hosts_dir: Option<PathBuf>,
    /// Files with credentials for registries, as `docker login` writes them: the first one that has any for a name counts.
    pub logins: Vec<PathBuf>,
    /// Which images may be pulled and run (docs/images.md); everything where there is no such file.
    pub policy: Option<PathBuf>,
    /// Registries (`host:port`) that are spoken to in plain HTTP. Loopback addresses always are.
    pub plain_http: Vec<String>,
    /// How registries are reached; the environment's where nothing else is said.
    pub proxies: Proxies,
    /// How many layers of one pull are fetched and unpacked at the same time; 0 is as many as suits the machine.
    pub parallel: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            layers: LayerKind::default(),
            hosts_dir: Some(PathBuf::from("/etc/knarr/hosts.d")),
            logins: Vec::new(),
            policy: Some(PathBuf::from("/etc/knarr/policy.toml")),
            plain_http: Vec::new(),
            proxies: Proxies::from_env(),
            parallel: 0,
        }
    }
}
