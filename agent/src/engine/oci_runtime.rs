//! An OCI runtime as a program: the calls the engine makes itself (the monitor makes `create` and `exec`).
//!
//! Every call has a deadline and is killed when it passes, so a hung runtime holds up nobody but its own caller.
//! Errors are the runtime's own last words, because people search for those.

use super::cgroups;
use super::failures::DeadlineExceeded;
use anyhow::{Context, anyhow};
use knarr_runtime::spec::{Features, Resources};
use knarr_runtime::state::State;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;

/// For calls that only talk to the kernel. A `kill` that hangs must not keep a container alive for long: the engine
/// then kills the cgroup itself.
const DEADLINE: Duration = Duration::from_secs(30);
/// `start` runs hooks.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// One runtime binary with the directory of its state.
#[derive(Debug, Clone)]
pub(crate) struct OciRuntime {
    binary: PathBuf,
    root: PathBuf,
    /// Its containers' cgroups are made by systemd.
    by_systemd: bool,
    features: Arc<OnceCell<Features>>,
}

impl OciRuntime {
    pub(crate) fn new(binary: PathBuf, root: PathBuf) -> Self {
        Self { binary, root, by_systemd: false, features: Arc::default() }
    }

    /// The same for the containers of a pod with this parent.
    pub(crate) fn in_group(&self, parent: &str) -> Self {
        Self { by_systemd: cgroups::slice(parent).is_some(), ..self.clone() }
    }

