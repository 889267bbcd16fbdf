//! `knarr image ls`, `knarr images`: one row per name, in Docker's columns.

use super::listed::{self, Look};
use crate::args::{Ls, Output};
use crate::{output, template};
use knarr_images::{Image, ImageStore};
use serde_json::{Value, json};

/// Header and field of each column.
const COLUMNS: [(&str, &str); 6] = [
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("DIGEST", "Digest"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
];

/// Lists images.
pub(crate) fn run(store: &ImageStore, arguments: &Ls) -> anyhow::Result<()> {
    if arguments.output == Output::Json {
        return output::json(&store.list()?.iter().map(as_json).collect::<Vec<_>>());
    }
    let look = Look::new(&arguments.filter, arguments.name.as_deref(), arguments.no_trunc)?;
    let mut listed = listed::all(store)?;
    look.keep(store, &mut listed)?;
    let rows: Vec<Value> = listed.iter().flat_map(|listed| listed.rows(&look)).collect();
    if arguments.quiet && arguments.format.is_none() {
        rows.iter().for_each(|row| output::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(());
    }
    let shown = |(_, field): &&(&str, &str)| arguments.digests || *field != "Digest";
    let columns: Vec<(&str, &str)> = COLUMNS.iter().filter(shown).copied().collect();
    template::print(&rows, arguments.format.as_deref(), &columns)
}

fn as_json(image: &Image) -> Value {
    json!({
        "id": image.id,
        "repoTags": image.tags,
        "repoDigests": image.digests,
        "size": image.size,
        "pinned": image.pinned,
    })
}
