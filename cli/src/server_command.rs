//! `knarr server`: the control plane alone, and what can be done with its data.

use crate::args::{Server, ServerCommand};
use crate::instance::Instance;
use crate::settings::Settings;
use crate::{output, up};
use anyhow::bail;
use knarr_control::{EtcdTls, backup};
use std::path::Path;

/// Serves until SIGTERM or SIGINT, or does what the command says.
pub(crate) async fn run(settings: Settings, arguments: Server) -> anyhow::Result<()> {
    match &arguments.command {
        Some(ServerCommand::Backup { file }) => save(&settings, file).await,
        Some(ServerCommand::Restore { force, file }) => restore(&settings, file.clone(), *force).await,
        None => serve(&settings, &arguments).await,
    }
}

async fn serve(settings: &Settings, arguments: &Server) -> anyhow::Result<()> {
    let store = (etcd(arguments)?, etcd_tls(arguments));
    let instance = Instance::acquire(&settings.node.state_dir)?;
    let stop = up::stop_signal()?;
    let control_plane = up::start_control_plane(settings, &arguments.control_plane, store).await?;
    output::line(&format!("knarr server is ready: kubeconfig {}", settings.admin_kubeconfig().display()));
    stop.await;
    control_plane.shutdown().await?;
    drop(instance);
    Ok(())
}

async fn save(settings: &Settings, file: &Path) -> anyhow::Result<()> {
    let saved = backup::save(&settings.admin_client().await?, &settings.node.data_dir, file).await?;
    output::line(&format!("saved {} objects at revision {}", saved.objects, saved.revision));
    Ok(())
}

async fn restore(settings: &Settings, file: std::path::PathBuf, force: bool) -> anyhow::Result<()> {
    let instance = Instance::acquire(&settings.node.state_dir)?;
    let directory = settings.node.data_dir.clone();
    let restored = tokio::task::spawn_blocking(move || backup::restore(&file, &directory, force)).await??;
    output::line(&format!("restored {} objects of revision {}", restored.objects, restored.revision));
    drop(instance);
    Ok(())
}

/// URLs of the members of etcd; none where the store is embedded. `--store etcd://HOST:PORT,HOST:PORT` and
/// `--etcd http://HOST:PORT,...` say the same.
fn etcd(arguments: &Server) -> anyhow::Result<Vec<String>> {
    let scheme = if arguments.etcd_cafile.is_some() { "https" } else { "http" };
    match arguments.store.strip_prefix("etcd://") {
        Some(members) => Ok(members.split(',').map(|member| format!("{scheme}://{member}")).collect()),
        None if arguments.store == "embedded" => Ok(arguments.etcd.clone()),
        None => bail!("--store {}: want embedded or etcd://HOST:PORT,...", arguments.store),
    }
}

fn etcd_tls(arguments: &Server) -> EtcdTls {
    let identity = arguments.etcd_certfile.clone().zip(arguments.etcd_keyfile.clone());
    EtcdTls { ca: arguments.etcd_cafile.clone(), identity }
}
