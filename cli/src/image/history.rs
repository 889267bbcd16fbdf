//! `knarr image history`: how an image came to be, in Docker's columns.

use crate::output;
use knarr_images::ImageStore;
use serde_json::Value;

/// Longer commands are cut, as Docker does.
const COMMAND_WIDTH: usize = 45;

/// Prints one row per step, the newest first.
pub(crate) fn run(store: &ImageStore, name: &str, whole: bool) -> anyhow::Result<()> {
    let found = store.inspect(&super::find(store, name)?)?;
    let sizes: Vec<u64> = found.layers.iter().map(|layer| layer.unpacked.0).collect();
    let mut rows = rows(found.config["history"].as_array().map_or(&[], Vec::as_slice), &sizes, whole);
    if let Some(first) = rows.first_mut().and_then(|row| row.first_mut()) {
        *first = super::ls::short_id(&found.image.id);
    }
    output::table(&["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], &rows);
    Ok(())
}

fn rows(history: &[Value], sizes: &[u64], whole: bool) -> Vec<Vec<String>> {
    let mut sizes = sizes.iter();
    let mut rows: Vec<Vec<String>> = history
        .iter()
        .map(|step| {
            let text = |key: &str| step[key].as_str().unwrap_or_default().replace(['\n', '\t'], " ");
            let size = if step["empty_layer"] == true { 0 } else { sizes.next().copied().unwrap_or(0) };
            let command = text("created_by");
            let shown = if whole { command } else { cut(&command) };
            vec!["<missing>".to_owned(), text("created"), shown, output::size(size), text("comment")]
        })
        .collect();
    rows.reverse();
    rows
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(COMMAND_WIDTH) {
        Some(_) => text.chars().take(COMMAND_WIDTH - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn layers_belong_to_the_steps_that_made_them() {
        let history =
            [json!({"created_by": "COPY"}), json!({"created_by": "ENV", "empty_layer": true}), json!({})];
        let rows = rows(&history, &[1000, 2], false);
        let shown: Vec<(&str, &str)> = rows.iter().map(|row| (row[2].as_str(), row[3].as_str())).collect();
        assert_eq!(shown, [("", "2B"), ("ENV", "0B"), ("COPY", "1.00kB")]);
        assert_eq!(cut(&"x".repeat(46)).chars().count(), 45);
    }
}
