//! `knarr image prune`: images that no container uses.

use super::names;
use crate::args::PruneImages;
use crate::events::Journal;
use crate::output;
use anyhow::{Context, bail};
use knarr_images::{ImageStore, Prune, Pruned};
use std::time::Duration;

/// Removes images without a name, or with `--all` every unused one (and what builds keep to be faster), and says how
/// much that gave back.
pub(crate) fn run(store: &ImageStore, journal: &Journal, arguments: &PruneImages) -> anyhow::Result<()> {
    let pruned = prune(store, journal, arguments)?;
    output::line(&format!("Total reclaimed space: {}", output::size(pruned.bytes)));
    Ok(())
}

/// Removes them and prints which.
pub(crate) fn prune(
    store: &ImageStore,
    journal: &Journal,
    arguments: &PruneImages,
) -> anyhow::Result<Pruned> {
    let (all, until) = (arguments.all, arguments.until.as_deref());
    let filter = arguments
        .filter
        .as_deref()
        .map(|text| text.strip_prefix("until=").with_context(|| format!("--filter {text}: until=DURATION")))
        .transpose()?;
    let unused_for = until.or(filter).map(duration).transpose()?;
    if all && unused_for.is_none() {
        store.forget_builds()?;
    }
    let pruned = store.prune(&Prune { all, unused_for })?;
    if !pruned.images.is_empty() {
        output::line("Deleted Images:");
    }
    for image in &pruned.images {
        for tag in &image.tags {
            journal.image("untag", &image.id, tag);
            output::line(&format!("untagged: {}", names::short(tag)));
        }
        journal.image("delete", &image.id, &image.id);
        output::line(&format!("deleted: {}", image.id));
    }
    if !pruned.images.is_empty() {
        output::line("");
    }
    Ok(pruned)
}

/// `1h30m`, `72h`, `7d`: numbers with s, m, h or d.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let invalid = || format!("--until {text:?}: expected a duration like 30m, 72h or 7d");
    let (mut total, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let end = rest.find(|byte: char| !byte.is_ascii_digit()).with_context(invalid)?;
        let (number, unit) = rest.split_at(end);
        let seconds = match unit.chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            _ => bail!(invalid()),
        };
        let number: u64 = number.parse().with_context(invalid)?;
        total = number.checked_mul(seconds).and_then(|more| total.checked_add(more)).with_context(invalid)?;
        rest = &unit[1..];
    }
    if text.is_empty() {
        bail!(invalid());
    }
    Ok(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5400), ("72h", 259_200), ("7d", 604_800)] {
            assert_eq!(duration(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for bad in ["", "7", "h", "1w", "-1h", "99999999999999999999d", "18446744073709551615d"] {
            assert!(duration(bad).unwrap_err().to_string().contains("--until"), "{bad}");
        }
    }
}
