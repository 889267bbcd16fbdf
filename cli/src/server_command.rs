//! `knarr server`: the control plane alone.

use crate::args::Server;
use crate::instance::Instance;
use crate::settings::Settings;
use crate::{output, up};
use anyhow::bail;

/// Serves until SIGTERM or SIGINT.
pub(crate) async fn run(settings: Settings, arguments: Server) -> anyhow::Result<()> {
    let etcd = etcd(&arguments)?;
    let instance = Instance::acquire(&settings.node.state_dir)?;
    let stop = up::stop_signal()?;
    let control_plane = up::start_control_plane(&settings, &arguments.control_plane, etcd).await?;
    output::line(&format!("knarr server is ready: kubeconfig {}", settings.admin_kubeconfig().display()));
    stop.await;
    control_plane.shutdown().await?;
    drop(instance);
    Ok(())
}

/// URLs of the members of etcd; none where the store is embedded. `--store etcd://HOST:PORT,HOST:PORT` and
/// `--etcd http://HOST:PORT,...` say the same.
fn etcd(arguments: &Server) -> anyhow::Result<Vec<String>> {
    match arguments.store.strip_prefix("etcd://") {
        Some(members) => Ok(members.split(',').map(|member| format!("http://{member}")).collect()),
        None if arguments.store == "embedded" => Ok(arguments.etcd.clone()),
        None => bail!("--store {}: want embedded or etcd://HOST:PORT,...", arguments.store),
    }
}
