//! `knarr top`: a live view of pods and containers.

use crate::settings::Settings;
use anyhow::bail;

/// Shows the pods of the running agent.
pub(crate) async fn run(settings: Settings) -> anyhow::Result<()> {
    let _ = settings;
    bail!("top: not supported yet; `knarr ps` lists stand-alone containers, kubectl lists pods")
}
