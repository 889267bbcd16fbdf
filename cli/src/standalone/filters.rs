//! `knarr ps --filter`: Docker's keys. Those of one key are alternatives, of several keys all must hold; labels all have
//! to be there.

use super::facts::Facts;
use super::{places, plan, ps};
use crate::filter;
use crate::image::names;
use anyhow::bail;
use regex::Regex;

const KEYS: [&str; 12] = [
    "name", "id", "label", "status", "exited", "ancestor", "volume", "health", "network", "publish",
    "before", "since",
];

const STATES: &[&str] = &["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTHS: &[&str] = &["none", "starting", "healthy", "unhealthy"];

/// All conditions of one command.
#[derive(Debug)]
pub(super) struct Filters(Vec<Filter>);

#[derive(Debug)]
struct Filter {
    key: String,
    value: String,
    /// Of names, which Docker takes for expressions.
    pattern: Option<Regex>,
}

impl Filters {
    pub(super) fn parse(texts: &[String]) -> anyhow::Result<Self> {
        Ok(Self(texts.iter().map(|text| Filter::parse(text)).collect::<anyhow::Result<_>>()?))
    }

    /// Somebody asks for containers that may have ended.
    pub(super) fn by_state(&self) -> bool {
        self.0.iter().any(|filter| matches!(filter.key.as_str(), "status" | "exited"))
    }

    /// Keeps those for which all hold.
    pub(super) fn keep(&self, all: &mut Vec<Facts>) -> anyhow::Result<()> {
        let mut bounds = Vec::new();
        for filter in self.0.iter().filter(|filter| matches!(filter.key.as_str(), "before" | "since")) {
            let name = filter.value.as_str();
            let called = |facts: &&Facts| facts.name == name || facts.status.id.starts_with(name);
            let other = all.iter().find(called).ok_or_else(|| places::no_such(name))?;
            bounds.push((filter.key == "before", other.status.created_at));
        }
        all.retain(|facts| {
            let made = facts.status.created_at;
            bounds.iter().all(|(before, time)| if *before { made < *time } else { made > *time })
                && self.pass(facts)
        });
        Ok(())
    }

    fn pass(&self, facts: &Facts) -> bool {
        self.0.iter().filter(|filter| !matches!(filter.key.as_str(), "before" | "since")).all(|filter| {
            let mut same = self.0.iter().filter(|other| other.key == filter.key);
            // Labels all have to be there.
            if filter.key == "label" { filter.holds(facts) } else { same.any(|other| other.holds(facts)) }
        })
    }
}

impl Filter {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (key, value) = filter::pair(text)?;
        if !KEYS.contains(&key) {
            bail!("invalid filter '{key}'");
        }
        let states = match key {
            "status" => STATES,
            "health" => HEALTHS,
            _ => &[value],
        };
        if !states.contains(&value) || (key == "exited" && value.parse::<i32>().is_err()) {
            bail!("invalid filter '{text}'");
        }
        let pattern = (key == "name").then(|| filter::name(value)).transpose()?;
        Ok(Self { key: key.to_owned(), value: value.to_owned(), pattern })
    }

    fn holds(&self, facts: &Facts) -> bool {
        let value = self.value.as_str();
        let like = |text: &str| self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(text));
        match self.key.as_str() {
            "name" => like(&facts.name) || like(&format!("/{}", facts.name)),
            "id" => !value.is_empty() && facts.status.id.starts_with(value),
            "status" => facts.state() == value,
            "health" => facts.health.as_ref().map_or("none", |health| &health.status) == value,
            "network" => facts.is_on(value) || facts.ends.iter().any(|end| end.has_id(value)),
            "publish" => publishes(facts.label(plan::PORTS_LABEL), value),
            "exited" => {
                facts.state() == "exited"
                    && value.parse().is_ok_and(|code: i32| code == facts.status.exit_code)
            }
            "ancestor" => is_image(facts.image(), &facts.status.image_id, value),
            "volume" => facts.status.mounts.iter().any(|mount| {
                mount.container_path == value
                    || mount.host_path == value
                    || ps::volume(&mount.host_path) == Some(value)
            }),
            _ => facts.is_labelled(value),
        }
    }
}

/// By name, with or without its tag, or by id.
fn is_image(name: &str, id: &str, wanted: &str) -> bool {
    let (name, short) = (names::short(name), names::short(wanted));
    let hex = id.trim_start_matches("sha256:");
    name == short
        || names::split(name).0 == short
        || short.strip_suffix(":latest") == Some(name)
        || (wanted.len() >= 4 && hex.starts_with(wanted.trim_start_matches("sha256:")))
}

/// Whether `0.0.0.0:8080->80/tcp, ...` publishes a port of this machine: `8080` or `8080/tcp`.
fn publishes(shown: &str, wanted: &str) -> bool {
    let (port, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    shown.split(", ").filter_map(|one| one.split_once("->")).any(|(host, inside)| {
        host.rsplit(':').next() == Some(port) && inside.rsplit('/').next() == Some(protocol)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_have_many_names() {
        let id = "sha256:42d974408a97ce6b";
        for (name, wanted, expected) in [
            ("busybox:1", "busybox", true),
            ("busybox:1", "docker.io/library/busybox:1", true),
            ("busybox", "busybox:latest", true),
            ("127.0.0.1:5000/x:1", "127.0.0.1:5000/x", true),
            ("127.0.0.1:5000/x:1", "127.0.0.1", false),
            ("busybox:1", "42d974408a97", true),
            ("busybox:1", "sha256:42d974408a97ce6b", true),
            ("busybox:1", "busy", false),
        ] {
            assert_eq!(is_image(name, id, wanted), expected, "{name} {wanted}");
        }
    }

    #[test]
    fn expressions_and_ports() {
        let filter = Filter::parse("name=^/web$").unwrap();
        let pattern = filter.pattern.unwrap();
        assert!(pattern.is_match("/web") && !pattern.is_match("/web2"));
        assert!(Filter::parse("name=[").is_err() && Filter::parse("colour=red").is_err());
        let shown = "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, 127.0.0.1:53->53/udp";
        for (wanted, expected) in
            [("8080", true), ("8080/tcp", true), ("53/udp", true), ("53", false), ("80", false)]
        {
            assert_eq!(publishes(shown, wanted), expected, "{wanted}");
        }
    }
}
