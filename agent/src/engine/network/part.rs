//! A pod's part in one of its networks: what it asks for, and what it has.
//!
//! Kubernetes' pods have one network. Containers of `knarr run` may have several: each is a part of its own, with a link, an
//! address and a record of its own, and one of them is the way to everything else.

use super::bridge::BridgeNetwork;
use super::ledger::{Allocation, Ledger};
use super::links::{self, POD_LINK};
use super::{PodAttachment, PodNetwork};
use async_trait::async_trait;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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

/// A network in which a pod has one of its parts.
#[async_trait]
pub trait PartNetwork: PodNetwork {
    /// Attaches the pod by a link that it asks for; a second call puts right what has changed of that. Answers its addresses.
    async fn join(&self, pod: &PodAttachment, part: &Part) -> anyhow::Result<Vec<IpAddr>>;

    /// Takes a pod out that lives on, in this namespace; returns when nothing of its part is left.
    async fn leave(&self, sandbox_id: &str, netns: &Path) -> anyhow::Result<()>;
}

#[async_trait]
impl PartNetwork for BridgeNetwork {
    async fn join(&self, pod: &PodAttachment, part: &Part) -> anyhow::Result<Vec<IpAddr>> {
        Self::join(self, pod, part).await
    }

    /// Both ends of a pair of links end with one of them.
    async fn leave(&self, sandbox_id: &str, _netns: &Path) -> anyhow::Result<()> {
        self.release(sandbox_id).await
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