    /// The program and its global arguments, for the monitor.
    pub(crate) fn argv(&self) -> Vec<String> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let systemd = self.by_systemd.then(|| "--systemd-cgroup".to_owned());
        [text(&self.binary), "--root".into(), text(&self.root)].into_iter().chain(systemd).collect()
    }

    /// Lets a created container run.
    pub(crate) async fn start(&self, id: &str) -> anyhow::Result<()> {
        self.call(&["start", id], None, START_DEADLINE).await.map(drop)
    }

    /// Sends a signal to the container's first process. A container that has ended needs none.
    pub(crate) async fn kill(&self, id: &str, signal: &str) -> anyhow::Result<()> {
        match self.call(&["kill", id, signal], None, DEADLINE).await {
            Err(error) if is_gone(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Freezes all processes of the container.
    pub(crate) async fn pause(&self, id: &str) -> anyhow::Result<()> {
        self.call(&["pause", id], None, DEADLINE).await.map(drop)
    }

    /// Lets frozen processes go on.
    pub(crate) async fn resume(&self, id: &str) -> anyhow::Result<()> {
        self.call(&["resume", id], None, DEADLINE).await.map(drop)
    }

    /// Writes down what the container does, which stays as it is: criu's images, and its log and figures in `work`.
    pub(crate) async fn checkpoint(
        &self,
        id: &str,
        images: &Path,
        work: &Path,
        deadline: Duration,
    ) -> anyhow::Result<()> {
        let (images, work) = (images.to_string_lossy(), work.to_string_lossy());
        let flags = ["checkpoint", "--leave-running", "--file-locks", "--image-path", &images];
        let words: Vec<&str> = flags.into_iter().chain(["--work-path", &work, id]).collect();
        self.call(&words, None, deadline).await.map(drop)
    }

    /// Removes the container, killing it if need be; fine if there is none.
    pub(crate) async fn delete(&self, id: &str) -> anyhow::Result<()> {
        match self.call(&["delete", "--force", id], None, DEADLINE).await {
            Err(error) if is_gone(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Changes limits of a container.
    pub(crate) async fn update(&self, id: &str, resources: &Resources) -> anyhow::Result<()> {
        let json = serde_json::to_vec(resources)?;
        self.call(&["update", "--resources", "-", id], Some(json), DEADLINE).await.map(drop)
    }

    /// What the runtime can do; asked once.
    pub(crate) async fn features(&self) -> anyhow::Result<&Features> {
        let ask = || async {
            let json = self.call(&["features"], None, DEADLINE).await?;
            serde_json::from_slice(&json).context("parsing the runtime's features")
        };
        self.features.get_or_try_init(ask).await
    }

    /// What the runtime knows; `None` if it knows nothing.
    pub(crate) async fn state(&self, id: &str) -> anyhow::Result<Option<State>> {
        match self.call(&["state", id], None, DEADLINE).await {
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
            Ok(json) => Ok(Some(serde_json::from_slice(&json).context("parsing the runtime's state")?)),
        }
    }

    async fn call(
        &self,
        arguments: &[&str],
        stdin: Option<Vec<u8>>,
        deadline: Duration,
    ) -> anyhow::Result<Vec<u8>> {
        let command = arguments.first().copied().unwrap_or_default();
        match tokio::time::timeout(deadline, self.run(arguments, stdin)).await {
            Ok(result) => result,
            Err(_) => {
                Err(DeadlineExceeded(format!("runtime {command} did not end within {deadline:?}")).into())
            }
        }
    }

    async fn run(&self, arguments: &[&str], stdin: Option<Vec<u8>>) -> anyhow::Result<Vec<u8>> {
        let mut child = tokio::process::Command::new(&self.binary)
            .args(self.argv().into_iter().skip(1))
            .args(arguments)
            .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("running {}", self.binary.display()))?;
        if let (Some(bytes), Some(mut pipe)) = (stdin, child.stdin.take()) {
            // A runtime that ends early says why on stderr; the broken pipe says nothing.
            drop(pipe.write_all(&bytes).await);
        }
        let output = child.wait_with_output().await?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(anyhow!("{}", last_words(&String::from_utf8_lossy(&output.stderr), &output.status.to_string())))
    }
}

/// The message of the last line, in runc's text format (`level=error msg="..."`) or bare.
fn last_words(stderr: &str, status: &str) -> String {
    let Some(line) = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()) else {
        return format!("the runtime said nothing and ended with {status}");
    };
    let Some((_, message)) = line.split_once("msg=") else { return line.to_owned() };
    if !message.starts_with('"') {
        return message.to_owned();
    }
    // The text format quotes as JSON does, as far as runtimes go.
    let mut values = serde_json::Deserializer::from_str(message).into_iter::<String>();
    match values.next() {
        Some(Ok(text)) => text,
        _ => message.trim_matches('"').to_owned(),
    }
}

/// The words of runc, crun and our own runtime for a container that is not there or has ended.
fn is_gone(error: &anyhow::Error) -> bool {
    let text = error.to_string();
    ["does not exist", "not running", "No such file or directory", "already finished", "no such process"]
        .iter()
        .any(|words| text.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_error() {
        let runc = "time=\"x\" level=warning msg=\"w\"\ntime=\"x\" level=error msg=\"exec \\\"foo\\\": not found\"\n";
        assert_eq!(last_words(runc, "1"), "exec \"foo\": not found");
        assert_eq!(last_words("container does not exist\n", "1"), "container does not exist");
        assert!(last_words("\n", "exit status: 3").contains("exit status: 3"));
        assert_eq!(last_words("level=error msg=plain", "1"), "plain");
    }

    #[test]
    fn a_missing_container_is_recognised() {
        for text in ["container does not exist", "container \"x\" does not exist", "container not running"] {
            assert!(is_gone(&anyhow!("{text}")), "{text}");
        }
        assert!(!is_gone(&anyhow!("permission denied")));
    }

    #[tokio::test]
    async fn a_hung_runtime_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("runtime");
        crate::script_file::write(&script, "#!/bin/sh\nread forever <&0\nexec tail -f /dev/null\n");
        let runtime = OciRuntime::new(script, "/nowhere".into());
        let error = runtime.call(&["kill", "x"], None, Duration::from_millis(100)).await.unwrap_err();
        assert!(error.is::<DeadlineExceeded>(), "{error}");
    }
}
