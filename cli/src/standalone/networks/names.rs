//! Who answers to which names in a network: every container on it has a line for each of the others in its `/etc/hosts`,
//! which is changed in place as they come and go. No daemon answers questions, and what was written into the file inside
//! stays.
//!
//! ```text
//! DATA_DIR/networks/NAME/names/PLACE     the lines that others have for the container there
//! DATA_DIR/containers/PLACE/hostname     what it calls itself, by which others find it too
//! ```

use super::membership::Membership;
use super::record::Record;
use crate::settings::Settings;
use crate::standalone::places;
use anyhow::Context;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const HOSTNAME: &str = "hostname";

/// One container's part in it.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    settings: Settings,
    directory: PathBuf,
    network: String,
    aliases: Vec<String>,
}

impl Names {
    pub(crate) fn new(settings: &Settings, network: &Record, membership: &Membership) -> Self {
        let directory = network.directory(settings).join("names");
        let (network, aliases) = (network.name.clone(), membership.aliases.clone());
        Self { settings: settings.clone(), directory, network, aliases }
    }

    /// The container has these addresses now.
    pub(crate) async fn add(&self, place: &str, name: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
        let _alone = places::alone_with(&self.settings, ".hosts").await?;
        let directory = &self.directory;
        std::fs::create_dir_all(directory).with_context(|| format!("mkdir {}", directory.display()))?;
        let hostname = hostname(&self.settings.node.data_dir.join("containers").join(place));
        let names = all_names([&[name.to_owned()], &self.aliases[..], &hostname].concat(), &self.network);
        let lines: String = addresses.iter().map(|address| format!("{address}\t{names}\n")).collect();
        let before = std::fs::read_to_string(directory.join(place)).unwrap_or_default();
        std::fs::write(directory.join(place), &lines)?;
        self.tell_others(place, &before, &lines)
    }

    /// The container has none any more.
    pub(crate) async fn remove(&self, place: &str) -> anyhow::Result<()> {
        let _alone = places::alone_with(&self.settings, ".hosts").await?;
        let file = self.directory.join(place);
        let Ok(before) = std::fs::read_to_string(&file) else { return Ok(()) };
        std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        self.tell_others(place, &before, "")
    }

    /// The container has another name.
    pub(crate) async fn rename(&self, place: &str, name: &str) -> anyhow::Result<()> {
        let Ok(lines) = std::fs::read_to_string(self.directory.join(place)) else { return Ok(()) };
        let addresses: Vec<IpAddr> =
            lines.lines().filter_map(|line| line.split('\t').next()?.parse().ok()).collect();
        self.add(place, name, &addresses).await
    }

    /// The lines of all others.
    pub(crate) fn others(&self, place: &str) -> anyhow::Result<String> {
        let mut lines = String::new();
        for other in self.places()?.iter().filter(|other| *other != place) {
            lines += &std::fs::read_to_string(self.directory.join(other)).unwrap_or_default();
        }
        Ok(lines)
    }

    fn tell_others(&self, place: &str, before: &str, now: &str) -> anyhow::Result<()> {
        for other in self.places()?.iter().filter(|other| *other != place) {
            let file = self.settings.node.data_dir.join("containers").join(other).join("hosts");
            change(&file, before, now).with_context(|| format!("change {}", file.display()))?;
        }
        Ok(())
    }

    fn places(&self) -> anyhow::Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("{}", self.directory.display())),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }
}

/// Writes down the host name of the container there, with its domain's first where it has one.
pub(crate) fn keep_hostname(directory: &Path, hostname: &str, domain: &str) -> anyhow::Result<()> {
    let file = directory.join(HOSTNAME);
    let names = match hostname.is_empty() || domain.is_empty() {
        true => hostname.to_owned(),
        false => format!("{hostname}.{domain} {hostname}"),
    };
    std::fs::write(&file, names).with_context(|| format!("write {}", file.display()))
}

/// None of a container that was made before host names were written down.
pub(crate) fn hostname(directory: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(directory.join(HOSTNAME)).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

/// Each once, and each as a name in its network too, as Docker's name server answers.
fn all_names(names: Vec<String>, network: &str) -> String {
    let inside = names.iter().map(|name| format!("{name}.{network}")).collect();
    let mut all: Vec<String> = Vec::new();
    for name in [names, inside].concat() {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all.join(" ")
}

/// Changes a file that is mounted somewhere: it stays the same file. One that is not there belongs to nobody who reads it.
fn change(file: &Path, before: &str, now: &str) -> std::io::Result<()> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let text = replaced(&text, before, now);
    let mut open = File::options().write(true).open(file)?;
    open.write_all(text.as_bytes())?;
    open.set_len(text.len() as u64)
}

fn replaced(text: &str, before: &str, now: &str) -> String {
    let gone: Vec<&str> = before.lines().collect();
    let kept = text.lines().filter(|line| !gone.contains(line));
    kept.map(|line| format!("{line}\n")).collect::<String>() + now
}

#[cfg(test)]
mod tests {
    use super::{all_names, replaced};

    #[test]
    fn a_container_has_its_names_in_its_network_too() {
        let names = ["db", "main", "db"].map(str::to_owned).to_vec();
        assert_eq!(all_names(names, "blue"), "db main db.blue main.blue");
    }

    #[test]
    fn lines_of_others_come_and_go() {
        let text = "127.0.0.1\tlocalhost\n10.0.0.2\tdb\n1.1.1.1\town-addition\n";
        let without = replaced(text, "10.0.0.2\tdb\n", "");
        assert_eq!(without, "127.0.0.1\tlocalhost\n1.1.1.1\town-addition\n");
        assert_eq!(replaced(&without, "", "10.0.0.3\tdb main\n"), without.clone() + "10.0.0.3\tdb main\n");
    }
}
