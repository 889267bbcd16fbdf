//! The node's network configuration list: the first usable file of a directory, in the order of names.
//!
//! `*.conflist` holds a list; `*.conf` and `*.json` a single plugin, which is a list of one. A list that does not
//! forbid it (`loadOnlyInlinedPlugins`) is continued by the files of a directory with its name.

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The newest version that we speak.
const NEWEST: (u32, u32) = (1, 1);
/// What a file that names no version means.
const OLDEST: &str = "0.1.0";

/// A network: plugins in the order of ADD.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkList {
    #[serde(default = "oldest")]
    pub(crate) cni_version: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cni_versions: Vec<String>,
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) disable_check: bool,
    #[serde(default, rename = "disableGC")]
    pub(crate) disable_gc: bool,
    #[serde(default)]
    load_only_inlined_plugins: bool,
    #[serde(default)]
    pub(crate) plugins: Vec<Plugin>,
}

/// One plugin: its type is the name of its program; everything else is between its author and the administrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plugin {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// What the runtime may tell this plugin.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub(crate) capabilities: Map<String, Value>,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

fn oldest() -> String {
    OLDEST.to_owned()
}

impl NetworkList {
    /// Major and minor number of the version that is spoken.
    pub(crate) fn version(&self) -> (u32, u32) {
        number(&self.cni_version)
    }
}

fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The network of the node; absent where the directory has none (yet).
pub(crate) fn load(dir: &Path) -> anyhow::Result<Option<NetworkList>> {
    let Some(path) = files(dir, &["conflist", "conf", "json"])?.into_iter().next() else { return Ok(None) };
    let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let single = path.extension().is_none_or(|extension| extension != "conflist");
    let mut list = parse(&text, single).with_context(|| format!("CNI configuration {}", path.display()))?;
    if !single && !list.load_only_inlined_plugins {
        for path in files(&dir.join(&list.name), &["conf"])? {
            let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            let plugin =
                serde_json::from_slice(&text).with_context(|| format!("CNI plugin {}", path.display()))?;
            list.plugins.push(plugin);
        }
    }
    validate(&list).with_context(|| format!("CNI configuration {}", path.display()))?;
    Ok(Some(list))
}

fn files(dir: &Path, extensions: &[&str]) -> anyhow::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", dir.display())),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("read {}", dir.display()))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extensions.contains(&extension)) && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn parse(text: &[u8], single: bool) -> anyhow::Result<NetworkList> {
    let mut list: NetworkList = serde_json::from_slice(text)?;
    if single {
        let mut plugin: Plugin = serde_json::from_slice(text)?;
        for key in ["cniVersion", "cniVersions", "name"] {
            plugin.rest.remove(key);
        }
        list.plugins = vec![plugin];
    }
    // The newest of the offered versions that we know.
    let offered = list.cni_versions.iter().chain([&list.cni_version]);
    let best =
        offered.filter(|version| number(version) <= NEWEST).max_by_key(|version| number(version)).cloned();
    list.cni_version = best.with_context(|| format!("unsupported CNI version {}", list.cni_version))?;
    Ok(list)
}

/// Names become file names and arguments.
fn validate(list: &NetworkList) -> anyhow::Result<()> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let valid = |name: &str| name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(plain);
    ensure!(valid(&list.name), "invalid network name {:?}", list.name);
    ensure!(!list.plugins.is_empty(), "no plugins in list");
    for plugin in &list.plugins {
        ensure!(valid(&plugin.kind), "invalid plugin type {:?}", plugin.kind);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_from(files: &[(&str, &str)]) -> anyhow::Result<Option<NetworkList>> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        load(dir.path())
    }

    #[test]
    fn the_first_file_counts_and_a_single_plugin_is_a_list() {
        assert_eq!(load_from(&[("README", "x")]).unwrap(), None);
        let single = r#"{"cniVersion": "1.0.0", "name": "one", "type": "bridge", "mtu": 9000}"#;
        let list = r#"{"cniVersion": "1.0.0", "name": "two", "plugins": [{"type": "a"}, {"type": "b"}]}"#;
        let found = load_from(&[("20-b.conflist", list), ("10-a.conf", single)]).unwrap().unwrap();
        assert_eq!((found.name.as_str(), found.plugins.len()), ("one", 1));
        assert_eq!(found.plugins[0].rest["mtu"], 9000);
        assert!(!found.plugins[0].rest.contains_key("name"));
        let found =
            load_from(&[("10-b.conflist", list), ("two/30-c.conf", r#"{"type": "c"}"#)]).unwrap().unwrap();
        assert_eq!(
            found.plugins.iter().map(|plugin| plugin.kind.as_str()).collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
    }

    #[test]
    fn the_newest_common_version_is_spoken() {
        for (versions, spoken) in [
            (r#""cniVersion": "0.4.0""#, Some("0.4.0")),
            (r#""cniVersions": ["0.4.0", "1.1.0", "2.0.0"]"#, Some("1.1.0")),
            (r#""name": "n""#, Some("0.1.0")),
            (r#""cniVersion": "2.0.0""#, None),
        ] {
            let name = if versions.contains("name") { "" } else { r#","name": "n""# };
            let text = format!(r#"{{{versions}{name},"plugins": [{{"type": "a"}}]}}"#);
            let list = load_from(&[("a.conflist", &text)]);
            assert_eq!(
                list.ok().flatten().map(|list| list.cni_version),
                spoken.map(str::to_owned),
                "{versions}"
            );
        }
    }

    #[test]
    fn broken_configurations_name_the_file() {
        for text in [
            "",
            "[]",
            r#"{"name": "n"}"#,
            r#"{"name": "../n", "plugins": [{"type": "a"}]}"#,
            r#"{"name": "n", "plugins": [{"type": "../../bin/sh"}]}"#,
            r#"{"name": "n", "plugins": []}"#,
        ] {
            let error = format!("{:#}", load_from(&[("a.conflist", text)]).unwrap_err());
            assert!(error.contains("a.conflist"), "{text}: {error}");
        }
    }
}
