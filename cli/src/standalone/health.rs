//! Health checks of a container that runs: a process of ours (`knarr health`, hidden) makes one after the other and writes
//! down what came of them, as long as the container lives.
//!
//! ```text
//! DATA_DIR/containers/PLACE/health     what `docker inspect` calls State.Health, and the start that it is about
//! ```
//!
//! It is started by whoever starts the container and belongs to nobody afterwards. It holds the container's lock only for
//! the time of one check, so it is in nobody's way, and it ends with the container: each start has a process of its own.

use super::facts::Facts;
use super::plan::HEALTH_LABEL;
use super::plan::health::Check;
use super::{Standalone, is_running, places};
use crate::settings::Settings;
use anyhow::{Context, anyhow};
use jiff::Timestamp;
use knarr_agent::engine::direct::ExecOptions;
use knarr_agent::engine::monitors::{ExecSession, step_out};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

const FILE: &str = "health";
/// How many checks are remembered, and how much of what each said; Docker's numbers.
const REMEMBERED: usize = 5;
const MOST_OUTPUT: usize = 4096;

/// What is known of a container's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub(super) status: String,
    failing_streak: u64,
    log: Vec<Probe>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Probe {
    start: String,
    end: String,
    /// -1 where it took too long or could not be made.
    exit_code: i32,
    output: String,
}

impl Health {
    fn starting() -> Self {
        Self { status: "starting".into(), failing_streak: 0, log: Vec::new() }
    }

    /// Of the container in this directory; none where nothing has been written down.
    pub(super) fn read(directory: &Path) -> anyhow::Result<Option<Self>> {
        let file = directory.join(FILE);
        match std::fs::read(&file) {
            Ok(text) => {
                serde_json::from_slice(&text).with_context(|| format!("{}", file.display())).map(Some)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
        }
    }

    /// Appears whole.
    fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let (file, new) = (directory.join(FILE), directory.join("health.new"));
        let written =
            std::fs::write(&new, serde_json::to_vec(self)?).and_then(|()| std::fs::rename(&new, &file));
        written.with_context(|| format!("write {}", file.display()))
    }

    /// After one more check. While the container is starting up failures do not count, but one success ends that.
    fn after(mut self, probe: Probe, retries: u64, starts_up: bool) -> Self {
        if probe.exit_code == 0 {
            (self.status, self.failing_streak) = ("healthy".into(), 0);
        } else if !(starts_up && self.status == "starting") {
            self.failing_streak += 1;
            if self.failing_streak >= retries {
                self.status = "unhealthy".into();
            }
        }
        self.log.push(probe);
        let forgotten = self.log.len().saturating_sub(REMEMBERED);
        self.log.drain(..forgotten);
        self
    }
}

/// Has a container that has just been started looked after, if it wants that. The caller holds its lock.
pub(super) async fn begin(place: &Standalone, words: &[String]) -> anyhow::Result<()> {
    if check_of(place).await?.is_none() {
        return Ok(());
    }
    Health::starting().write(place.data_dir())?;
    let (program, arguments) = words.split_first().context("health check")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // It outlives us; while we live it is ours, and stays a zombie at most.
    command.spawn().map(drop).context("start the health checks")
}

async fn check_of(place: &Standalone) -> anyhow::Result<Option<Check>> {
    let Some(container) = place.container().await? else { return Ok(None) };
    let document = container.labels.get(HEALTH_LABEL).map(|text| serde_json::from_str(text)).transpose()?;
    Ok(document.as_ref().and_then(Check::of))
}

/// Looks after the container in this directory until it ends.
pub(super) async fn run(settings: Settings, directory: &str) -> anyhow::Result<()> {
    step_out(&settings.node.engine.monitor_cgroup)?;
    // Fails only for a leader of a process group, which no terminal's signals reach either.
    let _own_session = rustix::process::setsid();
    let place = at(&settings, directory).await?;
    let (Some(check), Some(container)) = (check_of(&place).await?, place.container().await?) else {
        return Ok(());
    };
    let run = Facts::expect(&place).await?.status.started_at;
    let monitors = place.monitors.clone();
    // The lock is held for the time of one check.
    drop(place);
    let begun = Instant::now();
    loop {
        let health = Health::read_of(&settings, directory).await?;
        let starts_up = health.status == "starting" && begun.elapsed() < check.start_period;
        let pause = if starts_up { check.start_interval } else { check.interval };
        let ended = monitors.wait(&container.pod_sandbox_id, &container.id);
        match tokio::time::timeout(pause, ended).await {
            Ok(Ok(_)) => return Ok(()),
            // A monitor that cannot be asked is being replaced.
            Ok(Err(_)) => tokio::time::sleep(pause).await,
            Err(_) => {}
        }
        if !round(&settings, directory, run, &check, begun).await? {
            return Ok(());
        }
    }
}

