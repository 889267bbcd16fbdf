//! Health checks of a container that runs: a process of ours (`knarr health`, hidden) has one after the other made, by a
//! process each, and what came of them is written down, as long as the container lives.
//!
//! ```text
//! DATA_DIR/containers/PLACE/health     what `docker inspect` calls State.Health
//! ```
//!
//! It is started by whoever starts the container and belongs to nobody afterwards. It has no engine and holds no lock: an
//! engine takes part in the end of its containers, which only who holds the lock may do. It asks the monitor alone, and ends
//! with the container: each start has a process of its own. A check holds the lock until the end of its process.

use super::facts::Facts;
use super::places::{self, Place};
use super::plan::HEALTH_LABEL;
use super::plan::health::Check;
use super::{Standalone, config_of, helper, is_running};
use crate::settings::Settings;
use anyhow::{Context, anyhow};
use jiff::Timestamp;
use knarr_agent::engine::direct::ExecOptions;
use knarr_agent::engine::monitors::{ExecSession, Monitors, UnixMonitors, step_out};
use serde::{Deserialize, Serialize};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const FILE: &str = "health";
/// How many checks are remembered, and how much of what each said; Docker's numbers.
const REMEMBERED: usize = 5;
const MOST_OUTPUT: usize = 4096;
/// The exit status of a check that found another life, or none.
const ENDED: u8 = 3;
/// Before a monitor that did not answer is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What is known of a container's health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Health {
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

/// Which life of which container is looked after, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Watch {
    pod: String,
    container: String,
    /// When it was started.
    life: i64,
    check: Check,
}

/// Has a container that has just been started looked after, if it wants that. The caller holds its lock.
pub(super) async fn begin(place: &Standalone, words: &[String]) -> anyhow::Result<()> {
    let Some(container) = place.container().await? else { return Ok(()) };
    let Some(document) = container.labels.get(HEALTH_LABEL) else { return Ok(()) };
    let Some(check) = Check::of(&serde_json::from_str(document)?) else { return Ok(()) };
    let watch = Watch {
        pod: container.pod_sandbox_id,
        container: container.id,
        life: Facts::expect(place).await?.status.started_at,
        check,
    };
    Health::starting().write(place.data_dir())?;
    // It outlives us; while we live it is ours, and stays a zombie at most.
    command(words, &[&serde_json::to_string(&watch)?])?.spawn().map(drop).context("start the health checks")
}

/// A command of this program about the container.
fn command(words: &[String], more: &[&str]) -> anyhow::Result<Command> {
    let (program, arguments) = words.split_first().context("health check")?;
    let mut command = Command::new(program);
    command.args(arguments).args(more).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command)
}

/// Looks after a container until it ends, or makes one check.
pub(super) async fn run(
    settings: Settings,
    directory: &str,
    watch: &str,
    once: Option<bool>,
) -> anyhow::Result<ExitCode> {
    let text = watch;
    let watch: Watch = serde_json::from_str(text).context("what to look after")?;
    if let Some(starts_up) = once {
        let lives = round(&settings, directory, &watch, starts_up).await?;
        return Ok(if lives { ExitCode::SUCCESS } else { ExitCode::from(ENDED) });
    }
    step_out(&settings.node.engine.monitor_cgroup)?;
    // Fails only for a leader of a process group, which no terminal's signals reach either.
    let _own_session = rustix::process::setsid();
    let Some(place) = at(&settings, directory)? else { return Ok(ExitCode::SUCCESS) };
    let monitors = UnixMonitors::new(Arc::new(config_of(&settings, &place)));
    let words = helper(&settings, &place, "health")?;
    let begun = Instant::now();
    loop {
        let status = Health::read(&place.data_dir(&settings))?.map(|health| health.status);
        let starting = status.is_none_or(|status| status == "starting");
        let starts_up = starting && begun.elapsed() < watch.check.start_period;
        let pause = if starts_up { watch.check.start_interval } else { watch.check.interval };
        match tokio::time::timeout(pause, monitors.wait(&watch.pod, &watch.container)).await {
            Ok(Ok(_)) => return Ok(ExitCode::SUCCESS),
            // A monitor that cannot be asked is being replaced, or gone with everything.
            Ok(Err(_)) => tokio::time::sleep(pause.min(ASK_AGAIN)).await,
            Err(_) => {}
        }
        let in_time = (begun.elapsed() < watch.check.start_period).to_string();
        let mut check = command(&words, &[text, "--once", &in_time])?;
        let made = tokio::task::spawn_blocking(move || check.status()).await??;
        if made.code() == Some(ENDED.into()) || at(&settings, directory)?.is_none() {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn at(settings: &Settings, directory: &str) -> anyhow::Result<Option<Place>> {
    Ok(places::all(settings)?.into_iter().find(|place| place.directory == directory))
}

/// One check; false where the container does not live that life any more.
async fn round(settings: &Settings, directory: &str, watch: &Watch, starts_up: bool) -> anyhow::Result<bool> {
    let Some(place) = at(settings, directory)? else { return Ok(false) };
    let place = Standalone::at(settings, place).await?;
    let lives = checked(&place, watch, starts_up).await;
    // Its engine may be writing down the end of the container just now: the lock goes with this process.
    std::mem::forget(place);
    lives
}

async fn checked(place: &Standalone, watch: &Watch, starts_up: bool) -> anyhow::Result<bool> {
    let Some(container) = place.container().await?.filter(is_running) else { return Ok(false) };
    if container.id != watch.container || Facts::expect(place).await?.status.started_at != watch.life {
        return Ok(false);
    }
    if place.engine.is_paused(&container.id).await? {
        return Ok(true);
    }
    let probe = probe(place, &container.id, &watch.check).await;
    // What was cut short by its end says nothing about it.
    if !place.container().await?.is_some_and(|container| is_running(&container)) {
        return Ok(false);
    }
    let health = Health::read(place.data_dir())?.unwrap_or_else(Health::starting);
    let before = health.status.clone();
    let health = health.after(probe, watch.check.retries, starts_up);
    health.write(place.data_dir())?;
    if health.status != before {
        place.tell_of(&container, &format!("health_status: {}", health.status), &[]);
    }
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
