//! `knarr network rm` and `prune`: networks that nothing runs on go, with their bridges.

use super::Known;
use super::record::{self, Record};
use crate::filter;
use crate::moment::moment;
use crate::output;
use crate::settings::Settings;
use crate::standalone::facts::Facts;
use crate::standalone::network::{self, End};
use crate::standalone::{plan, ps};
use anyhow::{Context, bail};
use jiff::Timestamp;

/// Removes every one it can, then reports those it could not.
pub(super) async fn run(settings: &Settings, names: &[String], force: bool) -> anyhow::Result<()> {
    crate::standalone::each::each(names, async |name| {
        if plan::is_built_in(name) {
            bail!("{name} is a pre-defined network and cannot be removed");
        }
        let _alone = record::alone(settings).await?;
        match record::find(settings, name)? {
            Some(record) => remove(settings, &record, &ps::facts(settings).await?).await?,
            None if force => return Ok(None),
            None => bail!("network {name} not found"),
        }
        Ok(Some(name.to_owned()))
    })
    .await
}

async fn remove(settings: &Settings, record: &Record, facts: &[Facts]) -> anyhow::Result<()> {
    if in_use(record, facts) {
        bail!("error while removing network: network {} id {} has active endpoints", record.name, record.id);
    }
    network::take_apart(settings, record).await?;
    let directory = record.directory(settings);
    std::fs::remove_dir_all(&directory).with_context(|| format!("remove {}", directory.display()))?;
    Known::Made(Box::new(record.clone())).tell(settings, "destroy", &[]);
    Ok(())
}

/// Some container is on it that has not ended.
fn in_use(record: &Record, facts: &[Facts]) -> bool {
    let mine = |end: &End| end.network() == record.name && end.held.is_some();
    facts.iter().any(|facts| facts.state() != "created" && facts.ends.iter().any(mine))
}

/// Removes those that nothing runs on.
pub(crate) async fn prune(settings: &Settings, filters: &[String]) -> anyhow::Result<()> {
    let _alone = record::alone(settings).await?;
    let facts = ps::facts(settings).await?;
    let mut removed = Vec::new();
    for record in record::all(settings)? {
        if !in_use(&record, &facts) && holds(filters, &record)? {
            remove(settings, &record, &facts).await?;
            removed.push(record.name);
        }
    }
    if !removed.is_empty() {
        output::line("Deleted Networks:");
        removed.iter().for_each(|name| output::line(name));
        output::line("");
    }
    Ok(())
}

fn holds(filters: &[String], record: &Record) -> anyhow::Result<bool> {
    for text in filters {
        let (key, value) = filter::pair(text)?;
        let holds = match key {
            "label" => record.is_labelled(value),
            "label!" => !record.is_labelled(value),
            "until" => record.created < moment(value, Timestamp::now()).with_context(|| text.clone())?,
            _ => bail!("invalid filter '{key}'"),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}
