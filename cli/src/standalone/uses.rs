//! Which containers stand on which images: what may not be removed under their feet.

use super::{Standalone, is_running, places};
use crate::settings::Settings;

/// One container.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    pub(crate) container_id: String,
    pub(crate) image_id: String,
    pub(crate) running: bool,
}

/// Every container with its image.
pub(crate) async fn uses(settings: &Settings) -> anyhow::Result<Vec<Use>> {
    let mut uses = Vec::new();
    for place in places::all(settings)? {
        // One that is being removed is none.
        let Ok(place) = Standalone::at(settings, place).await else { continue };
        let Some(container) = place.container().await? else { continue };
        let image_id = place.status().await?.map(|status| status.image_id).unwrap_or_default();
        uses.push(Use { running: is_running(&container), container_id: container.id, image_id });
    }
    Ok(uses)
}
