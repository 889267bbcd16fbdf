//! `knarr engine`: the CRI v1 server alone, in the slot of containerd.

use crate::args::Engine;
use crate::instance::Instance;
use crate::settings::Settings;
use crate::{output, print_config, service_manager, up};

/// Serves until SIGTERM or SIGINT; containers go on.
pub(crate) async fn run(mut settings: Settings, arguments: Engine) -> anyhow::Result<()> {
    if let Some(listen) = &arguments.listen {
        settings.node.engine.listen = Some(listen.strip_prefix("unix://").unwrap_or(listen).into());
    }
    if arguments.print_config {
        output::line(print_config::text(&settings.node)?.trim_end());
        return Ok(());
    }
    let instance = Instance::acquire(&settings.node.state_dir)?;
    let stop = up::stop_signal()?;
    let socket = settings.node.cri_socket();
    let ready = || {
        output::line(&format!("knarr engine listens on unix://{}", socket.display()));
        service_manager::ready();
    };
    let stop = async {
        stop.await;
        service_manager::stopping();
    };
    knarr_agent::engine::serve(std::sync::Arc::new(settings.node), ready, stop).await?;
    drop(instance);
    Ok(())
}
