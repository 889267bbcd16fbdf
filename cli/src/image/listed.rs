//! The images of a store as tables show them: which pass the filters, the newest first, a row for each name.

use super::names;
use crate::age;
use crate::filter::labelled;
use crate::moment::moment;
use crate::output;
use anyhow::{Context, bail};
use jiff::Timestamp;
use knarr_images::{Image, ImageStore};
use serde_json::{Value, json};

/// One image with what its config says.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) image: Image,
    /// Bytes of its unpacked layers.
    pub(crate) size: u64,
    pub(crate) created: Option<Timestamp>,
    labels: Value,
}

impl Listed {
    fn of(store: &ImageStore, image: Image) -> Option<Self> {
        // One that is being removed is none.
        let found = store.inspect(&image).ok()?;
        Some(Self {
            size: found.layers.iter().map(|layer| layer.unpacked.0).sum(),
            created: created(&found.config),
            labels: found.config["config"]["Labels"].clone(),
            image,
        })
    }

    /// `NAME`, or `NAME=VALUE`.
    pub(crate) fn has_label(&self, text: &str) -> bool {
        labelled(|name| self.labels[name].as_str(), text)
    }

    /// A row for each name of it.
    pub(crate) fn rows(&self, look: &Look) -> Vec<Value> {
        let mut rows = Vec::new();
        for tag in &self.image.tags {
            let short = names::short(tag);
            let (repository, tag) = names::split(short);
            if look.shows(short) {
                rows.push(self.row(look, repository, tag));
            }
        }
        if !self.image.tags.is_empty() || look.wants_names() {
            return rows;
        }
        let repository = self.image.digests.first().map(|digest| names::split(names::short(digest)).0);
        vec![self.row(look, repository.unwrap_or("<none>"), "<none>")]
    }

    fn row(&self, look: &Look, repository: &str, tag: &str) -> Value {
        let digests = self.image.digests.iter().map(|digest| names::split(names::short(digest)));
        let digest = digests.filter(|(name, _)| *name == repository).map(|(_, digest)| digest).next();
        json!({
            "ID": if look.whole { self.image.id.clone() } else { short_id(&self.image.id) },
            "Repository": repository,
            "Tag": tag,
            "Digest": digest.unwrap_or("<none>"),
            "CreatedSince": age::since(self.created, look.now),
            "CreatedAt": age::at(self.created),
            "Size": output::size(self.size),
            "VirtualSize": output::size(self.size),
            "Containers": "N/A",
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
        })
    }
}

/// The first twelve digits, as Docker shows them.
pub(crate) fn short_id(id: &str) -> String {
    id.strip_prefix("sha256:").unwrap_or(id).chars().take(12).collect()
}

/// When the config says that the image was made.
pub(crate) fn created(config: &Value) -> Option<Timestamp> {
    let time: Timestamp = config["created"].as_str()?.parse().ok()?;
    // The year 1 is what programs write that know none.
    (time.as_second() >= 0).then_some(time)
}

/// Every image, the newest first.
pub(crate) fn all(store: &ImageStore) -> anyhow::Result<Vec<Listed>> {
    let mut listed: Vec<Listed> =
        store.list()?.into_iter().filter_map(|image| Listed::of(store, image)).collect();
    listed.sort_by_key(|listed| std::cmp::Reverse(listed.created));
    Ok(listed)
}

/// What is looked for, and how it is shown.
#[derive(Debug)]
pub(crate) struct Look {
    now: Timestamp,
    whole: bool,
    filters: Vec<(String, String)>,
}

const KEYS: [&str; 6] = ["reference", "dangling", "label", "before", "since", "until"];

impl Look {
    pub(crate) fn new(filters: &[String], name: Option<&str>, whole: bool) -> anyhow::Result<Self> {
        let mut parsed = Vec::new();
        for text in filters {
            let (key, value) = text
                .split_once('=')
                .context("invalid argument: bad format of filter (expected name=value)")?;
            if !KEYS.contains(&key) {
                bail!("invalid filter '{key}'");
            }
            parsed.push((key.to_owned(), value.to_owned()));
        }
        parsed.extend(name.map(|name| ("reference".to_owned(), name.to_owned())));
        Ok(Self { now: Timestamp::now(), whole, filters: parsed })
    }

    fn values(&self, key: &str) -> impl Iterator<Item = &str> {
        self.filters.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    fn wants_names(&self) -> bool {
        self.values("reference").next().is_some()
    }

    /// Names are alternatives.
    fn shows(&self, name: &str) -> bool {
        !self.wants_names() || self.values("reference").any(|pattern| names::matches(pattern, name))
    }

    /// Keeps the images for which everything else holds.
    pub(crate) fn keep(&self, store: &ImageStore, listed: &mut Vec<Listed>) -> anyhow::Result<()> {
        let mut made = |key: &str, wanted: std::cmp::Ordering| -> anyhow::Result<()> {
            for name in self.values(key) {
                let other = Listed::of(store, super::find(store, name)?).map(|other| other.created);
                listed.retain(|listed| other.is_some_and(|other| listed.created.cmp(&other) == wanted));
            }
            Ok(())
        };
        made("before", std::cmp::Ordering::Less)?;
        made("since", std::cmp::Ordering::Greater)?;
        for text in self.values("until") {
            let until = moment(text, self.now).with_context(|| format!("until={text}"))?;
            listed.retain(|listed| listed.created.is_some_and(|created| created < until));
        }
        for text in self.values("dangling") {
            let wanted: bool =
                parsed_bool(text).with_context(|| format!("invalid filter 'dangling={text}'"))?;
            listed.retain(|listed| listed.image.tags.is_empty() == wanted);
        }
        for text in self.values("label") {
            listed.retain(|listed| listed.has_label(text));
        }
        Ok(())
    }
}

/// As Go reads one.
pub(crate) fn parsed_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
