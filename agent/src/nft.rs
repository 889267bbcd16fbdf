//! One nftables table as data, and the transaction that turns one state of it into another.
//!
//! The rules of the pod network and of services are computed as a whole (pure functions over records and objects)
//! and written as a difference: `nft -f -` commits a whole script atomically, so packets see the old table or the
//! new one and nothing between. What the kernel's conntrack has already decided is not touched by either.

mod block;
mod elements;
mod family;
mod protocol;

use anyhow::{Context, bail};
pub(crate) use block::Block;
pub(crate) use elements::Elements;
pub(crate) use family::Family;
pub(crate) use protocol::protocol_of;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Which packets the hooks of a table see.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Layer {
    /// Those of both versions of IP.
    #[default]
    Inet,
    /// Frames on their way through a bridge.
    Bridge,
}

/// A table of the `inet` family, or of `bridge`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) layer: Layer,
    /// Name of the table; both sides of a difference have the same.
    pub(crate) name: String,
    /// Sets and maps by name.
    pub(crate) sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub(crate) chains: BTreeMap<String, Chain>,
}

/// A set, or a map where the type has a `:`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Set {
    /// The `type ...; flags ...` statements.
    pub(crate) definition: String,
    /// Key to value; the value is empty in a set. Dynamic sets, which packets fill, list none.
    pub(crate) elements: BTreeMap<String, String>,
}

/// A chain and its rules in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The `type ... hook ... priority ...;` statements of a base chain.
    pub(crate) hook: Option<&'static str>,
    /// One statement list each.
    pub(crate) rules: Vec<String>,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Layer::Inet => "inet",
            Layer::Bridge => "bridge",
        })
    }
}

impl Set {
    /// An empty map or set.
    pub(crate) fn new(definition: impl Into<String>) -> Self {
        Self { definition: definition.into(), elements: BTreeMap::new() }
    }

    fn is_map(&self) -> bool {
        self.definition.contains(" : ")
    }

    fn keyword(&self) -> &'static str {
        if self.is_map() { "map" } else { "set" }
    }
}

impl Chain {
    /// A chain that other chains jump to.
    pub(crate) fn plain(rules: Vec<String>) -> Self {
        Self { hook: None, rules }
    }

    /// A chain that the kernel enters.
    pub(crate) fn base(hook: &'static str, rules: Vec<String>) -> Self {
        Self { hook: Some(hook), rules }
    }
}

impl Table {
    /// An empty table.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// An empty table of the `bridge` family.
    pub(crate) fn of_bridge(name: &str) -> Self {
        Self { layer: Layer::Bridge, ..Self::new(name) }
    }

    /// The script that makes the kernel's table exactly this one, whatever it was before.
    pub(crate) fn replacement(&self) -> String {
        let empty = Self { layer: self.layer, ..Self::new(&self.name) };
        format!("{}{}", self.removal(), self.difference(&empty))
    }

    /// The script that removes the table, also when there is none (`delete` alone would fail).
    pub(crate) fn removal(&self) -> String {
        let Self { layer, name, .. } = self;
        format!("add table {layer} {name}\ndelete table {layer} {name}\n")
    }

    /// How a script calls it.
    fn called(&self) -> String {
        format!("{} {}", self.layer, self.name)
    }

    /// The script that turns the kernel's table from `old` into this one; empty when there is nothing to do.
    pub(crate) fn difference(&self, old: &Self) -> String {
        let mut script = String::new();
        if old.chains.is_empty() && old.sets.is_empty() {
            line(&mut script, format_args!("add table {}", self.called()));
        }
        self.declare(old, &mut script);
        self.unlink_elements(old, &mut script);
        self.write_rules(old, &mut script);
        self.write_elements(old, &mut script);
        self.remove_unused(old, &mut script);
        script
    }

    /// Brings the kernel's table from `old` to this one, and says whether `old` was what the kernel had; where it was
    /// not, or is not known, everything is written. Blocks.
    pub(crate) fn commit(&self, old: Option<&Self>) -> anyhow::Result<bool> {
        if old.is_some_and(|old| apply(&self.difference(old)).is_ok()) {
            return Ok(true);
        }
        apply(&self.replacement()).map(|()| false)
    }

    /// Whether the kernel has a table of that name; blocks.
    pub(crate) fn is_there(&self) -> bool {
        exists(&self.name).unwrap_or(false)
    }