impl Health {
    async fn read_of(settings: &Settings, directory: &str) -> anyhow::Result<Self> {
        let place = places::all(settings)?.into_iter().find(|place| place.directory == directory);
        let place = place.ok_or_else(|| places::no_such(directory))?;
        Ok(Self::read(&place.data_dir(settings))?.unwrap_or_else(Self::starting))
    }
}

async fn at(settings: &Settings, directory: &str) -> anyhow::Result<Standalone> {
    let place = places::all(settings)?.into_iter().find(|place| place.directory == directory);
    Standalone::at(settings, place.ok_or_else(|| places::no_such(directory))?).await
}

/// One check; false where the container, as it was started then, runs no more.
async fn round(
    settings: &Settings,
    directory: &str,
    run: i64,
    check: &Check,
    begun: Instant,
) -> anyhow::Result<bool> {
    let place = at(settings, directory).await?;
    let Some(container) = place.container().await?.filter(is_running) else { return Ok(false) };
    if Facts::expect(&place).await?.status.started_at != run {
        return Ok(false);
    }
    if place.engine.is_paused(&container.id).await? {
        return Ok(true);
    }
    let starts_up = begun.elapsed() < check.start_period;
    let probe = probe(&place, &container.id, check).await;
    // What was cut short by its end says nothing about it.
    if !place.container().await?.is_some_and(|container| is_running(&container)) {
        return Ok(false);
    }
    let health = Health::read(place.data_dir())?.unwrap_or_else(Health::starting);
    health.after(probe, check.retries, starts_up).write(place.data_dir())?;
    Ok(true)
}

async fn probe(place: &Standalone, container_id: &str, check: &Check) -> Probe {
    let start = Timestamp::now().to_string();
    let options = ExecOptions { command: check.command.clone(), ..ExecOptions::default() };
    let (exit_code, output) = match place.engine.exec_with(container_id, options).await {
        Ok(session) => match tokio::time::timeout(check.timeout, ended(session)).await {
            Ok(Ok(said)) => said,
            Ok(Err(error)) => (-1, format!("{error:#}")),
            Err(_) => (-1, format!("Health check exceeded timeout ({:?})", check.timeout)),
        },
        Err(error) => (-1, error.to_string()),
    };
    Probe { start, end: Timestamp::now().to_string(), exit_code, output }
}

/// Its exit code, and the beginning of what it said.
async fn ended(mut session: ExecSession) -> anyhow::Result<(i32, String)> {
    let stdout = heard(session.stdout.try_clone()?);
    let stderr = session.stderr.take().map(heard);
    let exit = (&mut session.exit).await?.map_err(|error| anyhow!(error))?;
    let mut said = stdout.await??;
    if let Some(stderr) = stderr {
        said.extend(stderr.await??);
    }
    said.truncate(MOST_OUTPUT);
    Ok((exit.code, String::from_utf8_lossy(&said).into_owned()))
}

/// Reads all of a pipe and keeps its beginning.
fn heard(from: OwnedFd) -> tokio::task::JoinHandle<anyhow::Result<Vec<u8>>> {
    tokio::task::spawn_blocking(move || {
        rustix::io::ioctl_fionbio(&from, false)?;
        let (mut from, mut said) = (std::fs::File::from(from), Vec::new());
        from.by_ref().take(MOST_OUTPUT as u64).read_to_end(&mut said)?;
        std::io::copy(&mut from, &mut std::io::sink())?;
        Ok(said)
    })
}

/// As `ps` shows it behind the time since the start.
pub(super) fn shown(health: Option<&Health>) -> String {
    match health.map(|health| health.status.as_str()) {
        None => String::new(),
        Some("starting") => " (health: starting)".to_owned(),
        Some(status) => format!(" ({status})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(exit_code: i32) -> Probe {
        Probe { start: String::new(), end: String::new(), exit_code, output: String::new() }
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        let mut health = Health::starting();
        let mut seen = Vec::new();
        for code in [1, 1, 1, 0, 1, 0] {
            health = health.after(probe(code), 3, false);
            seen.push((health.status.clone(), health.failing_streak));
        }
        let expected = [
            ("starting", 1),
            ("starting", 2),
            ("unhealthy", 3),
            ("healthy", 0),
            ("healthy", 1),
            ("healthy", 0),
        ];
        assert_eq!(seen, expected.map(|(status, streak)| (status.to_owned(), streak)));
        assert_eq!(health.log.len(), REMEMBERED);
    }

    #[test]
    fn failures_do_not_count_while_it_starts_up() {
        let starting = Health::starting().after(probe(1), 1, true);
        assert_eq!((starting.status.as_str(), starting.failing_streak), ("starting", 0));
        let healthy = starting.after(probe(0), 1, true);
        assert_eq!(healthy.status, "healthy");
        assert_eq!(healthy.after(probe(1), 1, true).status, "unhealthy");
    }
}
