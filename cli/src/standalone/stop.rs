//! `knarr stop`: the stop signal, a grace period, SIGKILL.

use super::each::each;
use super::{Standalone, sweep};
use crate::args::Stop;
use crate::settings::Settings;

/// Stops every one it can, then reports those it could not.
pub(crate) async fn run(settings: Settings, arguments: Stop) -> anyhow::Result<()> {
    each(&arguments.names, async |name| {
        let place = Standalone::find(&settings, name).await?;
        place.stop(arguments.time, arguments.signal.as_deref()).await?;
        sweep(&settings, &place).await?;
        Ok(name.to_owned())
    })
    .await
}
