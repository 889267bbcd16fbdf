//! `knarr events --filter`: Docker's keys. Those of one key are alternatives, of several keys all must hold; labels
//! all have to be there.

use super::event::Event;
use crate::filter::labelled;
use anyhow::{Context, bail};

const KEYS: [&str; 10] =
    ["container", "daemon", "event", "image", "label", "network", "scope", "type", "volume", "plugin"];

/// All conditions of one command.
#[derive(Debug, Default)]
pub(super) struct Filters(Vec<(String, String)>);

impl Filters {
    pub(super) fn parse(texts: &[String]) -> anyhow::Result<Self> {
        let mut filters = Vec::new();
        for text in texts {
            let (key, value) = text
                .split_once('=')
                .context("invalid argument: bad format of filter (expected name=value)")?;
            if !KEYS.contains(&key) {
                bail!("invalid filter '{key}'");
            }
            filters.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self(filters))
    }

    pub(super) fn pass(&self, event: &Event) -> bool {
        self.0.iter().all(|(key, value)| {
            let mut same = self.0.iter().filter(|(other, _)| other == key);
            match key.as_str() {
                "label" => holds(event, key, value),
                _ => same.any(|(key, value)| holds(event, key, value)),
            }
        })
    }
}

fn holds(event: &Event, key: &str, value: &str) -> bool {
    let attributes = &event.actor.attributes;
    let attribute = |name: &str| attributes.get(name).map(String::as_str);
    let named = |kind: &str| {
        event.kind == kind
            && (event.actor.id.starts_with(value) || attribute("name").is_some_and(|name| name == value))
    };
    match key {
        "type" => event.kind == value,
        "scope" => value == "local",
        // `exec_start: sh -c ls` is an exec_start, `health_status: healthy` a health_status.
        "event" => event.action == value || event.action.split(": ").next() == Some(value),
        "container" => {
            named(key)
                || event.kind == "network" && attribute("container").is_some_and(|id| id.starts_with(value))
        }
        "network" | "volume" => named(key),
        "image" => {
            let without_tag = |name: &str| name.rsplit_once(':').map_or(name, |(name, _)| name).to_owned();
            let matches = |name: &str| name == value || without_tag(name) == value;
            match event.kind.as_str() {
                "image" => matches(&event.actor.id) || attribute("name").is_some_and(matches),
                _ => attribute("image").is_some_and(matches),
            }
        }
        "label" => labelled(attribute, value),
        // There are no plugins and daemons here that anything could happen to.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Kind;
    use super::*;

    fn passes(filters: &[&str], kind: Kind, action: &str, id: &str, attributes: &[(&str, &str)]) -> bool {
        let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Filters::parse(&filters).unwrap().pass(&Event::now(kind, action, id, attributes.collect()))
    }

    #[test]
    fn keys_are_dockers() {
        let container = |filters: &[&str]| {
            let attributes = [("image", "base:1"), ("name", "web"), ("tier", "front")];
            passes(filters, Kind::Container, "health_status: healthy", "abcdef", &attributes)
        };
        for filters in [
            &[][..],
            &["type=container"],
            &["type=image", "type=container"],
            &["event=health_status"],
            &["event=health_status: healthy"],
            &["container=web"],
            &["container=abc"],
            &["image=base"],
            &["image=base:1", "label=tier", "label=tier=front"],
            &["scope=local"],
        ] {
            assert!(container(filters), "{filters:?}");
        }
        for filters in [
            &["type=image"][..],
            &["event=die"],
            &["event=health_status: unhealthy"],
            &["container=we"],
            &["image=base:2"],
            &["label=tier", "label=other"],
            &["type=container", "event=die"],
            &["volume=web"],
            &["network=x"],
        ] {
            assert!(!container(filters), "{filters:?}");
        }
        let image = |filters: &[&str]| passes(filters, Kind::Image, "tag", "sha256:1", &[("name", "base:1")]);
        assert!(image(&["image=base"]) && image(&["event=tag"]) && !image(&["container=base:1"]));
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = |text: &str| Filters::parse(&[text.to_owned()]).unwrap_err().to_string();
        assert_eq!(error("colour=red"), "invalid filter 'colour'");
        assert!(error("type").contains("expected name=value"));
    }
}
