//! `knarr restart`: stop, then start.

use super::each::each;
use super::restarts::History;
use super::{Standalone, start};
use crate::args::Stop;
use crate::settings::Settings;

/// Restarts every one it can, then reports those it could not.
pub(crate) async fn run(settings: Settings, arguments: Stop) -> anyhow::Result<()> {
    each(&arguments.names, async |name| {
        let place = Standalone::find(&settings, name).await?;
        place.stop(arguments.time, arguments.signal.as_deref()).await?;
        start::begin(&settings, &place, History::default()).await?;
        place.tell("restart", &[]).await;
        Ok(name.to_owned())
    })
    .await
}
