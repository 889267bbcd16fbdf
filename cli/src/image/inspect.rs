//! `knarr image inspect`: everything known about images, in the words of `docker image inspect`.

use super::document;
use crate::args::InspectImages;
use crate::{output, template};
use anyhow::bail;
use knarr_images::ImageStore;

/// Prints a list with one object per image, or a line each.
pub(crate) fn run(store: &ImageStore, arguments: &InspectImages) -> anyhow::Result<()> {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in &arguments.names {
        match super::find(store, name).and_then(|image| document::of(store, &image)) {
            Ok(document) => found.push(document),
            Err(error) => failures.push(output::describe(&error)),
        }
    }
    match arguments.format.as_deref() {
        None => output::json(&found)?,
        Some("json") => output::line(&serde_json::to_string(&found)?),
        Some(format) => {
            let template = template::Template::parse(format)?;
            for document in found {
                output::line(&template.render(&document::for_template(document))?);
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
}