    /// Names first: rules and verdicts may refer to any set or chain of the same transaction.
    fn declare(&self, old: &Self, script: &mut String) {
        for (name, set) in self.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
            let keyword = set.keyword();
            line(script, format_args!("add {keyword} {} {name} {{ {} }}", self.called(), set.definition));
        }
        for (name, chain) in self.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
            match chain.hook {
                Some(hook) => line(script, format_args!("add chain {} {name} {{ {hook} }}", self.called())),
                None => line(script, format_args!("add chain {} {name}", self.called())),
            }
        }
    }

    /// Elements whose value changes must go before they come again.
    fn unlink_elements(&self, old: &Self, script: &mut String) {
        for (name, before) in &old.sets {
            let now = self.sets.get(name).map(|set| &set.elements);
            let gone = before.elements.iter().filter(|(k, v)| now.and_then(|now| now.get(*k)) != Some(*v));
            write_list(script, "delete", &self.called(), name, gone.map(|(key, _)| key.clone()));
        }
    }

    fn write_elements(&self, old: &Self, script: &mut String) {
        for (name, now) in &self.sets {
            let before = old.sets.get(name).map(|set| &set.elements);
            let new = now.elements.iter().filter(|(k, v)| before.and_then(|old| old.get(*k)) != Some(*v));
            let new = new.map(|(key, value)| match value.is_empty() {
                true => key.clone(),
                false => format!("{key} : {value}"),
            });
            write_list(script, "add", &self.called(), name, new);
        }
    }

    fn write_rules(&self, old: &Self, script: &mut String) {
        for (name, chain) in &self.chains {
            let before = old.chains.get(name);
            if before == Some(chain) {
                continue;
            }
            if before.is_some() {
                line(script, format_args!("flush chain {} {name}", self.called()));
            }
            for rule in &chain.rules {
                line(script, format_args!("add rule {} {name} {rule}", self.called()));
            }
        }
    }

    /// Chains are emptied before any is deleted, because they may refer to each other.
    fn remove_unused(&self, old: &Self, script: &mut String) {
        let gone = || old.chains.keys().filter(|name| !self.chains.contains_key(*name));
        for name in gone() {
            line(script, format_args!("flush chain {} {name}", self.called()));
        }
        for name in gone() {
            line(script, format_args!("delete chain {} {name}", self.called()));
        }
        for (name, set) in old.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name)) {
            line(script, format_args!("delete {} {} {name}", set.keyword(), self.called()));
        }
    }
}

/// The script that removes a table of the `inet` family.
pub(crate) fn removal(name: &str) -> String {
    Table::new(name).removal()
}

fn line(script: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(script, "{text}");
}

/// Long lists are cut: the parser of nft is slow on very long lines.
fn write_list(script: &mut String, verb: &str, table: &str, set: &str, keys: impl Iterator<Item = String>) {
    let keys: Vec<String> = keys.collect();
    for some in keys.chunks(256) {
        line(script, format_args!("{verb} element {table} {set} {{ {} }}", some.join(", ")));
    }
}

/// Commits a script in the network namespace of the calling thread; blocks. An empty script is no work.
pub(crate) fn apply(script: &str) -> anyhow::Result<()> {
    if script.is_empty() {
        return Ok(());
    }
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run nft (is the nftables package installed?)")?;
    // A broken pipe only means that nft gave up early: its own message says why.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(script.as_bytes()));
    let output = child.wait_with_output().context("wait for nft")?;
    if !output.status.success() {
        bail!(
            "nft: {}",
            String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("failed without a message")
        );
    }
    written.transpose().context("write to nft")?;
    Ok(())
}

/// Whether the kernel has the table; blocks.
pub(crate) fn exists(name: &str) -> anyhow::Result<bool> {
    let status = Command::new("nft")
        .args(["-t", "list", "table", "inet", name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot run nft (is the nftables package installed?)")?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(chains: &[(&str, &[&str])], elements: &[(&str, &str)]) -> Table {
        let mut table = Table::new("t");
        for (name, rules) in chains {
            let rules = rules.iter().map(|&rule| rule.to_owned()).collect();
            table.chains.insert((*name).to_owned(), Chain::plain(rules));
        }
        let mut set = Set::new("type inet_service : verdict;");
        set.elements = elements.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        table.sets.insert("m".to_owned(), set);
        table
    }

    #[test]
    fn nothing_changed_is_an_empty_script() {
        let one = table(&[("a", &["accept"])], &[("80", "goto a")]);
        assert_eq!(one.difference(&one), "");
    }

    #[test]
    fn only_what_changed_is_written() {
        let old = table(&[("a", &["accept"]), ("b", &["drop"])], &[("80", "goto a"), ("81", "goto b")]);
        let new = table(&[("a", &["accept"]), ("c", &["drop"])], &[("80", "goto a"), ("81", "goto c")]);
        let expected = "add chain inet t c\n\
                        delete element inet t m { 81 }\n\
                        add rule inet t c drop\n\
                        add element inet t m { 81 : goto c }\n\
                        flush chain inet t b\n\
                        delete chain inet t b\n";
        assert_eq!(new.difference(&old), expected);
    }

    #[test]
    fn a_changed_chain_is_refilled() {
        let old = table(&[("a", &["accept"])], &[]);
        let new = table(&[("a", &["counter", "drop"])], &[]);
        assert_eq!(
            new.difference(&old),
            "flush chain inet t a\nadd rule inet t a counter\nadd rule inet t a drop\n"
        );
    }

    #[test]
    fn replacement_starts_from_nothing() {
        let script = table(&[("a", &["accept"])], &[]).replacement();
        assert!(script.starts_with("add table inet t\ndelete table inet t\nadd table inet t\n"), "{script}");
        assert!(script.contains("add map inet t m { type inet_service : verdict; }"), "{script}");
    }
}
