//! The image in the making: its config as far as the instructions have got, its layers, its history.
//!
//! What a base image says and we do not know is kept as it is. Nothing here depends on the time of day: an image is
//! as old as the newest file that was put into it.

use crate::build::instruction::Command;
use crate::digest::{Digest, chain_ids};
use crate::error::{Error, Result};
use crate::manifest::{Descriptor, LayerPlan};
use crate::platform::Platform;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// An image that can still change.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// The config document but for what has a field here.
    document: Map<String, Value>,
    /// Its `config` object but for the environment.
    config: Map<String, Value>,
    pub(crate) env: Vec<(String, String)>,
    history: Vec<Value>,
    pub(crate) layers: Vec<LayerPlan>,
    /// Seconds since 1970 of the newest file.
    pub(crate) newest: i64,
    /// CMD was given since FROM: a later ENTRYPOINT leaves it alone.
    own_cmd: bool,
}

impl Draft {
    /// `FROM scratch`.
    pub(crate) fn scratch(platform: &Platform) -> Self {
        let mut document = Map::new();
        document.insert("architecture".to_owned(), json!(platform.architecture));
        document.insert("os".to_owned(), json!(platform.os));
        if let Some(variant) = &platform.variant {
            document.insert("variant".to_owned(), json!(variant));
        }
        let (config, env) = (Map::new(), vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())]);
        Self { document, config, env, history: Vec::new(), layers: Vec::new(), newest: 0, own_cmd: false }
    }

    /// `FROM` an image: its config, and its layers from the bottom up.
    pub(crate) fn of_image(config: Value, blobs: Vec<Descriptor>) -> Result<Self> {
        let Value::Object(mut document) = config else { return Err(Error::invalid("config: not an object")) };
        let object = |value: Option<Value>| match value {
            Some(Value::Object(object)) => object,
            _ => Map::new(),
        };
        let mut config = object(document.remove("config"));
        let env = strings(config.remove("Env")).iter().map(|pair| split(pair)).collect();
        let rootfs = object(document.remove("rootfs"));
        let diff_ids: Vec<Digest> = strings(rootfs.get("diff_ids").cloned())
            .iter()
            .map(|id| Digest::parse(id))
            .collect::<Result<_>>()?;
        let mut history = match document.remove("history") {
            Some(Value::Array(history)) => history,
            _ => Vec::new(),
        };
        // Other tools count on one entry per layer.
        let layers = history.iter().filter(|entry| entry["empty_layer"] != json!(true)).count();
        history.extend((layers..diff_ids.len()).map(|_| json!({})));
        let newest = document.remove("created").and_then(|created| seconds(created.as_str()?)).unwrap_or(0);
        document.remove("container_config");
        let layers = plan(&diff_ids, blobs);
        Ok(Self { document, config, env, history, layers, newest, own_cmd: false })
    }

    /// `FROM` a stage.
    pub(crate) fn of_stage(stage: &Self) -> Self {
        Self { own_cmd: false, ..stage.clone() }
    }

    /// The layer everything so far amounts to.
    pub(crate) fn top(&self) -> Option<&Digest> {
        self.layers.last().map(|layer| &layer.chain_id)
    }

    /// Puts a layer on top.
    pub(crate) fn push(&mut self, blob: Descriptor, diff_id: Digest, newest: i64) {
        let layer = next_layer(self.layers.last(), blob, diff_id);
        self.layers.push(layer);
        self.newest = self.newest.max(newest);
    }

    /// One more line of history.
    pub(crate) fn remember(&mut self, created_by: &str, with_layer: bool) {
        let mut entry = json!({"created": rfc3339(self.newest), "created_by": created_by});
        if !with_layer {
            entry["empty_layer"] = json!(true);
        }
        self.history.push(entry);
    }

    /// Adds a remark to the last line of history.
    pub(crate) fn comment(&mut self, text: &str) {
        if let Some(entry) = self.history.last_mut() {
            entry["comment"] = json!(text);
        }
    }

    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        match self.env.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.env.push((name.to_owned(), value.to_owned())),
        }
    }

    pub(crate) fn env(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn text(&self, key: &str) -> &str {
        self.config.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn user(&self) -> &str {
        self.text("User")
    }

    /// Where commands start: always absolute.
    pub(crate) fn workdir(&self) -> String {
        match self.text("WorkingDir") {
            "" => "/".to_owned(),
            path => path.to_owned(),
        }
    }

    /// Sets a field of the config, or removes it where the value is null.
    pub(crate) fn set(&mut self, key: &str, value: Value) {
        match value {
            Value::Null => self.config.remove(key),
            value => self.config.insert(key.to_owned(), value),
        };
    }

    /// Adds to a field that is an object (`Labels`, `Volumes`, `ExposedPorts`).
    pub(crate) fn add(&mut self, key: &str, name: &str, value: Value) {
        let field = self.config.entry(key).or_insert_with(|| json!({}));
        if !field.is_object() {
            *field = json!({});
        }
        field[name] = value;
    }

    /// The instructions that wait for a child image.
    pub(crate) fn triggers(&self) -> Vec<String> {
        strings(self.config.get("OnBuild").cloned())
    }

    /// Takes them: they are not inherited further.
    pub(crate) fn take_triggers(&mut self) -> Vec<String> {
        strings(self.config.remove("OnBuild"))
    }

    pub(crate) fn add_trigger(&mut self, text: &str) {
        let mut triggers = strings(self.config.remove("OnBuild"));
        triggers.push(text.to_owned());
        self.set("OnBuild", json!(triggers));
    }

    pub(crate) fn set_cmd(&mut self, command: &Command) {
        self.own_cmd = true;
        self.set("Cmd", json!(self.argv(command)));
    }

    /// An inherited CMD was meant for another entry point.
    pub(crate) fn set_entrypoint(&mut self, command: &Command) {
        let argv = self.argv(command);
        self.set("Entrypoint", if argv.is_empty() { Value::Null } else { json!(argv) });
        if !self.own_cmd {
            self.set("Cmd", Value::Null);
        }
    }

    pub(crate) fn set_author(&mut self, author: &str) {
        self.document.insert("author".to_owned(), json!(author));
    }

    /// Somebody chose the shell.
    pub(crate) fn has_shell(&self) -> bool {
        self.config.get("Shell").is_some_and(|shell| !strings(Some(shell.clone())).is_empty())
    }

    /// The words of a command; a line goes to the shell.
    pub(crate) fn argv(&self, command: &Command) -> Vec<String> {
        match command {
            Command::Exec(words) => words.clone(),
            Command::Shell(line) => {
                let mut argv = strings(self.config.get("Shell").cloned());
                if argv.is_empty() {
                    argv = vec!["/bin/sh".to_owned(), "-c".to_owned()];
                }
                argv.push(line.clone());
                argv
            }
        }
    }

    pub(crate) fn platform(&self) -> (&str, &str) {
        let text = |key| self.document.get(key).and_then(Value::as_str).unwrap_or_default();
        (text("os"), text("architecture"))
    }

    /// The finished document; `clamp` is when it was made, if somebody decided that.
    pub(crate) fn document(&self, clamp: Option<i64>) -> Result<Vec<u8>> {
        let mut document = self.document.clone();
        let mut config = self.config.clone();
        if !self.env.is_empty() {
            let env: Vec<String> = self.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
            config.insert("Env".to_owned(), json!(env));
        }
        let created = clamp.unwrap_or(self.newest);
        let diff_ids: Vec<&Digest> = self.layers.iter().map(|layer| &layer.diff_id).collect();
        document.insert("config".to_owned(), Value::Object(config));
        document.insert("created".to_owned(), json!(rfc3339(created)));
        document.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": diff_ids}));
        document.insert("history".to_owned(), json!(self.history));
        serde_json::to_vec(&document).map_err(|e| Error::invalid(e.to_string()))
    }
}

/// What every engine gives a command whose image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A layer on top of another.
pub(crate) fn next_layer(below: Option<&LayerPlan>, blob: Descriptor, diff_id: Digest) -> LayerPlan {
    let parent = below.map(|layer| layer.chain_id.clone());
    let chain_id = match &parent {
        None => diff_id.clone(),
        Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
    };
    LayerPlan { blob, diff_id, chain_id, parent }
}

fn plan(diff_ids: &[Digest], blobs: Vec<Descriptor>) -> Vec<LayerPlan> {
    debug_assert_eq!(chain_ids(diff_ids).len(), diff_ids.len());
    let mut layers: Vec<LayerPlan> = Vec::new();
    for (diff_id, blob) in diff_ids.iter().zip(blobs) {
        layers.push(next_layer(layers.last(), blob, diff_id.clone()));
    }
    layers
}

fn strings(value: Option<Value>) -> Vec<String> {
    value.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
}

fn split(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (name.to_owned(), value.to_owned())
}

/// Seconds since 1970 in the words of RFC 3339.
pub(crate) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// Ports of EXPOSE: `80`, `80/udp`, `8000-8005`; always with a protocol.
pub(crate) fn ports(text: &str) -> Result<BTreeSet<String>> {
    let wrong = || Error::invalid(format!("invalid containerPort: {text}"));
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(Error::invalid(format!("invalid proto: {protocol}")));
    }
    // Docker also takes the publishing form; the container's port is its last part.
    let range = range.rsplit(':').next().unwrap_or(range);
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| wrong())?, last.parse().map_err(|_| wrong())?);
    if first == 0 || last < first {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_point_forgets_an_inherited_command() {
        let config =
            json!({"config": {"Cmd": ["a"], "Env": ["A=b=c"]}, "rootfs": {"diff_ids": []}, "os": "linux"});
        let mut draft = Draft::of_image(config, Vec::new()).unwrap();
        assert_eq!(draft.env, [("A".to_owned(), "b=c".to_owned())]);
        draft.set_entrypoint(&Command::Exec(vec!["e".into()]));
        assert!(!String::from_utf8(draft.document(None).unwrap()).unwrap().contains("Cmd"));
        draft.set_cmd(&Command::Shell("x y".into()));
        draft.set_entrypoint(&Command::Exec(vec!["f".into()]));
        let document: Value = serde_json::from_slice(&draft.document(None).unwrap()).unwrap();
        assert_eq!(document["config"]["Cmd"], json!(["/bin/sh", "-c", "x y"]));
        assert_eq!(
            (document["os"].as_str(), document["created"].as_str()),
            (Some("linux"), Some("1970-01-01T00:00:00Z"))
        );
    }

    #[test]
    fn exposed_ports() {
        assert_eq!(ports("80").unwrap(), BTreeSet::from(["80/tcp".to_owned()]));
        assert_eq!(ports("1-3/UDP").unwrap().len(), 3);
        for wrong in ["x", "80/icmp", "3-1", "0", "70000"] {
            assert!(ports(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn history_has_an_entry_per_layer() {
        let id = Digest::of(b"1");
        let config = json!({"rootfs": {"diff_ids": [id]}});
        let blob = Descriptor::new("x", Digest::of(b"2"), 1);
        let mut draft = Draft::of_image(config, vec![blob.clone()]).unwrap();
        draft.push(blob, Digest::of(b"3"), 7);
        draft.remember("RUN x", true);
        draft.remember("ENV x", false);
        let document: Value = serde_json::from_slice(&draft.document(None).unwrap()).unwrap();
        assert_eq!(document["history"].as_array().unwrap().len(), 3);
        assert_eq!(document["created"], "1970-01-01T00:00:07Z");
        assert_eq!(draft.top().unwrap(), &chain_ids(&[id, Digest::of(b"3")])[1]);
    }
}
