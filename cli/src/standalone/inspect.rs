//! `knarr inspect`: containers, images, networks and volumes as JSON or through a template, in the words of `docker inspect`.

use super::facts::Facts;
use super::{Standalone, networks, places, ps, volumes};
use crate::args::Inspect;
use crate::image::{self, document};
use crate::inspection;
use crate::settings::Settings;
use anyhow::anyhow;
use serde_json::{Value, json};

/// Prints a list with one object per name, or a line each.
pub(crate) async fn run(settings: Settings, arguments: Inspect) -> anyhow::Result<()> {
    let mut answers = Vec::new();
    for name in &arguments.names {
        answers.push(document(&settings, name, &arguments).await);
    }
    inspection::print(answers, arguments.format.as_deref())
}

/// What has the name, of the kind that is asked for or of the first that there is.
async fn document(settings: &Settings, name: &str, arguments: &Inspect) -> anyhow::Result<Value> {
    match arguments.kind.as_deref() {
        Some("container") => container(settings, name, arguments.size).await,
        Some("image") => of_image(settings, name),
        Some("network") => networks::document(settings, name, &ps::facts(settings).await?),
        Some(_) => volumes::document(settings, name),
        None => match container(settings, name, arguments.size).await {
            Err(error) if is_missing(&error, name) => {
                if let Ok(image) = of_image(settings, name) {
                    return Ok(image);
                }
                let network = networks::document(settings, name, &ps::facts(settings).await?);
                network
                    .or_else(|_| volumes::document(settings, name))
                    .map_err(|_| anyhow!("No such object: {name}"))
            }
            found => found,
        },
    }
}

fn is_missing(error: &anyhow::Error, name: &str) -> bool {
    error.to_string() == places::no_such(name).to_string()
}

async fn container(settings: &Settings, name: &str, sized: bool) -> anyhow::Result<Value> {
    let place = Standalone::find(settings, name).await?;
    let facts = Facts::expect(&place).await?;
    let mut document = facts.document(settings, &place.log_file());
    if sized {
        let store = image::open(settings)?;
        let written = facts.written(&store);
        let image = store.find(&facts.status.image_id)?;
        let below = image.map(|image| document::of(&store, &image)).transpose()?.unwrap_or_default();
        document["SizeRw"] = json!(written);
        document["SizeRootFs"] = json!(written + below["Size"].as_u64().unwrap_or(0));
    }
    Ok(document)
}

fn of_image(settings: &Settings, name: &str) -> anyhow::Result<Value> {
    let store = image::open(settings)?;
    document::of(&store, &image::find(&store, name)?)
}
