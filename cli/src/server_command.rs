//! `knarr server`: the control plane alone.

use crate::args::Server;
use crate::instance::Instance;
use crate::settings::Settings;
use crate::{output, up};
use anyhow::bail;

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(settings: Settings, arguments: Server) -> anyhow::Result<()> {
    if !arguments.etcd.is_empty() {
        bail!("--etcd: not supported yet; objects are kept in the embedded store");
    }
    if arguments.store != "embedded" {
        bail!("--store {}: not known; the one store is embedded", arguments.store);
    }
    let instance = Instance::acquire(&settings.node.state_dir)?;
    let stop = up::stop_signal()?;
    let control_plane = up::start_control_plane(&settings, &arguments.control_plane).await?;
    output::line(&format!("knarr server is ready: kubeconfig {}", settings.admin_kubeconfig().display()));
    stop.await;
    control_plane.shutdown().await?;
    drop(instance);
    Ok(())
}
