//! One plugin, run: its environment, its input on stdin, its result or error on stdout.

use super::config::{NetworkList, Plugin};
use super::record::Attachment;
use super::request::LINK;
use anyhow::{Context, anyhow, bail};
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Child;
use tokio::time::timeout;

/// A plugin that does not end is killed; the slowest ones wait for DHCP.
const PATIENCE: Duration = Duration::from_secs(120);
/// More output than this is not a result.
const MOST_OUTPUT: u64 = 4 << 20;

/// The verbs of the specification that take a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
}

impl Command {
    fn word(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
        }
    }
}

/// Where plugins are found.
#[derive(Debug)]
pub(crate) struct Plugins {
    dirs: Vec<PathBuf>,
}

impl Plugins {
    pub(crate) fn new(dirs: Vec<PathBuf>) -> Self {
        Self { dirs }
    }

    /// Runs a plugin for one attachment. A namespace that is gone (a reboot) is named by nothing.
    pub(crate) async fn run(
        &self,
        command: Command,
        attachment: &Attachment,
        plugin: &Plugin,
        input: &Value,
    ) -> anyhow::Result<Option<Value>> {
        let present = command != Command::Del || attachment.netns.exists();
        let netns = if present { attachment.netns.clone().into_os_string() } else { OsString::new() };
        let environment = vec![
            ("CNI_CONTAINERID", OsString::from(&attachment.sandbox_id)),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", LINK.into()),
            ("CNI_ARGS", OsString::from(&attachment.args)),
        ];
        self.execute(command, plugin, environment, input).await.map_err(|error| {
            let verb = command.word().to_lowercase();
            anyhow!(
                "plugin type=\"{}\" name=\"{}\" failed ({verb}): {error:#}",
                plugin.kind,
                attachment.list.name
            )
        })
    }

    /// Runs a plugin for a network as a whole.
    pub(crate) async fn run_for_list(
        &self,
        command: Command,
        plugin: &Plugin,
        list: &NetworkList,
        input: &Value,
    ) -> anyhow::Result<()> {
        self.execute(command, plugin, Vec::new(), input).await.map(drop).map_err(|error| {
            let verb = command.word().to_lowercase();
            anyhow!("plugin type=\"{}\" name=\"{}\" failed ({verb}): {error:#}", plugin.kind, list.name)
        })
    }

    async fn execute(
        &self,
        command: Command,
        plugin: &Plugin,
        environment: Vec<(&str, OsString)>,
        input: &Value,
    ) -> anyhow::Result<Option<Value>> {
        let mut child = tokio::process::Command::new(self.find(&plugin.kind)?)
            .env("CNI_COMMAND", command.word())
            .env(
                "CNI_PATH",
                std::env::join_paths(&self.dirs).context("a plugin directory has a colon in its name")?,
            )
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start")?;
        let input = input.to_string();
        let output = timeout(PATIENCE, converse(&mut child, input.as_bytes())).await;
        result(&output.with_context(|| format!("no end after {} s", PATIENCE.as_secs()))??)
    }

    fn find(&self, kind: &str) -> anyhow::Result<PathBuf> {
        let found = self.dirs.iter().map(|dir| dir.join(kind)).find(|path| path.is_file());
        let path = || self.dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(" ");
        found.with_context(|| format!("failed to find plugin \"{kind}\" in path [{}]", path()))
    }
}

/// Writes and reads at the same time: a plugin may answer before it has read everything.
async fn converse(child: &mut Child, input: &[u8]) -> anyhow::Result<Output> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        if let Some(mut stdin) = stdin {
            // A plugin that ends without reading says by its result what was wrong.
            let _ = stdin.write_all(input).await;
        }
    };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let read_output = async {
        match stdout {
            Some(stdout) => stdout.take(MOST_OUTPUT).read_to_end(&mut output).await,
            None => Ok(0),
        }
    };
    let read_errors = async {
        match stderr {
            Some(stderr) => stderr.take(MOST_OUTPUT).read_to_end(&mut errors).await,
            None => Ok(0),
        }
    };
    let ((), read, complained) = tokio::join!(write, read_output, read_errors);
    read.and(complained).context("read from the plugin")?;
    let status = child.wait().await.context("wait for the plugin")?;
    Ok(Output { status, stdout: output, stderr: errors })
}

/// The result of a plugin that succeeded (only ADD has one), or its error in the specification's form.
fn result(output: &Output) -> anyhow::Result<Option<Value>> {
    let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    if output.status.success() {
        return Ok(said.filter(Value::is_object));
    }
    if let Some(text) = said.as_ref().and_then(|said| said["msg"].as_str()).filter(|text| !text.is_empty()) {
        let details =
            said.as_ref().and_then(|said| said["details"].as_str()).filter(|details| !details.is_empty());
        match details {
            Some(details) => bail!("{text}; {details}"),
            None => bail!("{text}"),
        }
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!("netplugin failed with no error message: {}: {}", output.status, stderr.trim())
}
