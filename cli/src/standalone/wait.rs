//! `knarr wait`: blocks until containers have ended; prints their exit codes.

use super::each::each;
use super::{Standalone, is_running, sweep};
use crate::settings::Settings;

/// Waits for one after the other.
pub(crate) async fn run(settings: Settings, names: &[String]) -> anyhow::Result<()> {
    each(names, async |name| {
        let place = Standalone::find(&settings, name).await?;
        let container = place.expect().await?;
        let code = match is_running(&container) {
            true => place.monitors.wait(&container.pod_sandbox_id, &container.id).await?.code,
            false => place.status().await?.map_or(0, |status| status.exit_code),
        };
        sweep(&settings, &place).await?;
        Ok(code.to_string())
    })
    .await
}
