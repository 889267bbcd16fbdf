//! `--filter` of `volume ls` and `volume prune`: Docker's keys. Names and uses of one key are alternatives, of several keys all
//! must hold; labels all have to be there.

use crate::filter;
use crate::image::listed::parsed_bool;
use anyhow::bail;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

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

    /// Somebody asks who is used.
    pub(super) fn by_use(&self) -> bool {
        self.0.iter().any(|filter| filter.key == "dangling")
    }

    /// `all=true`
    pub(super) fn of_all(&self) -> bool {
        self.0.iter().any(|filter| filter.key == "all" && parsed_bool(&filter.value) == Some(true))
    }

    pub(super) fn hold(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        used: &BTreeSet<String>,
    ) -> bool {
        self.0.iter().all(|filter| match filter.key.as_str() {
            "label" | "label!" => filter.holds(name, labels, used),
            key => {
                let mut same = self.0.iter().filter(|other| other.key == key);
                same.any(|other| other.holds(name, labels, used))
            }
        })
    }
}

impl Filter {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (key, value) = filter::pair(text)?;
        let known = match key {
            "name" | "label" | "label!" | "driver" => true,
            "dangling" | "all" => parsed_bool(value).is_some(),
            _ => false,
        };
        if !known {
            bail!("invalid filter '{text}'");
        }
        let pattern = (key == "name").then(|| filter::name(value)).transpose()?;
        Ok(Self { key: key.to_owned(), value: value.to_owned(), pattern })
    }

    fn holds(&self, name: &str, labels: &BTreeMap<String, String>, used: &BTreeSet<String>) -> bool {
        let labelled = || filter::labelled(|name| labels.get(name).map(String::as_str), &self.value);
        match self.key.as_str() {
            "name" => self.pattern.as_ref().is_some_and(|pattern| pattern.is_match(name)),
            "driver" => self.value == "local",
            "dangling" => parsed_bool(&self.value) != Some(used.contains(name)),
            "label" => labelled(),
            "label!" => !labelled(),
            _ => true,
        }
    }
}
