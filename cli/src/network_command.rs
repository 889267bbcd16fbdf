//! `knarr network`: services and routes of this node, for a person.

use crate::settings::Settings;
use anyhow::bail;

/// Prints what the node's table holds.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    bail!("network: not supported yet; `nft list table inet {}` shows the rules", settings.node.network.table)
}
