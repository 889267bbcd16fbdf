//! `knarr image history`: how an image came to be, in Docker's columns.

use super::listed::short_id;
use crate::args::History;
use crate::{age, output, template};
use jiff::Timestamp;
use knarr_images::ImageStore;
use serde_json::{Value, json};

/// Longer commands are cut, as Docker does.
const COMMAND_WIDTH: usize = 45;

/// Header and field of each column.
const COLUMNS: [(&str, &str); 5] = [
    ("IMAGE", "ID"),
    ("CREATED", "Created"),
    ("CREATED BY", "CreatedBy"),
    ("SIZE", "Size"),
    ("COMMENT", "Comment"),
];

/// Prints one row per step, the newest first.
pub(crate) fn run(store: &ImageStore, arguments: &History) -> anyhow::Result<()> {
    let image = super::find(store, &arguments.name)?;
    super::expect_platform(store, &image, &arguments.name, arguments.platform.as_deref())?;
    let found = store.inspect(&image)?;
    let sizes: Vec<u64> = found.layers.iter().map(|layer| layer.unpacked.0).collect();
    let steps = found.config["history"].as_array().map_or(&[][..], Vec::as_slice);
    let mut rows = rows(steps, &sizes, arguments);
    if let Some(first) = rows.first_mut() {
        let id = &found.image.id;
        first["ID"] = if arguments.no_trunc { id.clone() } else { short_id(id) }.into();
    }
    if arguments.quiet {
        rows.iter().for_each(|row| output::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(());
    }
    template::print(&rows, arguments.format.as_deref(), &COLUMNS)
}

fn rows(history: &[Value], sizes: &[u64], arguments: &History) -> Vec<Value> {
    let (now, mut sizes) = (Timestamp::now(), sizes.iter());
    let mut rows: Vec<Value> = history
        .iter()
        .map(|step| {
            let text = |key: &str| step[key].as_str().unwrap_or_default().replace(['\n', '\t'], " ");
            let size = if step["empty_layer"] == true { 0 } else { sizes.next().copied().unwrap_or(0) };
            let (command, created) = (text("created_by"), text("created"));
            let time = created.parse().ok();
            let since = age::since(time, now);
            json!({
                "ID": "<missing>",
                "Created": if arguments.human { since.clone() } else { created.clone() },
                "CreatedSince": since,
                "CreatedAt": created,
                "CreatedBy": if arguments.no_trunc { command } else { cut(&command) },
                "Size": if arguments.human { output::size(size) } else { size.to_string() },
                "Comment": text("comment"),
            })
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

    #[test]
    fn layers_belong_to_the_steps_that_made_them() {
        let history =
            [json!({"created_by": "COPY"}), json!({"created_by": "ENV", "empty_layer": true}), json!({})];
        let arguments = History {
            no_trunc: false,
            quiet: false,
            human: true,
            format: None,
            platform: None,
            name: String::new(),
        };
        let rows = rows(&history, &[1000, 2], &arguments);
        let shown: Vec<[&Value; 2]> = rows.iter().map(|row| [&row["CreatedBy"], &row["Size"]]).collect();
        assert_eq!(json!(shown), json!([["", "2B"], ["ENV", "0B"], ["COPY", "1kB"]]));
        assert_eq!(cut(&"x".repeat(46)).chars().count(), 45);
    }
}
