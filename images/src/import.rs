//! A directory or a tar becomes an image of one layer.

use std::collections::BTreeMap;

/// How containers of an imported image start; empty fields are left out of the image's config.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportConfig {
    /// Default arguments.
    pub cmd: Vec<String>,
    /// Default program.
    pub entrypoint: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Where the process starts.
    pub workdir: String,
    /// `user[:group]`, names or numbers.
    pub user: String,
    /// Metadata.
    pub labels: BTreeMap<String, String>,
    /// `8080/tcp`.
    pub exposed_ports: Vec<String>,
}
