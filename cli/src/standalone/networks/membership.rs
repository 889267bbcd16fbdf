//! Which networks a container has, and as whom.
//!
//! ```text
//! DATA_DIR/containers/PLACE/network  a list, as JSON; the bridge that all share where there is none
//! ```

use super::record::Record;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The bridge of all who ask for nothing else, in the place of an id.
pub(crate) const SHARED: &str = "bridge";
const FILE: &str = "network";

/// One of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Membership {
    /// Id of one that somebody made, or `bridge`.
    pub(crate) network: String,
    pub(crate) aliases: Vec<String>,
    /// The address that it wants.
    pub(crate) address: Option<Ipv4Addr>,
    #[serde(default)]
    pub(crate) second: Option<Ipv6Addr>,
    /// The same of the link.
    #[serde(default)]
    pub(crate) hardware: Option<[u8; 6]>,
    /// The highest leads to everything else.
    #[serde(default)]
    pub(crate) priority: i32,
    /// Names that this container alone has for others: name or id, and alias.
    #[serde(default)]
    pub(crate) links: Vec<(String, String)>,
    /// What follows the pod's id where its addresses are written down: nothing for the first network that it was made with.
    #[serde(default)]
    pub(crate) suffix: String,
}

/// As it was written when a container had one network.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Several(Vec<Membership>),
    One(Membership),
}

impl Membership {
    /// In one that somebody made, or in the bridge of all.
    pub(crate) fn of(network: Option<&Record>) -> Self {
        let network = network.map_or_else(|| SHARED.to_owned(), |record| record.id.clone());
        Self { network, ..Self::default() }
    }

    /// The same beside those that the container has.
    pub(crate) fn further(self) -> Self {
        let short: String = self.network.chars().take(12).collect();
        Self { suffix: format!(".{short}"), ..self }
    }

    /// What it has is written down where the other's was.
    pub(crate) fn take_place_of(&mut self, other: &Self) {
        self.suffix.clone_from(&other.suffix);
    }

    /// Under which its addresses are written down.
    pub(crate) fn key(&self, sandbox_id: &str) -> String {
        format!("{sandbox_id}{}", self.suffix)
    }
}

/// Those of the container in this directory.
pub(crate) fn of_container(directory: &Path) -> anyhow::Result<Vec<Membership>> {
    let file = directory.join(FILE);
    match std::fs::read(&file) {
        Ok(text) => match serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))? {
            Written::Several(several) => Ok(several),
            Written::One(one) => Ok(vec![one]),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![Membership::of(None)]),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

/// Writes down that the container in this directory has these; appears whole.
pub(crate) fn keep(directory: &Path, all: &[Membership]) -> anyhow::Result<()> {
    let (file, new) = (directory.join(FILE), directory.join("network.new"));
    let written = std::fs::write(&new, serde_json::to_vec(all)?).and_then(|()| std::fs::rename(&new, &file));
    written.with_context(|| format!("write {}", file.display()))
}

/// `02:42:ac:11:00:02`, also with `-` or `.` between.
pub(crate) fn hardware(text: &str) -> anyhow::Result<[u8; 6]> {
    let digits: String = text.chars().filter(|c| !":-.".contains(*c)).collect();
    let bytes = u64::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 12).map(u64::to_be_bytes);
    match bytes {
        Some([_, _, bytes @ ..]) => Ok(bytes),
        None => bail!("{text} is not a valid mac address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_for_one_network_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(of_container(directory.path()).unwrap(), [Membership::of(None)]);
        let old = r#"{"network":"abc","aliases":["a"],"address":"10.0.0.2"}"#;
        std::fs::write(directory.path().join(FILE), old).unwrap();
        let mut all = of_container(directory.path()).unwrap();
        assert_eq!((all[0].key("pod"), all[0].aliases.len()), ("pod".to_owned(), 1));
        all.push(Membership { network: "0123456789abcdef".into(), ..Membership::default() }.further());
        keep(directory.path(), &all).unwrap();
        assert_eq!(of_container(directory.path()).unwrap(), all);
        assert_eq!(all[1].key("pod"), "pod.0123456789ab");
    }

    #[test]
    fn hardware_addresses_are_read_as_people_write_them() {
        for text in ["02:42:ac:11:00:0f", "02-42-AC-11-00-0F", "0242.ac11.000f"] {
            assert_eq!(hardware(text).unwrap(), [2, 0x42, 0xac, 0x11, 0, 15], "{text}");
        }
        for wrong in ["", "02:42", "02:42:ac:11:00:zz", "92d0c6d0a7"] {
            assert!(hardware(wrong).is_err(), "{wrong}");
        }
    }
}
