//! `knarr image prune`: images that no container uses.

use super::listed::{self, parsed_bool};
use super::names;
use crate::args::{PruneBuilds, PruneImages};
use crate::confirm;
use crate::events::Journal;
use crate::moment::moment;
use crate::output;
use crate::settings::Settings;
use crate::standalone::plan::sizes;
use anyhow::{Context, bail};
use jiff::Timestamp;
use knarr_images::{ForgetBuilds, ImageStore, Prune, Pruned};
use std::time::Duration;

/// Removes images without a name, or with `--all` every unused one (and what builds keep to be faster), and says how
/// much that gave back.
pub(crate) fn run(store: &ImageStore, journal: &Journal, arguments: &PruneImages) -> anyhow::Result<()> {
    let what = match arguments.all {
        true => " all images without at least one container associated to them.",
        false => " all dangling images.",
    };
    if !confirm::removal(arguments.force, what)? {
        return Ok(());
    }
    let pruned = prune(store, journal, arguments)?;
    output::line(&format!("Total reclaimed space: {}", output::size(pruned.bytes)));
    Ok(())
}

/// Forgets what builds keep and says how much that gave back.
pub(crate) fn builds(settings: &Settings, arguments: &PruneBuilds) -> anyhow::Result<()> {
    let mut wanted = ForgetBuilds::default();
    for text in &arguments.filter {
        match text.split_once('=') {
            Some(("until" | "unused-for", value)) => wanted.unused_for = Some(since(value)?),
            Some((key, _)) => bail!("invalid filter '{key}'"),
            None => bail!("invalid argument \"{text}\" for \"--filter\" flag: invalid filter '{text}'"),
        }
    }
    if !confirm::removal(arguments.force, " all build cache.")? {
        return Ok(());
    }
    let keep =
        arguments.keep_storage.as_deref().map(|text| sizes::named("keep-storage", text)).transpose()?;
    wanted.keep = keep.and_then(|bytes| u64::try_from(bytes).ok()).filter(|bytes| *bytes > 0);
    let freed = super::open(settings)?.forget_builds(&wanted)?;
    output::line(&format!("Total reclaimed space: {}", output::size(freed)));
    Ok(())
}

/// Removes them and prints which.
pub(crate) fn prune(
    store: &ImageStore,
    journal: &Journal,
    arguments: &PruneImages,
) -> anyhow::Result<Pruned> {
    let wanted = wanted(store, arguments)?;
    let everything = wanted == Prune { all: true, ..Prune::default() };
    let forgotten = if everything { store.forget_builds(&ForgetBuilds::default())? } else { 0 };
    let mut pruned = store.prune(&wanted)?;
    pruned.bytes += forgotten;
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

/// Every filter has to hold; `until` is about the last use here, which is what makes an image old.
fn wanted(store: &ImageStore, arguments: &PruneImages) -> anyhow::Result<Prune> {
    let mut wanted = Prune { all: arguments.all, ..Prune::default() };
    wanted.unused_for = arguments.until.as_deref().map(duration).transpose()?;
    let mut labels = Vec::new();
    for text in &arguments.filter {
        let (key, value) =
            text.split_once('=').context("invalid argument: bad format of filter (expected name=value)")?;
        match key {
            "until" => {
                wanted.unused_for = Some(since(value)?);
            }
            "dangling" => {
                let dangling = parsed_bool(value);
                wanted.all |= !dangling.with_context(|| format!("invalid filter '{text}'"))?;
            }
            "label" | "label!" => labels.push((value, key == "label")),
            _ => bail!("invalid filter '{key}'"),
        }
    }
    if !labels.is_empty() {
        let mut listed = listed::all(store)?;
        listed.retain(|one| labels.iter().all(|(label, has)| one.has_label(label) == *has));
        wanted.only = Some(listed.into_iter().map(|one| one.image.id).collect());
    }
    Ok(wanted)
}

/// A duration, or a time.
fn since(text: &str) -> anyhow::Result<Duration> {
    duration(text).or_else(|wrong| age(text).map_err(|_| wrong))
}

/// How long ago a time was.
fn age(text: &str) -> anyhow::Result<Duration> {
    let now = Timestamp::now();
    Ok(now.duration_since(moment(text, now)?).try_into()?)
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
