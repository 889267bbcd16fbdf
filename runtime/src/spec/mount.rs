//! `mounts[]`: what is mounted into the root filesystem, in order.

use super::IdMapping;

object! {
    /// One mount.
    pub struct Mount {
        /// Absolute path inside the container.
        destination: String,
        #[serde(rename = "type")]
        fs_type: String,
        source: String,
        options: Vec<String>,
        uid_mappings: Vec<IdMapping>,
        gid_mappings: Vec<IdMapping>,
    }
}
