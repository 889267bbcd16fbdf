//! `knarr attach`, and how `run` and `start -a` stay with a container: stdio, terminal, signals, detach keys.

use super::run::Created;
use super::{Standalone, terminal};
use crate::args::{Attach, Terminal};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, bail};
use knarr_agent::cri::RuntimeService;
use knarr_agent::cri::v1::ContainerStatusRequest;
use knarr_agent::engine::monitors::{AttachOutput, AttachSession};
use std::io::Write;
use std::process::ExitCode;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;

/// After so many signals that ask for an end, the container is killed.
const PATIENCE: usize = 3;

/// How to be with a container.
#[derive(Debug)]
pub(super) struct Manner {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    keys: Vec<u8>,
    proxy: bool,
}

impl Manner {
    pub(super) fn new(terminal: &Terminal, stdin: bool) -> anyhow::Result<Self> {
        let keys = terminal::keys(&terminal.detach_keys)?;
        Ok(Self { stdin, stdout: true, stderr: true, keys, proxy: terminal.sig_proxy })
    }

    /// With these streams alone, where any are named.
    pub(super) fn only(self, streams: &[String], detached: bool) -> anyhow::Result<Self> {
        if streams.is_empty() {
            return Ok(self);
        }
        if detached {
            bail!("Conflicting options: -a and -d");
        }
        let streams: Vec<String> = streams.iter().map(|stream| stream.to_ascii_lowercase()).collect();
        let known = ["stdin", "stdout", "stderr"];
        if let Some(other) = streams.iter().find(|stream| !known.contains(&stream.as_str())) {
            bail!(
                "invalid argument \"{other}\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR"
            );
        }
        let named = |name: &str| streams.iter().any(|stream| stream == name);
        Ok(Self {
            stdin: self.stdin && named("stdin"),
            stdout: named("stdout"),
            stderr: named("stderr"),
            ..self
        })
    }
}

/// How being with it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Ended(i32),
    Detached,
}

impl Outcome {
    pub(super) fn code(self) -> ExitCode {
        match self {
            Self::Ended(code) => ExitCode::from(code.clamp(0, 255) as u8),
            Self::Detached => ExitCode::SUCCESS,
        }
    }
}

/// Joins a running container.
pub(crate) async fn run(settings: Settings, arguments: Attach) -> anyhow::Result<ExitCode> {
    let place = Standalone::find(&settings, &arguments.name).await?;
    let Ok(container) = place.running().await else {
        bail!("You cannot attach to a stopped container, start it first");
    };
    if place.engine.is_paused(&container.id).await? {
        bail!("You cannot attach to a paused container, unpause it first");
    }
    let created = created(&place, container.pod_sandbox_id, container.id).await?;
    let manner = Manner::new(&arguments.terminal, !arguments.no_stdin)?;
    let outcome = join(&place, &created, &manner, false).await?;
    super::sweep(&settings, &place).await?;
    Ok(match outcome {
        // By its keys; whoever sends no signals on asks for no more than to go.
        Outcome::Detached if arguments.terminal.sig_proxy => ExitCode::FAILURE,
        outcome => outcome.code(),
    })
}

/// What is known of a container that exists.
pub(super) async fn created(
    place: &Standalone,
    sandbox_id: String,
    container_id: String,
) -> anyhow::Result<Created> {
    let request = ContainerStatusRequest { container_id: container_id.clone(), verbose: true };
    let info = place.engine.container_status(request).await?.info;
    let info: serde_json::Value = serde_json::from_str(info.get("info").context("container status")?)?;
    let tty = info["runtimeSpec"]["process"]["terminal"].as_bool().unwrap_or(false);
    Ok(Created { sandbox_id, container_id, tty })
}

/// Carries stdio until the container ends or the user goes. Joined before a start, so that not a byte is lost.
pub(super) async fn join(
    place: &Standalone,
    created: &Created,
    manner: &Manner,
    start: bool,
) -> anyhow::Result<Outcome> {
    let mut signals = terminal::signals()?;
    let session = place.monitors.attach(&created.sandbox_id, &created.container_id).await?;
    place.tell("attach", &[]).await;
    let _raw = if created.tty && manner.stdin { terminal::RawMode::enter()? } else { None };
    if start {
        place.begin(&created.container_id).await?;
    }
    let (detach, detached) = oneshot::channel();
    let detached = terminal::told(detached);
    let keys = if created.tty { manner.keys.clone() } else { Vec::new() };
    let stdin = manner.stdin.then_some((keys, detach));
    let shown = (manner.stdout, manner.stderr);
    let printed = tokio::spawn(pump(session, stdin, created.tty, shown));
    let exit = place.monitors.wait(&created.sandbox_id, &created.container_id);
    tokio::pin!(exit, detached);
    let mut asked = 0;
    let exit = loop {
        tokio::select! {
            exit = &mut exit => break exit?,
            () = &mut detached => {
                output::complain("read escape sequence");
                return Ok(Outcome::Detached);
            }
            Some(name) = signals.recv() => {
                if !manner.proxy {
                    return Ok(Outcome::Detached);
                }
                asked += usize::from(["INT", "TERM"].contains(&name));
                let name = if asked >= PATIENCE { "KILL" } else { name };
                // It may have ended by now.
                let _ended = place.engine.signal(&created.container_id, name).await;
            }
        }
    };
    printed.await??;
    place.tell_exit(&exit).await;
    Ok(Outcome::Ended(exit.code))
}

/// Carries stdio until the container's output ends.
async fn pump(
    session: AttachSession,
    typed: Option<(Vec<u8>, oneshot::Sender<()>)>,
    tty: bool,
    shown: (bool, bool),
) -> anyhow::Result<()> {
    let AttachSession { stdin, output, resize } = session;
    let _kept = match typed {
        Some((keys, detach)) => {
            terminal::forward_stdin(stdin, keys, detach);
            None
        }
        // Dropping it would be an end-of-file for a container whose stdin stays open for others.
        None => Some(stdin),
    };
    let sizes = tty.then(|| tokio::spawn(terminal::follow_size(resize)));
    let printed = print(output, shown).await;
    if let Some(sizes) = sizes {
        sizes.abort();
    }
    printed
}

async fn print(mut output: Receiver<AttachOutput>, (stdout, stderr): (bool, bool)) -> anyhow::Result<()> {
    while let Some(piece) = output.recv().await {
        match piece {
            AttachOutput::Stdout(bytes) if stdout => write(&mut std::io::stdout(), &bytes)?,
            AttachOutput::Stderr(bytes) if stderr => write(&mut std::io::stderr(), &bytes)?,
            AttachOutput::Stdout(_) | AttachOutput::Stderr(_) => {}
        }
    }
    Ok(())
}

/// A reader that went away (`knarr run ... | head`) ends the printing, not the container.
fn write(stream: &mut dyn Write, bytes: &[u8]) -> anyhow::Result<()> {
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write output"),
        _ => Ok(()),
    }
}
