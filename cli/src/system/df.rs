//! `knarr system df`: what images, containers and volumes take on disk, and what nobody needs of it.

use crate::args::Df;
use crate::image::listed::{self, Look};
use crate::settings::Settings;
use crate::standalone::facts::Facts;
use crate::standalone::{ps, volumes};
use crate::{image, output, template};
use knarr_images::ImageStore;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Header and field of each column.
const COLUMNS: [(&str, &str); 5] = [
    ("TYPE", "Type"),
    ("TOTAL", "TotalCount"),
    ("ACTIVE", "Active"),
    ("SIZE", "Size"),
    ("RECLAIMABLE", "Reclaimable"),
];

/// A kind of thing: how many there are, how many of them are used, bytes of all, bytes of what is not used.
#[derive(Debug, Clone, Copy)]
struct Sum {
    kind: &'static str,
    total: usize,
    active: usize,
    bytes: u64,
    idle: u64,
}

impl Sum {
    fn row(self) -> Value {
        let percent = self.idle.checked_mul(100).and_then(|part| part.checked_div(self.bytes));
        let reclaimable = match percent {
            Some(percent) => format!("{} ({percent}%)", output::size(self.idle)),
            None => output::size(self.idle),
        };
        json!({
            "Type": self.kind, "TotalCount": self.total.to_string(), "Active": self.active.to_string(),
            "Size": output::size(self.bytes), "Reclaimable": reclaimable,
        })
    }
}

/// Prints a row for each kind, or one for each thing.
pub(crate) async fn run(settings: &Settings, arguments: &Df) -> anyhow::Result<()> {
    let store = image::open(settings)?;
    let facts = ps::facts(settings).await?;
    let used = volumes::in_use(settings).await?;
    if arguments.verbose {
        return verbose(settings, &store, &facts, &used);
    }
    let [images, builds] = of_images(&store, &facts)?;
    let sums = [images, of_containers(&store, &facts), of_volumes(settings, &used)?, builds];
    let rows: Vec<Value> = sums.into_iter().map(Sum::row).collect();
    template::print(&rows, arguments.format.as_deref(), &COLUMNS)
}

/// Images, and what builds keep beside them.
fn of_images(store: &ImageStore, facts: &[Facts]) -> anyhow::Result<[Sum; 2]> {
    let usages = store.disk_usage()?;
    let is_used = |id: &str| facts.iter().any(|facts| facts.status.image_id == id);
    let (all, images) = (store.usage()?.0, store.usage_of_images(|_| true)?);
    let idle = images - store.usage_of_images(|image| is_used(&image.id))?.min(images);
    let active = usages.iter().filter(|usage| is_used(&usage.image.id)).count();
    let rest = all.saturating_sub(images);
    Ok([
        Sum { kind: "Images", total: usages.len(), active, bytes: images, idle },
        Sum { kind: "Build Cache", total: 0, active: 0, bytes: rest, idle: rest },
    ])
}

fn of_containers(store: &ImageStore, facts: &[Facts]) -> Sum {
    let runs = |facts: &&Facts| matches!(facts.state(), "running" | "paused" | "restarting");
    let bytes = facts.iter().map(|facts| facts.written(store)).sum();
    let active = facts.iter().filter(runs).count();
    let idle = facts.iter().filter(|facts| !runs(facts)).map(|facts| facts.written(store)).sum();
    Sum { kind: "Containers", total: facts.len(), active, bytes, idle }
}

fn of_volumes(settings: &Settings, used: &BTreeSet<String>) -> anyhow::Result<Sum> {
    let names = volumes::all(settings)?;
    let bytes = names.iter().map(|name| volumes::bytes(settings, name)).sum();
    let idle = names.iter().filter(|name| !used.contains(*name));
    let idle = idle.map(|name| volumes::bytes(settings, name)).sum();
    let active = names.iter().filter(|name| used.contains(*name)).count();
    Ok(Sum { kind: "Local Volumes", total: names.len(), active, bytes, idle })
}

fn verbose(
    settings: &Settings,
    store: &ImageStore,
    facts: &[Facts],
    used: &BTreeSet<String>,
) -> anyhow::Result<()> {
    output::line("Images space usage:\n");
    image_rows(store, facts)?;
    output::line("\nContainers space usage:\n");
    let now = jiff::Timestamp::now();
    let rows: Vec<Value> = facts
        .iter()
        .map(|facts| {
            let mut row = ps::row(facts, now, false);
            row["Size"] = output::size(facts.written(store)).into();
            row
        })
        .collect();
    let columns = [
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("LOCAL VOLUMES", "LocalVolumes"),
        ("SIZE", "Size"),
        ("CREATED", "RunningFor"),
        ("STATUS", "Status"),
        ("NAMES", "Names"),
    ];
    template::print(&rows, None, &columns)?;
    output::line("\nLocal Volumes space usage:\n");
    let row = |name: &String| {
        let size = output::size(volumes::bytes(settings, name));
        json!({"Name": name, "Links": u8::from(used.contains(name)).to_string(), "Size": size})
    };
    let rows: Vec<Value> = volumes::all(settings)?.iter().map(row).collect();
    template::print(&rows, None, &[("VOLUME NAME", "Name"), ("LINKS", "Links"), ("SIZE", "Size")])
}

fn image_rows(store: &ImageStore, facts: &[Facts]) -> anyhow::Result<()> {
    let (usages, look) = (store.disk_usage()?, Look::new(&[], None, false)?);
    let mut rows = Vec::new();
    for listed in listed::all(store)? {
        let usage = usages.iter().find(|usage| usage.image.id == listed.image.id);
        let users = facts.iter().filter(|facts| facts.status.image_id == listed.image.id).count();
        for mut row in listed.rows(&look) {
            if let Some(usage) = usage {
                row["Size"] = output::size(usage.total).into();
                row["SharedSize"] = output::size(usage.total - usage.unique).into();
                row["UniqueSize"] = output::size(usage.unique).into();
            }
            row["Containers"] = users.to_string().into();
            rows.push(row);
        }
    }
    let columns = [
        ("REPOSITORY", "Repository"),
        ("TAG", "Tag"),
        ("IMAGE ID", "ID"),
        ("CREATED", "CreatedSince"),
        ("SIZE", "Size"),
        ("SHARED SIZE", "SharedSize"),
        ("UNIQUE SIZE", "UniqueSize"),
        ("CONTAINERS", "Containers"),
    ];
    template::print(&rows, None, &columns)
}
