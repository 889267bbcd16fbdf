//! A pod's part in one of its networks: what it asks for, and what it has.
//!
//! Kubernetes' pods have one network. Containers of `knarr run` may have several: each is a part of its own, with a link, an
//! address and a record of its own, and one of them is the way to everything else.

use super::ledger::{Allocation, Ledger};
use super::links::{self, POD_LINK};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Name of the link in the pod.
    pub link: String,
    /// The address, where one is wanted.
    pub address: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub second: Option<Ipv6Addr>,
    /// The same of the link.
    pub hardware: Option<[u8; 6]>,
    /// What is for none of the pod's networks goes this way.
    pub way_out: bool,
}

impl Default for Part {
    fn default() -> Self {
        Self { link: POD_LINK.to_owned(), address: None, second: None, hardware: None, way_out: true }
    }
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    #[allow(missing_docs)]
    pub link: String,
    #[allow(missing_docs)]
    pub hardware: [u8; 6],
    #[allow(missing_docs)]
    pub address: Ipv4Addr,
    /// The bridge's own address, and the length of the range's prefix.
    pub gateway: (Ipv4Addr, u8),
    /// The same of IPv6, where there is that.
    pub second: Option<(Ipv6Addr, (Ipv6Addr, u8))>,
}

impl From<Allocation> for Held {
    fn from(pod: Allocation) -> Self {
        Self {
            hardware: pod.hardware.unwrap_or_else(|| links::hardware_address(pod.address)),
            link: pod.link,
            address: pod.address,
            gateway: (pod.gateway, pod.prefix),
            second: pod.second.map(|second| (second.address, (second.gateway, second.prefix))),
        }
    }
}

/// What the sandbox has in the networks whose records are in this directory.
///
/// # Errors
/// Where its record cannot be read.
pub fn held(directory: &Path, sandbox_id: &str) -> anyhow::Result<Option<Held>> {
    Ok(Ledger::new(directory.to_owned()).find(sandbox_id)?.map(Held::from))
}
