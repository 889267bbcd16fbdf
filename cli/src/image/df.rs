//! `knarr image df`: what images take on disk, together and each.

use crate::image::listed::short_id;
use crate::output;
use knarr_images::ImageStore;

/// One row per image; what several share counts once in the sum.
pub(crate) fn run(store: &ImageStore) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for usage in store.disk_usage()? {
        let image = &usage.image;
        let name = image.tags.first().map_or("<none>", String::as_str);
        rows.push(vec![
            name.to_owned(),
            short_id(&image.id),
            output::size(usage.total),
            output::size(usage.total - usage.unique),
            output::size(usage.unique),
        ]);
    }
    output::table(&["IMAGE", "IMAGE ID", "SIZE", "SHARED SIZE", "UNIQUE SIZE"], &rows);
    output::line(&format!("Total: {}", output::size(store.usage()?.0)));
    Ok(())
}
