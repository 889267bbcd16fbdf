//! Starting a monitor, detached from us: it makes its own session and cgroup, and tells us when it listens.

use crate::config::Config;
use anyhow::{Context, bail};
use knarr_monitor::cgroup_mounts::CgroupMount;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

/// A start takes milliseconds; this long only where the machine is in trouble.
const START_TIMEOUT: Duration = Duration::from_secs(60);

const PROGRAM: &str = "knarr-monitor";

/// Starts the monitor of `directory` and returns when it listens. Whoever makes the pod makes the directory: one that is
/// started when its pod has just been removed finds nothing to live in.
pub(super) async fn launch(config: &Config, directory: &Path) -> anyhow::Result<()> {
    let program = program(config);
    // It changes its directory itself: whoever asks for that here has our whole memory copied, by `fork`.
    let mut child = Command::new(&program)
        .arg("--directory")
        .arg(directory)
        .args(["--cgroup", &config.engine.monitor_cgroup])
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("run {}", program.display()))?;
    let mut said = String::new();
    let listening = async {
        match &mut child.stdout {
            Some(stdout) => stdout.read_to_string(&mut said).await,
            None => Ok(0),
        }
    };
    let heard = tokio::time::timeout(START_TIMEOUT, listening).await;
    if heard.is_err() {
        child.start_kill()?;
        bail!("{} did not become ready within {START_TIMEOUT:?}", program.display());
    }
    // It outlives us; while we live, we are its parent and must reap it.
    tokio::spawn(async move { child.wait().await });
    match said.trim() {
        "ready" => Ok(()),
        "" => bail!("{} ended without a word", program.display()),
        error => bail!("{}: {error}", program.display()),
    }
}

/// Makes a process that a monitor has started an ordinary one: it gets the signals that monitors block, and leaves their
/// cgroup, which is to go with the last of them and may have lost it already. Where the kernel refuses (a nested root that
/// hands controllers on), it stays.
pub fn step_out(monitors: &str) -> std::io::Result<()> {
    nix::sys::signal::SigSet::empty().thread_set_mask()?;
    for mount in CgroupMount::all()?.iter().filter(|mount| mount.matters_for_separation()) {
        let _stays = std::fs::write(mount.point.join("cgroup.procs"), "0");
        let _in_use = std::fs::remove_dir(mount.point.join(monitors.trim_start_matches('/')));
    }
    Ok(())
}

/// As configured, else next to our own executable, else on PATH.
fn program(config: &Config) -> PathBuf {
    let beside_us =
        || Some(std::env::current_exe().ok()?.with_file_name(PROGRAM)).filter(|path| path.is_file());
    config.monitor_binary.clone().or_else(beside_us).unwrap_or_else(|| PROGRAM.into())
}
