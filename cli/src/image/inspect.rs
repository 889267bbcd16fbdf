//! `knarr image inspect`: everything known about images, in the words of `docker image inspect`.

use super::document;
use crate::args::InspectImages;
use crate::inspection;
use knarr_images::ImageStore;

/// Prints a list with one object per image, or a line each.
pub(crate) fn run(store: &ImageStore, arguments: &InspectImages) -> anyhow::Result<()> {
    let of = |name: &String| {
        let image = super::find(store, name)?;
        super::expect_platform(store, &image, name, arguments.platform.as_deref())?;
        document::of(store, &image)
    };
    inspection::print(arguments.names.iter().map(of).collect(), arguments.format.as_deref())
}
