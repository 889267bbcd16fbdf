//! `knarr container prune`: containers that do not run go.

use super::Standalone;
use super::facts::Facts;
use crate::args::PruneContainers;
use crate::moment::moment;
use crate::settings::Settings;
use crate::{confirm, filter, image, output};
use anyhow::{Context, bail};
use jiff::Timestamp;

/// Removes them and says how much that gave back.
pub(crate) async fn run(settings: &Settings, arguments: &PruneContainers) -> anyhow::Result<()> {
    if !confirm::removal(arguments.force, " all stopped containers.")? {
        return Ok(());
    }
    let freed = prune(settings, &arguments.filter).await?;
    output::line(&format!("Total reclaimed space: {}", output::size(freed)));
    Ok(())
}

/// Removes them and prints their ids; answers how many bytes they had written.
pub(crate) async fn prune(settings: &Settings, filters: &[String]) -> anyhow::Result<u64> {
    let filters = filters.iter().map(|text| Filter::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let store = image::open(settings)?;
    let (mut removed, mut freed) = (Vec::new(), 0);
    for facts in super::ps::facts(settings).await? {
        let ended = matches!(facts.state(), "created" | "exited" | "dead");
        if !ended || !filters.iter().all(|filter| filter.holds(&facts)) {
            continue;
        }
        let bytes = facts.written(&store);
        // Somebody else may have removed or started it meanwhile.
        if remove(settings, &facts).await? {
            removed.push(facts.status.id);
            freed += bytes;
        }
    }
    if !removed.is_empty() {
        output::line("Deleted Containers:");
        removed.iter().for_each(|id| output::line(id));
        output::line("");
    }
    Ok(freed)
}

async fn remove(settings: &Settings, facts: &Facts) -> anyhow::Result<bool> {
    let Ok(place) = Standalone::find(settings, &facts.status.id).await else { return Ok(false) };
    let now = Facts::of(&place).await?;
    if !now.is_some_and(|now| matches!(now.state(), "created" | "exited" | "dead")) {
        return Ok(false);
    }
    place.remove(settings, false).await?;
    Ok(true)
}

/// A condition on a container.
#[derive(Debug)]
enum Filter {
    Until(Timestamp),
    /// `NAME[=VALUE]`, and whether it has to be there.
    Label(String, bool),
}

impl Filter {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (key, value) = filter::pair(text)?;
        let label = |wanted| Self::Label(value.to_owned(), wanted);
        Ok(match key {
            "until" => Self::Until(moment(value, Timestamp::now()).with_context(|| text.to_owned())?),
            "label" => label(true),
            "label!" => label(false),
            _ => bail!("invalid filter '{key}'"),
        })
    }

    fn holds(&self, facts: &Facts) -> bool {
        match self {
            Self::Until(time) => i128::from(facts.status.created_at) < time.as_nanosecond(),
            Self::Label(label, wanted) => facts.is_labelled(label) == *wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_dockers() {
        assert!(matches!(Filter::parse("until=1h").unwrap(), Filter::Until(_)));
        let parsed = Filter::parse("label!=a=b").unwrap();
        assert!(matches!(parsed, Filter::Label(label, false) if label == "a=b"));
        for wrong in ["until", "until=never", "name=x"] {
            assert!(Filter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
